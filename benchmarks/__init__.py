"""Performance of the registry and of AMS, measured so that anyone can repeat it.

`python -m benchmarks` (`./dev bench`) starts the servers, hands the load to driver processes and
writes what came out. Method and results: docs/explanation/performance.md. Nothing of the services
imports this package.

    measures/   what is measured, a module each; its docstring says what a figure means
    driver/     the processes that make the load: standard library and pycurl only
    lab         one run's folder, identities, servers and drivers
"""

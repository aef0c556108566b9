"""A fleet of a hundred thousand sites, in arithmetic: what each unit of a registry would meet.

It sends nothing. What a unit can do is measured by `./dev bench` (`capacity`); what follows from
it for a fleet that no test can start is computed here. `python -m benchmarks.simulation --help`.
"""

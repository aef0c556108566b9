"""A random campaign of real faults over real processes; see `__main__` for how to run it."""

"""Value objects of the OCI specifications, parsed from bytes and names that may be hostile.

No I/O and no storage here: what a registry keeps is the services' business.
"""

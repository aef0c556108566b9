"""The whole thing on one machine: services as processes, driven by their command lines alone."""

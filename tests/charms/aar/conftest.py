"""The charm's modules, importable as they are in the packed charm."""

from support import charm_source

charm_source.use("aar")

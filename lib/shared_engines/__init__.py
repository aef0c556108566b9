"""The engines that several units of a charm share: a PostgreSQL database and an S3 bucket.

`values` is what their providers say, parsed, and the settings of a service that follow;
`relations` is how Juju brings it, and the one module of the two that knows Juju. Which unit is to
use them when is each charm's own business.
"""

from shared_engines.values import (
    DATABASE,
    OBJECT_STORAGE,
    Database,
    Engines,
    ObjectStorage,
    Store,
    Unusable,
    lacking,
    names_a_server,
)

__all__ = [
    "DATABASE",
    "OBJECT_STORAGE",
    "Database",
    "Engines",
    "ObjectStorage",
    "Store",
    "Unusable",
    "lacking",
    "names_a_server",
]

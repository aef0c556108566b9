"""The options that `amc config` shows and sets: one table, and their values.

The table drives parsing, defaults, REST and the reference page. `conf/main.yaml` (see
`ams.settings`) is something else: what a process must know before it can open its database. What
an option does is up to the part that reads it.

Three layers, the first that has a value wins: what an owner such as Juju manages, what was set by
hand, the default.
"""

from __future__ import annotations

from ams.options.managed import Applied, Managed
from ams.options.table import OPTIONS, Option
from ams.options.values import DEFAULT, MANUAL, Listener, Options

__all__ = [
    "DEFAULT",
    "MANUAL",
    "OPTIONS",
    "Applied",
    "Listener",
    "Managed",
    "Option",
    "Options",
]

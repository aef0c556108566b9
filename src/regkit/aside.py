"""Calls that take long without Python (fsync, hashing), beside the event loop.

Under gevent, where threads are greenlets, a long call would stop them all: it goes to a thread of
gevent's pool. Elsewhere it is a plain call. Not for what waits on sockets, which gevent knows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

Aside = Callable[[Callable[[], None]], Callable[[], object]]
"""Begins a call; returns what waits for its end, and raises what it raised."""


def aside(call: Callable[[], None]) -> Callable[[], object]:
    """Begin `call`; return what waits for its end. Without gevent it is over by then."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        call()
        return nothing
    import gevent  # noqa: PLC0415 - only where it is in use anyway

    return gevent.get_hub().threadpool.spawn(call).get


def nothing() -> None:
    """Wait for what is over, or was never begun."""

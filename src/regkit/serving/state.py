"""The two facts about the process that serves: it is patched for gevent, it is stopping."""

from __future__ import annotations

import threading

_stopping = threading.Event()


def patch() -> None:
    """Make the standard library cooperate with gevent. To be called before other imports."""
    from gevent import monkey  # noqa: PLC0415 - the command lines import this module cheaply

    monkey.patch_all()


def stopping() -> bool:
    """Return whether the server is ending; what waits long (a long-poll) should then answer."""
    return _stopping.is_set()


def announce_stop() -> None:
    """Make `stopping()` true in this worker."""
    _stopping.set()

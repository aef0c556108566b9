"""`aar serve` as the command line sees it: one call that returns when the server has stopped.

Nothing but gevent's patching may happen before the rest is imported, so that this module imports
next to nothing itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from regkit import serving


def run(home: Path, log_format: Literal["text", "json"] = "text") -> None:
    """Serve the registry in the state root `home`, in the foreground, until told to stop.

    Raises ServiceError, with one line for the operator, when it can't start.
    """
    serving.patch()
    from aar import server  # noqa: PLC0415 - only now

    server.run(home, log_format)

"""Where a service keeps its state.

The documented paths of a charmed unit or a snap (`/var/snap/<name>/common`) hold for root.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def state_root(
    name: str, environ: Mapping[str, str] | None = None, uid: int | None = None
) -> Path:
    """Say where `name` (`aar` or `ams`) keeps its state; nothing is created.

    In this order: `$AAR_HOME` or `$AMS_HOME`; `$SNAP_COMMON`; `/var/snap/<name>/common` for root;
    `$XDG_STATE_HOME/<name>` (XDG Base Directory Specification) for everyone else.
    """
    environ = os.environ if environ is None else environ
    uid = os.geteuid() if uid is None else uid
    if own := environ.get(f"{name.upper()}_HOME"):
        return Path(own).absolute()
    if snap := environ.get("SNAP_COMMON"):
        return Path(snap)
    if uid == 0:
        return Path("/var/snap") / name / "common"
    base = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "/")) / ".local" / "state"
    return Path(base) / name

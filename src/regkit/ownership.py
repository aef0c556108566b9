"""Whose a state root is, so that a command leaves nothing there that its service can't use.

Root is let in everywhere by the system, and what root creates belongs to root: one `sudo aar trust
list` before the first start, or a database's `-wal` file at the wrong moment, and the service
could not open its own database any more. So root acts as the owner.
"""

from __future__ import annotations

import os
import pwd
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regkit.errors import Forbidden

ROOT = 0


@contextmanager
def acting_as_owner(home: Path, what: str) -> Iterator[None]:
    """Be the user who owns the state root `home` within the context, if this is root.

    The effective user and group and the supplementary groups change, for the whole process; the
    real user stays root, and comes back at the end. A root that doesn't exist yet is the
    caller's. Raises Forbidden for any other user than root or the owner, before anything is
    touched: what they'd create or fail to read would only confuse. `what` says whose state it is.
    """
    owner = _owner(home, what)
    user = os.geteuid()
    if owner is None or user == owner.st_uid:
        yield
    elif user == ROOT:
        with _switched(owner):
            yield
    else:
        raise Forbidden(f"the {what}'s state in {home} is another user's: use sudo")


def require_owner(home: Path, what: str, command: str) -> None:
    """Raise Forbidden when the state root `home` is another user's, root or not.

    For servers: one that root starts should be the owner's from its first instruction, with no
    way back to root, and only whoever starts it can see to that. `command` is what starts it, in
    a shell.
    """
    owner = _owner(home, what)
    user = os.geteuid()
    if owner is None or user == owner.st_uid:
        return
    if user != ROOT:
        raise Forbidden(f"the {what}'s state in {home} is another user's: use sudo")
    name = _name(owner.st_uid)
    shell = name or shlex.quote(f"#{owner.st_uid}")
    raise Forbidden(
        f"the {what}'s state in {home} belongs to {name or owner.st_uid}, who could not use the "
        f'files that root makes there: start it with "sudo -u {shell} {command}", or with '
        f"User={name or owner.st_uid} in a systemd unit"
    )


def _owner(home: Path, what: str) -> os.stat_result | None:
    """Whose the state is: `data`'s owner, or the root's before there is data; None: nobody's."""
    found = None
    for path in (home, home / "data"):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        except PermissionError:
            raise Forbidden(f"the {what}'s state in {home} is another user's: use sudo") from None
    return found


@contextmanager
def _switched(owner: os.stat_result) -> Iterator[None]:
    """Be that user; root may, and may go back since the real user stays root."""
    before = os.getegid(), os.getgroups()
    home = os.environ.get("HOME")
    name = _name(owner.st_uid)
    group = pwd.getpwnam(name).pw_gid if name else owner.st_gid
    try:
        # The user last: nobody but root may change groups.
        if name:
            os.initgroups(name, group)
        else:
            os.setgroups([group])
        os.setegid(group)
        os.seteuid(owner.st_uid)
        # Root's own files are not this user's to read: libpq gives up over one in root's home.
        os.environ["HOME"] = pwd.getpwnam(name).pw_dir if name else "/"
        _require_readable(name or f"#{owner.st_uid}")
        yield
    finally:
        os.seteuid(ROOT)
        os.setegid(before[0])
        os.setgroups(before[1])
        if home is None:
            os.environ.pop("HOME", None)
        else:
            os.environ["HOME"] = home


def _require_readable(name: str) -> None:
    """Say what an import would only stumble over: most are made when they are needed."""
    for file in (os.__file__, __file__):
        if not os.access(file, os.R_OK, effective_ids=True):
            raise Forbidden(
                f"{name} owns the state, but may not read this program ({file}): install it "
                "where everyone can read it, such as /opt"
            )


def _name(user: int) -> str | None:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return None

"""Files and directories put in place in one step, whatever is there already.

charmhelpers' `write_file`, `mkdir` and `symlink` are not used: a crash leaves half a file behind
`write_file`, a link is replaced by `ln -sf` in two steps, and all three follow links. In a state
root, which belongs to the service, a link may point anywhere, and root would follow it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine_service.errors import MachineServiceError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
KEEP = -1
"""chown(2): leave the owner as it is."""


@contextmanager
def folder(
    path: str | Path,
    mode: int,
    owner: int = KEEP,
    group: int = KEEP,
    *,
    within: int | None = None,
) -> Iterator[int]:
    """Make a directory with this mode and owner, and yield a descriptor of it.

    `within` is the descriptor of a directory that somebody else can write to: `path` is a name in
    it, and no link. Otherwise missing parents are made too.
    """
    if within is None:
        Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode & 0o700, dir_fd=within)
    flags = _FOLDER if within is None else _FOLDER | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, dir_fd=within)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        raise MachineServiceError(
            f"{path} is in the way: a directory belongs there, so move it away"
        ) from None
    try:
        _own(descriptor, mode, owner, group)
        yield descriptor
    finally:
        os.close(descriptor)


def create_folder(path: Path, mode: int, owner: int, group: int) -> None:
    """Make a directory that isn't there, with its owner from the first; leave one that is."""
    if not path.exists():
        temporary = path.with_name(f".{path.name}.new")
        with folder(temporary, mode, owner, group):
            temporary.rename(path)


def read(name: str, within: int) -> bytes | None:
    """Return the content of a file in the directory `within`; None: there is none."""
    try:
        descriptor = os.open(name, os.O_RDONLY | _FILE, dir_fd=within)
    except OSError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return file.read()


def replace(
    name: str, content: bytes, mode: int, owner: int = KEEP, group: int = KEEP, *, within: int
) -> bool:
    """Make a file in the directory `within` hold this; return whether it held anything else.

    Whoever reads sees the old content or the new one, also after a power failure.
    """
    temporary = f".{name}.new"
    with contextlib.suppress(FileNotFoundError):  # left behind by a crash
        os.unlink(temporary, dir_fd=within)
    same = read(name, within) == content
    if same and not _differs(os.stat(name, dir_fd=within), mode, owner, group):
        return False
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE
    descriptor = os.open(temporary, flags, 0o600, dir_fd=within)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - the same
        _own(descriptor, mode, owner, group)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.rename(temporary, name, src_dir_fd=within, dst_dir_fd=within)
    os.fsync(within)
    return not same


def link(path: Path, target: str) -> bool:
    """Make `path` a link to `target`; return whether it was none. Replaces only links."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    if path.is_symlink() and str(path.readlink()) == target:
        return False
    if path.exists() and not path.is_symlink():
        raise MachineServiceError(f"{path} is in the way: move it away")
    temporary.symlink_to(target)
    temporary.replace(path)
    return True


def _own(descriptor: int, mode: int, owner: int, group: int) -> None:
    found = os.fstat(descriptor)
    if _differs(found, mode, owner, group):
        # The owner first: chown(2) may take bits of the mode away.
        os.fchown(descriptor, owner, group)
        os.fchmod(descriptor, mode)


def _differs(found: os.stat_result, mode: int, owner: int, group: int) -> bool:
    return (
        stat.S_IMODE(found.st_mode) != mode
        or owner not in (KEEP, found.st_uid)
        or group not in (KEEP, found.st_gid)
    )

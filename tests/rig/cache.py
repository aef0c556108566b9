"""Where the rig keeps what is expensive to make: outside of the repository, safe to delete."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

UNUSED_SECONDS = 14 * 24 * 3600


def directory() -> Path:
    """`$XDG_CACHE_HOME/anbox-registry-rig`, else below `~/.cache`; made when absent."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(home) / "anbox-registry-rig"
    path.mkdir(parents=True, exist_ok=True)
    return path


def key(*parts: str) -> str:
    """Twelve hex characters that change with any of the parts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def tree_key(root: Path, skip: Iterable[str]) -> str:
    """Hash of every file's path, mode and content below `root`, without the names in `skip`."""
    digest, skipped = hashlib.sha256(), set(skip)
    for folder, names, files in os.walk(root):
        names[:] = sorted(n for n in names if n not in skipped)
        for name in sorted(files):
            if name in skipped:
                continue
            path = Path(folder, name)
            mode = path.lstat().st_mode
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            line = f"{path.relative_to(root)}\0{mode & 0o111}\0{len(content)}\0"
            digest.update(line.encode() + content)
    return digest.hexdigest()[:12]


def prune() -> None:
    """Remove what was not used for two weeks."""
    oldest = time.time() - UNUSED_SECONDS
    for entry in directory().iterdir():
        if entry.is_dir() and entry.name != "packages" and entry.stat().st_mtime < oldest:
            shutil.rmtree(entry, ignore_errors=True)
            entry.with_name(entry.name + ".lock").unlink(missing_ok=True)


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path | None]:
    """Yield a scratch directory to fill, or None when `target` is there already.

    Several processes may ask at once: one builds, the others wait. The scratch directory becomes
    `target` in one step when the block succeeds and is removed when it fails; the scratch of a
    build that was killed is removed by the next one.
    """
    with target.with_name(target.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            os.utime(target)
            yield None
            return
        prune()
        scratch = target.with_name(target.name + ".part")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            yield scratch
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        scratch.rename(target)

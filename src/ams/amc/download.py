"""A file on its way from the service: whole under its name, or not there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from regkit.errors import ServiceError


def save(target: Path, chunks: Iterable[bytes], sha256: str) -> None:
    """Write `chunks` to `target`, replacing what is there, once they have the SHA-256, in hex.

    They go next to it first, so that nothing half-written ever bears its name, and nothing stays
    when they break off. An empty `sha256` is not compared. Raises ServiceError for another one.
    """
    digest = hashlib.sha256()
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
        if sha256 and digest.hexdigest() != sha256:
            raise ServiceError("the download was damaged on its way: try again")
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)

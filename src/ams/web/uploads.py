"""A request's body as a file without a name, checked against the fingerprint that came with it.

The file lies where the blobs do, so that its space is the one that was planned for, and it
vanishes with the process: an upload that was cut leaves nothing behind.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from flask import request

from ams.service import Service
from ams.web.access import watched
from regkit import serving
from regkit.errors import Invalid, NoSpace

FINGERPRINT = "X-AMS-Fingerprint"
FIELDS = "X-AMS-Request"


class Upload:
    """A complete body, at its beginning. Close it, or use it as a context manager."""

    def __init__(self, file: BinaryIO, size: int, sha256: str) -> None:
        self.file = file
        self.size = size
        self.sha256 = sha256

    def close(self) -> None:
        """Give the space back."""
        self.file.close()

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def folder(service: Service) -> Path:
    """Return where uploads lie: on the file system of the blobs."""
    path = service.settings.blob_root(service.home)
    path.mkdir(parents=True, exist_ok=True)
    return path


def receive(folder: Path) -> Upload:
    """Read the body of the current request into a file in `folder`.

    Raises Invalid when the fingerprint is malformed or doesn't match, NoSpace.
    """
    wanted = request.headers.get(FINGERPRINT, "").strip().lower()
    if wanted and not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise Invalid(f"{FINGERPRINT} must be the body's SHA-256: 64 hexadecimal digits")
    announced = request.content_length
    if announced is not None and announced > shutil.disk_usage(folder).free:
        raise NoSpace(f"no space for a package of {announced} bytes: free some disk space")
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the upload closes it
    try:
        digest, size = hashlib.sha256(), 0
        for chunk in watched(serving.read_body(request.environ)):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
        if not size:
            raise Invalid("the request has no body: send a package")
        if wanted and digest.hexdigest() != wanted:
            raise Invalid(
                f"the package's SHA-256 is {digest.hexdigest()}, not {wanted} as {FINGERPRINT} "
                "says: it was damaged on its way or changed meanwhile; send it again"
            )
        file.seek(0)
    except OSError as error:
        file.close()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace("no space left for the package: free some disk space") from None
        raise
    except BaseException:
        file.close()
        raise
    return Upload(file, size, digest.hexdigest())


def request_fields() -> dict[str, Any]:
    """Return the JSON object that came as a header beside a package; empty without one.

    Raises Invalid.
    """
    text = request.headers.get(FIELDS, "").strip()
    try:
        fields = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        raise Invalid(f"{FIELDS} is not JSON") from None
    if not isinstance(fields, dict):
        raise Invalid(f"{FIELDS} must be a JSON object")
    return fields

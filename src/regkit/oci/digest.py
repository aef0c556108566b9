"""Content digests as in the OCI image specification's `descriptor.md#digests`.

The only place where a digest is parsed. Comparing content with a digest while it is being
received is the blob store's business.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from regkit.errors import Invalid

LENGTHS = {"sha256": 64, "sha512": 128}
"""Registered algorithms (image-spec, descriptor.md#registered-algorithms) and their hex digits."""

_DIGEST = re.compile(r"(sha256|sha512):([0-9a-f]+)", re.ASCII)


@dataclass(frozen=True, order=True)
class Digest:
    """The digest of some content; `str()` is `<algorithm>:<hex>`."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @classmethod
    def parse(cls, text: object) -> Digest:
        """Read `sha256:<64 hex>` or `sha512:<128 hex>`, lower case. Raises Invalid."""
        match = _DIGEST.fullmatch(text) if isinstance(text, str) else None
        if match is None or len(match[2]) != LENGTHS[match[1]]:
            raise Invalid(
                f"{str(text)[:80]!r} is not a digest: write it like sha256:<64 hexadecimal "
                "digits, lower case> (sha256 and sha512 are supported)"
            )
        return cls(match[1], match[2])

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Digest:
        """Return the digest of `content`."""
        hasher = new_hasher(algorithm)
        hasher.update(content)
        return cls(algorithm, hasher.hexdigest())


def new_hasher(algorithm: str) -> Any:
    """Return a fresh `hashlib` object for one of the supported algorithms."""
    if algorithm not in LENGTHS:
        raise Invalid(f"the digest algorithm {algorithm[:20]!r} is not supported: use sha256")
    return hashlib.new(algorithm)

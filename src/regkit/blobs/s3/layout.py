"""What the objects of a blob store are called, below its prefix. Names only, no request.

    data/<token>-<name>                            content, under a name that is never used again
    blobs/sha256/ab/<hex>/<size>-<token>-<name>    empty: this blob is the content <token>-<name>
    uploads/<name>/<generation>                    a staged upload: who writes it, what it has
    uploads/<name>/<generation>.<n>                the bytes of it that make no part yet
    damaged/<algorithm>-<hex>/<size>-<token>-<name>   like in blobs/, for content taken away
    owner                                          whose store it is

`<name>` is what the content was staged as.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from regkit.errors import Invalid
from regkit.oci.digest import LENGTHS, Digest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_POINTER = re.compile(r"([0-9]{1,15})-([0-9a-f]{16}-[A-Za-z0-9][A-Za-z0-9._-]{0,127})", re.ASCII)
_GENERATION = re.compile(r"[0-9]{12}", re.ASCII)

BLOBS, DATA, UPLOADS, DAMAGED = "blobs/", "data/", "uploads/", "damaged/"
OWNER = "owner"


@dataclass(frozen=True)
class Pointer:
    """What the name of a pointer tells: the content's name and its size in bytes."""

    content: str
    size: int

    @property
    def data(self) -> str:
        """The name of the object with the content."""
        return DATA + self.content

    @property
    def staged_as(self) -> str:
        """The name that the content was staged as."""
        return staged_as(self.content)

    def __str__(self) -> str:
        return f"{self.size}-{self.content}"


def checked(name: str) -> str:
    """Return a name for staged content that may be used. Raises Invalid."""
    if not NAME.fullmatch(name):
        raise Invalid(f"{name[:80]!r} can't name staged content")
    return name


def new_content(name: str) -> str:
    """Make a name for content staged as `name` that nothing else ever had or will have."""
    return f"{secrets.token_hex(8)}-{name}"


def staged_as(content: str) -> str:
    """Return what content was staged as."""
    return content.partition("-")[2]


def pointers(digest: Digest) -> str:
    """Return what the names of a blob's pointers begin with."""
    return f"{BLOBS}{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/"


def pointer(name: str) -> Pointer | None:
    """Read the last part of a pointer's name; None when it is none."""
    match = _POINTER.fullmatch(name)
    return Pointer(match[2], int(match[1])) if match else None


def blob(name: str) -> tuple[Digest, Pointer] | None:
    """Read the whole name of a blob's pointer; None when it is none."""
    parts = name.removeprefix(BLOBS).split("/")
    if len(parts) != 4:
        return None
    algorithm, start, digits, last = parts
    found = pointer(last)
    length = LENGTHS.get(algorithm)
    if found is None or length is None or start != digits[:2]:
        return None
    if not re.fullmatch(rf"[0-9a-f]{{{length}}}", digits):
        return None
    return Digest(algorithm, digits), found


def damaged(digest: Digest, taken: Pointer) -> str:
    """Return where the pointer to damaged content goes."""
    return f"{DAMAGED}{digest.algorithm}-{digest.hex}/{taken}"


def upload(name: str) -> str:
    """Return what the names of a staged upload's objects begin with."""
    return f"{UPLOADS}{name}/"


def generation(name: str, number: int) -> str:
    """Return the name of one generation of a staged upload."""
    return f"{upload(name)}{number:012d}"


def tail(name: str, number: int, count: int) -> str:
    """Return the name of an object for bytes that make no part yet."""
    return f"{generation(name, number)}.{count}"


def generation_of(key: str) -> tuple[str, int] | None:
    """Read name and generation of a staged upload from an object's name; None for others."""
    name, _, last = key.removeprefix(UPLOADS).partition("/")
    if NAME.fullmatch(name) and _GENERATION.fullmatch(last):
        return name, int(last)
    return None

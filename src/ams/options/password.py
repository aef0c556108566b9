"""Hashing the trust password, so that nothing which is stored lets anyone in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

_SCRYPT = {"n": 2**14, "r": 8, "p": 1}
"""Cost of hashing: 16 MiB and some 50 ms (RFC 7914)."""


def hashed(password: str) -> str:
    """Return what to store: `scrypt$<salt>$<hash>`, salted anew at each call."""
    salt = os.urandom(16)
    encoded = (base64.b64encode(part).decode() for part in (salt, _scrypt(password, salt)))
    return "$".join(("scrypt", *encoded))


def matches(password: str, stored: str) -> bool:
    """Say whether `stored` was made from `password`; never, when it is empty."""
    if not stored:
        return False
    _, salt, wanted = stored.split("$")
    given = _scrypt(password, base64.b64decode(salt))
    return hmac.compare_digest(given, base64.b64decode(wanted))


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_SCRYPT)

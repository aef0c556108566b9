"""Names of repositories, tags and applications, and how an application becomes a repository.

The grammar of repositories and tags is that of the OCI distribution specification 1.1 ("Pulling
manifests"); that of applications is AMS's (`FACTS`: `^([A-Za-z0-9_\\-\\.]*)$`), here neither empty
nor dots alone, since a name may become a file's name.
"""

from __future__ import annotations

import base64
import binascii
import re

from regkit.errors import Invalid

MAX_APPLICATION = 255
MAX_REPOSITORY = 512
"""Room for every encoded application name (3 + 8/5 of 255); the specification sets no limit."""
ENCODED_PREFIX = "x--"
"""What the repository of an application begins with whose name is no OCI path component."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_COMPONENT_RE = re.compile(_COMPONENT, re.ASCII)
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_APPLICATION = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


def valid_repository(name: str) -> bool:
    """Whether `name` may name a repository."""
    return len(name) <= MAX_REPOSITORY and _REPOSITORY.fullmatch(name) is not None


def valid_tag(name: str) -> bool:
    """Whether `name` may be a tag."""
    return _TAG.fullmatch(name) is not None


def valid_application(name: str) -> bool:
    """Whether `name` may name an application."""
    return (
        len(name) <= MAX_APPLICATION
        and _APPLICATION.fullmatch(name) is not None
        and name.strip(".") != ""
    )


def repository_of(application: str) -> str:
    """Return the repository of an application: its name, or `x--` and its base32hex.

    One to one: a name which itself begins with `x--` is encoded as well. Raises Invalid for what
    is not an application's name.
    """
    if not valid_application(application):
        raise Invalid(
            f"{application[:80]!r} is not an application name: use at most {MAX_APPLICATION} "
            "letters, digits, '.', '_' and '-', and not only dots"
        )
    if _COMPONENT_RE.fullmatch(application) and not application.startswith(ENCODED_PREFIX):
        return application
    encoded = base64.b32hexencode(application.encode()).decode()
    return ENCODED_PREFIX + encoded.rstrip("=").lower()


def application_of(repository: str) -> str | None:
    """Return the application whose repository this is, or None when it can't be one's."""
    if not valid_repository(repository) or "/" in repository:
        return None
    name = repository
    if repository.startswith(ENCODED_PREFIX):
        encoded = repository[len(ENCODED_PREFIX) :].upper()
        try:
            name = base64.b32hexdecode(encoded + "=" * (-len(encoded) % 8)).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            return None
    if not valid_application(name) or repository_of(name) != repository:
        return None
    return name

"""The rules for applications and versions that need no database: pure functions.

Sources: the reference's documentation of `amc application` and of the configuration keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from ams.catalogue.records import (
    Application,
    ApplicationStatus,
    Summary,
    Version,
    VersionStatus,
)
from regkit.errors import Conflict, Forbidden, Invalid, NotFound


def version_status(*, published: bool) -> VersionStatus:
    """Return the status of a stored version."""
    return VersionStatus.ACTIVE if published else VersionStatus.CREATED


def require_local(name: str, origin: str) -> None:
    """Refuse a change to an application that the registry owns. Raises Forbidden."""
    if origin == "registry":
        raise Forbidden(
            f"application {name} is immutable: it was imported from the registry, which owns it; "
            "change it on the publisher, and it arrives here with the next update"
        )


def surplus(published: Iterable[int], keep: int, spare: int) -> list[int]:
    """Return which published versions to revoke so that `keep` remain: the oldest, never `spare`.

    `spare` is the one just published: publishing an old version must not revoke it at once.
    """
    numbers = sorted(published)
    return [n for n in numbers if n != spare][: max(0, len(numbers) - keep)]


def require_another_version(name: str, number: int, numbers: Iterable[int]) -> None:
    """Refuse to delete the only version. Raises Conflict."""
    if set(numbers) == {number}:
        raise Conflict(
            f"version {number} is the only one of application {name}, and at least one remains: "
            f"delete the application instead ('amc application delete {name}')"
        )


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise Invalid(f"filter: {text[:40]!r} is neither true nor false")
    return text.lower() == "true"


def _words(text: str) -> set[str]:
    return {word for part in text.split(",") if (word := part.strip())}


def _status(text: str) -> ApplicationStatus:
    for status in ApplicationStatus:
        if text.lower() in (str(status), str(int(status))):
            return status
    raise Invalid(
        f"filter: {text[:40]!r} is not a status: use one of "
        f"{', '.join(str(status) for status in ApplicationStatus)}"
    )


Listed = Application | Summary
Test = Callable[[Listed], bool]


def _same(read: Callable[[str], Any], attribute: str) -> Callable[[str], Test]:
    """Make a filter by an attribute that has one value."""

    def make(text: str) -> Test:
        wanted = read(text)
        return lambda app: getattr(app, attribute) == wanted

    return make


def _among(attribute: str) -> Callable[[str], Test]:
    """Make a filter by an attribute that has one of several values."""

    def make(text: str) -> Test:
        wanted = _words(text) or {""}
        return lambda app: getattr(app, attribute) in wanted

    return make


def _all_of(attribute: str) -> Callable[[str], Test]:
    """Make a filter by an attribute that is a list: all words must be in it."""

    def make(text: str) -> Test:
        wanted = _words(text)
        return lambda app: wanted <= set(getattr(app, attribute))

    return make


def _by_name(text: str) -> Test:
    # Names have neither '*' nor '?', so that a whole name is a pattern of itself.
    return lambda app: fnmatchcase(app.name, text)


FILTERS: Mapping[str, Callable[[str], Test]] = {
    "id": _same(str, "id"),
    "name": _by_name,
    "instance-type": _among("instance_type"),
    "boot-package": _same(str, "boot_package"),
    "abi": _same(str, "abi"),
    "addons": _all_of("addons"),
    "tags": _all_of("tags"),
    "tag": _all_of("tags"),  # the reference's old name
    "published": _same(_flag, "published"),
    "immutable": _same(_flag, "immutable"),
    "inhibit-auto-updates": _same(_flag, "inhibits_updates"),
    "status": _same(_status, "status"),
    "vm": _same(_flag, "vm"),
}
"""What applications can be filtered by; tags and addons must all be there.

They are those of the public SDK's `GetApplicationFilters`, and `vm` and `tag` of the reference's
command line. A name may hold `*` and `?`, an instance type be one of several.
"""

DESCRIBED = frozenset({"instance-type", "boot-package", "addons", "tags", "tag"})
"""Filters that look into the manifest."""


def matcher(filters: Mapping[str, str]) -> Test:
    """Return whether an application passes all `filters`. Raises Invalid for one unknown."""
    tests = []
    for name, text in filters.items():
        make = FILTERS.get(name)
        if make is None:
            raise Invalid(f"{name[:40]!r} is not a filter: use one of {', '.join(FILTERS)}")
        tests.append(make(text))
    return lambda app: all(test(app) for test in tests)


def find_version(application: Application, number: int) -> Version:
    """Return the version `number`. Raises NotFound that lists those there are."""
    if version := application.version(number):
        return version
    there = ", ".join(str(v.number) for v in application.versions)
    raise NotFound(f"application {application.name} has no version {number}: it has {there}")

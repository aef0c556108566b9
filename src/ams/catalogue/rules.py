"""The rules for applications and versions that need no database: pure functions.

Sources: the reference's documentation of `amc application` and of the configuration keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ams.catalogue.records import Application, ApplicationStatus, Version, VersionStatus
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


def _by_name(text: str) -> Callable[[Application], bool]:
    return lambda app: app.name == text


def _by_instance_type(text: str) -> Callable[[Application], bool]:
    return lambda app: app.instance_type == text


def _by_tags(text: str) -> Callable[[Application], bool]:
    wanted = _words(text)
    return lambda app: wanted <= set(app.tags)


def _by_addons(text: str) -> Callable[[Application], bool]:
    wanted = _words(text)
    return lambda app: wanted <= set(app.addons)


def _by_published(text: str) -> Callable[[Application], bool]:
    wanted = _flag(text)
    return lambda app: app.published is wanted


def _by_immutable(text: str) -> Callable[[Application], bool]:
    wanted = _flag(text)
    return lambda app: app.immutable is wanted


def _by_vm(text: str) -> Callable[[Application], bool]:
    wanted = _flag(text)
    return lambda app: app.vm is wanted


def _by_status(text: str) -> Callable[[Application], bool]:
    wanted = _status(text)
    return lambda app: app.status is wanted


FILTERS: Mapping[str, Callable[[str], Callable[[Application], bool]]] = {
    "name": _by_name,
    "instance-type": _by_instance_type,
    "addons": _by_addons,
    "tags": _by_tags,
    "published": _by_published,
    "immutable": _by_immutable,
    "status": _by_status,
    "vm": _by_vm,
}
"""What applications can be filtered by; tags and addons must all be there."""


def matcher(filters: Mapping[str, str]) -> Callable[[Application], bool]:
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

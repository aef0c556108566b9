"""`amc wait`: until an application, or one of its versions, is as somebody needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from ams.amc.common import application_argument, duration_option, service
from regkit import durations
from regkit.errors import NotFound, ServiceError

if TYPE_CHECKING:
    from ams.client import Application, Client

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two looks: short at first, since most waits end soon."""

DELETED = "deleted"

_APPLICATION: dict[str, Callable[[Application], Any]] = {
    "addons": lambda item: item.addons,
    "immutable": lambda item: item.immutable,
    "instance-type": lambda item: item.instance_type,
    "published": lambda item: item.published,
    "status": lambda item: item.status,
    "tags": lambda item: item.tags,
}
_VERSION = ("published", "status")

Conditions = Mapping[str, Sequence[str]]
"""Wanted values by attribute: any of them will do, but every attribute must fit."""


class TimedOut(ServiceError):  # noqa: N818 - the name states the outcome
    """The condition didn't come true in time."""


@click.command("wait")
@application_argument
@click.option(
    "-c",
    "--condition",
    "conditions",
    multiple=True,
    required=True,
    metavar="<attribute>=<value>",
    help="What to wait for; repeatable. Attributes: "
    f"{', '.join(_APPLICATION)}; of a version: {', '.join(_VERSION)}.",
)
@click.option(
    "-s",
    "--selector",
    metavar="version=<number>",
    help="Look at this version instead of the whole application.",
)
@duration_option("-t", "--timeout", default="5m", text="How long to wait at most")
def command(
    application: str, conditions: tuple[str, ...], selector: str | None, timeout: timedelta
) -> None:
    """Wait for an application, or one of its versions, to reach a condition.

    Of several conditions on one attribute any will do; conditions on different attributes must
    all be true. A comma-separated list is reached when the application has all of it.

    \b
    Example:
      amc wait my-app -c status=ready -c status=error
      amc wait my-app -c published=true -s version=1 --timeout 30m
      amc application wait my-app -c tags=beta
    """
    number = _selected(selector)
    wanted = _parse(conditions, _APPLICATION if number is None else _VERSION)
    with service() as client:
        _wait(client, application, number, wanted, timeout)


def _selected(selector: str | None) -> int | None:
    if selector is None:
        return None
    name, _, value = selector.partition("=")
    if name != "version" or not (value.isascii() and value.isdigit()):
        raise click.UsageError(f"{selector!r} is not a selector: write version=<number>")
    return int(value)


def _parse(texts: Sequence[str], attributes: Mapping[str, Any] | Sequence[str]) -> Conditions:
    wanted: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = {"tag": "tags"}.get(name, name.replace("_", "-"))
        if not equals or name not in attributes:
            raise click.UsageError(
                f"{text!r} is not a condition: write <attribute>=<value> with one of "
                f"{', '.join(attributes)}"
            )
        if name in ("published", "immutable") and value.lower() not in ("true", "false"):
            raise click.UsageError(f"{text!r} is not a condition: {name} is true or false")
        wanted.setdefault(name, []).append(value)
    return wanted


def _wait(
    client: Client, name: str, number: int | None, wanted: Conditions, timeout: timedelta
) -> None:
    deadline = time.monotonic() + timeout.total_seconds()
    pause, seen = FIRST_PAUSE, ""
    while True:
        try:
            # By its id from the second look on: another application may get the name.
            item = client.application(seen or name)
        except NotFound:
            if seen and DELETED in wanted.get("status", ()):
                return
            raise
        seen = item.id
        found = _look(item, number, wanted)
        if found and all(_fits(found[key], values) for key, values in wanted.items()):
            return
        left = deadline - time.monotonic()
        if left <= 0:
            state = ", ".join(f"{key}={_text(value)}" for key, value in found.items())
            raise TimedOut(
                f"{item.name} did not get there within {durations.render(timeout)} (now: "
                f"{state or 'no such version'}): look with 'amc application show', or wait "
                "longer with --timeout"
            )
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _look(item: Application, number: int | None, wanted: Conditions) -> dict[str, Any]:
    """Return the attributes that the conditions name; none of a version still to come.

    Raises NotFound for a version that can't come any more, since numbers only grow.
    """
    if number is None:
        return {key: _APPLICATION[key](item) for key in wanted}
    numbers = [version.get("number", -1) for version in item.versions]
    if number in numbers:
        version = item.versions[numbers.index(number)]
        return {key: version.get(key) for key in wanted}
    if number > max(numbers, default=-1):
        return {}
    if DELETED in wanted.get("status", ()):
        return {key: DELETED if key == "status" else False for key in wanted}
    raise NotFound(
        f"application {item.name!r} has no version {number}: see 'amc application show'"
    )


def _fits(value: Any, wanted: Sequence[str]) -> bool:
    if isinstance(value, tuple):
        return any({part.strip() for part in text.split(",")} <= set(value) for text in wanted)
    return any(_text(value).lower() == text.lower() for text in wanted)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)

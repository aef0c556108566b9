"""`amc application set|unset`: single fields of an application, as the REST API names them.

Whether a value is right is for the service to say; here a text only gets its type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import click

from ams.amc.common import application_argument, finish, no_wait_option, service, timeout_option


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return text.lower() == "true"


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("is not a number")
    return int(text)


FIELDS: dict[str, tuple[tuple[str, ...], Callable[[str], Any]]] = {
    "image": (("image",), str),
    "instance-type": (("instance-type",), str),
    "addons": (("addons",), _list),
    "tags": (("tags",), _list),
    "inhibit-auto-updates": (("inhibit_auto_updates",), _flag),
    "resources.cpus": (("resources", "cpus"), _number),
    "resources.memory": (("resources", "memory"), str),
    "resources.disk-size": (("resources", "disk-size"), str),
    "resources.gpu-slots": (("resources", "gpu-slots"), _number),
    "resources.vpu-slots": (("resources", "vpu-slots"), _number),
    "boot-activity": (("boot_activity",), str),
    "required-permissions": (("required_permissions",), _list),
    "video-encoder": (("video_encoder",), str),
    "features": (("features",), _list),
    "hooks.timeout": (("hooks", "timeout"), str),
    "bootstrap.keep": (("bootstrap", "keep"), _list),
    "node-selector": (("node_selector",), _list),
    "watchdog.disabled": (("watchdog", "disabled"), _flag),
    "watchdog.allowed-packages": (("watchdog", "allowed-packages"), _list),
}
"""The reference's names, the way to each in the body of PATCH, and what its text becomes
(`ApplicationPatch` in github.com/canonical/ams-sdk, `api/ams/application.go`)."""

EMPTY: dict[str, Any] = {
    name: {_list: [], str: "", _number: -1 if name.endswith("-slots") else 0}[parse]
    for name, (_, parse) in FIELDS.items()
    if parse is not _flag
} | {"hooks.timeout": None}
"""What stands for no value at all, of the fields that can be without one; None: leave it out."""


class _Field(click.Choice[str]):
    """Names of fields, with `_` for `-` as the manifest of some writes them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if isinstance(value, str):
            value = value.replace("_", "-")
        return super().convert(value, param, ctx)


@click.command("set", epilog=f"Fields: {', '.join(FIELDS)}.")
@application_argument
@click.argument("field", metavar="<field>", type=_Field(list(FIELDS)))
@click.argument("value", metavar="<value>")
@timeout_option
@no_wait_option
def set_field(application: str, field: str, value: str, timeout: timedelta, no_wait: bool) -> None:
    """Change a field of an application, without a new package.

    Lists are separated by commas.

    \b
    Example:
      amc application set my-app instance-type a4.3
      amc application set my-app tags game,beta
    """
    way, parse = FIELDS[field]
    try:
        parsed = parse(value.strip())
    except ValueError as error:
        raise click.UsageError(f"{field}: {value[:80]!r} {error}") from None
    _change(application, way, parsed, timeout, no_wait=no_wait)


@click.command("unset", epilog=f"Fields: {', '.join(EMPTY)}.")
@application_argument
@click.argument("field", metavar="<field>", type=_Field(list(EMPTY)))
@timeout_option
@no_wait_option
def unset_field(application: str, field: str, timeout: timedelta, no_wait: bool) -> None:
    """Empty a field of an application, so that what holds without it holds again.

    What is true or false gets a new value with 'amc application set' instead.

    \b
    Example:
      amc application unset my-app tags
    """
    _change(application, FIELDS[field][0], EMPTY[field], timeout, no_wait=no_wait)


def _change(
    application: str, way: tuple[str, ...], value: Any, timeout: timedelta, *, no_wait: bool
) -> None:
    with service() as client:
        item = client.application(application)
        fields: dict[str, Any] = {} if value is None else {way[-1]: value}
        if way[0] == "watchdog":
            # The reference's type has no absent fields in there: it is sent whole.
            newest: Mapping[str, Any] = item.versions[-1] if item.versions else {}
            fields = {**(newest.get("watchdog") or {}), **fields}
        body = {way[0]: fields} if len(way) > 1 else fields
        finish(client, client.change_application(item.id, body), timeout, no_wait=no_wait)

"""`amc application list` and `amc application show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ams.amc.common import application_argument, service
from regkit.cli import format_option, print_document

if TYPE_CHECKING:
    from ams.client import Application

COLUMNS = [
    ("ID", "id"),
    ("NAME", "name"),
    ("INSTANCE TYPE", "instance_type"),
    ("ADDONS", "addons"),
    ("TAGS", "tags"),
    ("PUBLISHED", "published"),
    ("STATUS", "status"),
    ("LAST UPDATED", "last_updated"),
]
FILTERS = (
    "abi",
    "addons",
    "boot-package",
    "id",
    "immutable",
    "inhibit-auto-updates",
    "instance-type",
    "name",
    "published",
    "status",
    "tags",
    "vm",
)


@click.command("list")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="<name>=<value>",
    shell_complete=lambda _ctx, _parameter, incomplete: [
        f"{name}=" for name in FILTERS if name.startswith(incomplete)
    ],
    help=f"Show only what fits; repeatable. Names: {', '.join(FILTERS)}.",
)
@format_option("table", "json", "yaml", "csv")
def list_applications(filters: tuple[str, ...], output_format: str) -> None:
    """List the applications.

    \b
    Example:
      amc application list
      amc application list --filter published=true --filter tags=game --format json
    """
    from regkit.tables import show as show_rows  # noqa: PLC0415

    conditions = _conditions(filters)
    with service() as client:
        found = client.applications(conditions)
    rows = [
        {
            **item.document,
            "last_updated": f"{item.updated:%Y-%m-%d %H:%M} UTC",
        }
        for item in found
    ]
    if output_format in ("json", "yaml"):
        rows = [dict(item.document) for item in found]
    show_rows(rows, COLUMNS, output_format)


def _conditions(filters: tuple[str, ...]) -> dict[str, str]:
    """Turn `name=value` into query parameters, whose names are written with underscores."""
    conditions: dict[str, str] = {}
    for text in filters:
        name, equals, value = text.partition("=")
        name = {"tag": "tags"}.get(name, name.replace("_", "-"))  # the reference's old name
        if not equals or name not in FILTERS:
            raise click.UsageError(
                f"{text!r} is not a filter: write <name>=<value> with one of {', '.join(FILTERS)}"
            )
        key = name.replace("-", "_")
        if key in conditions:
            raise click.UsageError(f"the filter {name!r} is given twice")
        conditions[key] = value
    return conditions


@click.command()
@application_argument
@format_option("yaml", "json", default="yaml")
def show(application: str, output_format: str) -> None:
    """Show an application with all its versions.

    \b
    Example:
      amc application show my-app
    """
    with service() as client:
        document = _describe(client.application(application))
    print_document(document, output_format)


def _describe(item: Application) -> dict[str, Any]:
    """Arrange an application under the keys of the reference's `show`."""
    document = item.document
    return {
        "id": item.id,
        "name": item.name,
        "status": item.status,
        "published": item.published,
        "immutable": item.immutable,
        "vm": document.get("vm", False),
        "inhibit-auto-updates": document.get("inhibit_auto_updates", False),
        "parent-image": document.get("parent_image_id", ""),
        "parent-image-variant": document.get("parent_image_variant", ""),
        "tags": list(item.tags),
        "config": {
            "instance-type": item.instance_type,
            "boot-package": document.get("boot_package", ""),
        },
        "versions": {version["number"]: _describe_version(version) for version in item.versions},
        "resources": document.get("resources", {}),
    }


def _describe_version(version: Any) -> dict[str, Any]:
    described = {
        "image": version.get("parent_image_id", ""),
        "manifest-version": version.get("manifest_version", ""),
        "published": version.get("published", False),
        "status": version.get("status", ""),
        "extra-data": version.get("extra_data") or {},
        "architecture": version.get("architecture", ""),
        "digest": version.get("digest", ""),
        "size": version.get("size", 0),
    }
    optional = {
        "addons": [addon.get("name", "") for addon in version.get("addons") or ()],
        "boot-activity": version.get("boot_activity"),
        "required-permissions": version.get("required_permissions"),
        "video-encoder": version.get("video_encoder"),
        "services": version.get("services"),
        "features": version.get("features"),
        "hooks": version.get("hooks"),
        "bootstrap": version.get("bootstrap"),
        "error": version.get("error_message"),
    }
    described.update({key: value for key, value in optional.items() if value})
    described["watchdog"] = version.get("watchdog") or {}
    return described

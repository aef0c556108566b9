"""`aar application list|show|delete`: what the registry holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aar.cli.common import Group, opened
from regkit import cli as shared
from regkit.errors import NotFound

if TYPE_CHECKING:
    from aar.applications import Version
    from aar.registry import Registry

COLUMNS = [
    ("NAME", "name"),
    ("VERSION", "version"),
    ("ARCHITECTURES", "architectures"),
    ("TAGS", "tags"),
    ("SIZE", "size"),
    ("LAST UPDATED", "last_updated"),
]


@click.group("application", cls=Group, no_args_is_help=False)
def command() -> None:
    """Manage the applications that the registry holds.

    \b
    Example:
      sudo aar application list
    """


@command.command("list")
@shared.format_option("table", "csv", "json", "yaml")
def list_applications(output_format: str) -> None:
    """List the applications, with a row for each version.

    \b
    Example:
      sudo aar application list --format json
    """
    from regkit.tables import show  # noqa: PLC0415

    with opened() as registry:
        found = registry.applications.list()
    rows: list[dict[str, Any]] = []
    for item in found:
        for number in sorted({version.key.number for version in item.versions}):
            versions = [version for version in item.versions if version.key.number == number]
            latest = max(version.published_at for version in versions)
            rows.append(
                {
                    "name": item.name,
                    "version": number,
                    "architectures": [version.key.architecture for version in versions],
                    "tags": sorted({tag for version in versions for tag in version.tags}),
                    "size": sum(version.size for version in versions),
                    "last_updated": latest.isoformat(timespec="seconds"),
                }
            )
    show(rows, COLUMNS, output_format)


@command.command("show")
@click.argument("name", metavar="<name>")
@shared.format_option("yaml", "json", default="yaml")
def show_application(name: str, output_format: str) -> None:
    """Show an application with all its versions.

    \b
    Example:
      sudo aar application show my-app
    """
    with opened() as registry:
        item = registry.applications.get(name)
    versions = [
        {
            "version": version.key.number,
            "architecture": version.key.architecture,
            "digest": str(version.digest),
            "size": version.size,
            "tags": list(version.tags),
            "published-at": version.published_at.isoformat(timespec="seconds"),
            "published-by": version.published_by,
        }
        for version in item.versions
    ]
    shared.print_document({"name": item.name, "versions": versions}, output_format)


@command.command()
@click.argument("name", metavar="<name>")
@click.argument("number", metavar="[<version>", required=False, type=click.IntRange(min=0))
@click.argument("architecture", metavar="[<architecture>]]", required=False)
@shared.yes_option
def delete(name: str, number: int | None, architecture: str | None, yes: bool) -> None:
    """Delete an application, one version of it, or one architecture of that version.

    Every client that imported it removes it at its next update.

    \b
    Example:
      sudo aar application delete my-app
      sudo aar application delete my-app 3 arm64 --yes
    """
    with opened() as registry:
        versions = _matching(registry, name, number, architecture)
        if not yes:
            click.echo("The following application versions will be REMOVED:")
            for version in versions:
                click.echo(f"  {name} {version.key.number} {version.key.architecture}")
            shared.confirm(default=False)
        removed = registry.applications.remove(name, number, architecture, actor=None)
    for version in removed:
        click.echo(f"Removed {name} {version.key.number} {version.key.architecture}")


def _matching(
    registry: Registry, name: str, number: int | None, architecture: str | None
) -> list[Version]:
    """Return what a deletion would remove, so that nothing is asked about what isn't there."""
    versions = [
        version
        for version in registry.applications.get(name).versions
        if number in (None, version.key.number)
        and architecture in (None, version.key.architecture)
    ]
    if not versions:
        what = " ".join(str(part) for part in (number, architecture) if part is not None)
        raise NotFound(f"the registry has no version {what} of application {name[:80]!r}")
    return versions

"""`aar quarantine`: withdraws what a publisher pushed whose key was stolen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aar.cli.common import opened
from regkit import cli as shared

if TYPE_CHECKING:
    from aar.registry import Registry

COLUMNS = [
    ("NAME", "name"),
    ("VERSION", "version"),
    ("ARCHITECTURE", "architecture"),
    ("PUBLISHED BY", "published-by"),
    ("SINCE", "since"),
]


@click.command("quarantine", short_help="Withdraw what a publisher pushed")
@click.option(
    "--by",
    metavar="<fingerprint>",
    help="The publisher's certificate: 8 digits or more; it may have been removed.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be withdrawn.")
@click.option("--release", is_flag=True, help="Let it be pushed again instead.")
@click.option("--list", "listed", is_flag=True, help="List what is in quarantine instead.")
@shared.yes_option
@shared.format_option("table", "csv", "json", "yaml")
def command(
    *, by: str | None, dry_run: bool, release: bool, listed: bool, yes: bool, output_format: str
) -> None:
    """Withdraw every version that one publisher pushed, and keep it from coming back.

    For a publisher whose key was stolen. Each version is removed as if it had been deleted: every
    client that imported it removes it at its next update. Nobody can push these versions again, so
    that a site doesn't bring them back by itself, until they are released.

    Trust is another matter: 'aar trust revoke' keeps the stolen key out. Do that first.

    With --release the versions may be pushed again: the site that has them does so with 'amc
    registry push <application>'. The registry itself keeps no copy; 'aar backup' makes one.

    \b
    Example:
      sudo aar quarantine --by 3a1f09c2b7d4 --dry-run
      sudo aar quarantine --by 3a1f09c2b7d4
      sudo aar quarantine --list
    """
    if listed and (by or dry_run or release):
        raise click.UsageError("--list goes alone")
    if not listed and not by:
        raise click.UsageError("--by is missing: whose versions?")
    if release and dry_run:
        raise click.UsageError("--dry-run is for withdrawing: '--list' shows what can be released")
    with opened() as registry:
        if listed:
            _list(registry, output_format)
        elif release:
            _release(registry, by or "")
        else:
            _withdraw(registry, by or "", dry_run=dry_run, yes=yes)


def _withdraw(registry: Registry, by: str, *, dry_run: bool, yes: bool) -> None:
    publisher, versions = registry.applications.quarantine(by, dry_run=True)
    trusted = any(str(entry.fingerprint) == publisher for entry in registry.trust.list())
    if trusted:
        click.echo(f"{publisher[:12]} is still trusted: 'aar trust revoke' stops that.", err=True)
    if dry_run or not yes:
        click.echo("The following application versions will be WITHDRAWN:")
        for version in versions:
            click.echo(f"  {version.key.name} {version.key.number} {version.key.architecture}")
    if dry_run:
        return
    if not yes:
        shared.confirm(default=False)
    publisher, versions = registry.applications.quarantine(publisher)
    for version in versions:
        click.echo(f"Withdrew {version.key.name} {version.key.number} {version.key.architecture}")
    click.echo(f"{len(versions)} versions of {publisher} withdrawn")


def _release(registry: Registry, by: str) -> None:
    publisher, released = registry.applications.release(by)
    for held in released:
        click.echo(f"Released {held.key.name} {held.key.number} {held.key.architecture}")
    click.echo(f"{len(released)} versions of {publisher} may be pushed again")


def _list(registry: Registry, output_format: str) -> None:
    from regkit.tables import show  # noqa: PLC0415

    rows: list[dict[str, Any]] = [
        {
            "name": held.key.name,
            "version": held.key.number,
            "architecture": held.key.architecture,
            "published-by": held.published_by[: 12 if output_format == "table" else None],
            "since": held.at.isoformat(timespec="seconds"),
            "digest": str(held.digest),
        }
        for held in registry.applications.in_quarantine()
    ]
    show(rows, COLUMNS, output_format)

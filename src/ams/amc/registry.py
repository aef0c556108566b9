"""`amc registry …`: see and drive the synchronisation with the registry."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from ams.amc import progress
from ams.amc.common import (
    DeletingGroup,
    application_argument,
    finish,
    no_wait_option,
    service,
    timeout_option,
)
from regkit.cli import confirm, format_option, print_document, yes_option
from regkit.errors import NotFound, ServiceError

COLUMNS = [
    ("NAME", "name"),
    ("INSTANCE TYPE", "instance_type"),
    ("TAGS", "tags"),
    ("ARCHITECTURES", "architectures"),
    ("VERSIONS", "numbers"),
]


report_option = format_option("text", "json", "yaml", default="text")


@click.group("registry", cls=DeletingGroup)
def command() -> None:
    """Synchronise with an application registry.

    \b
    Example:
      amc registry status
      amc registry sync --dry-run
    """


@command.command()
@format_option("yaml", "json", default="yaml")
def status(output_format: str) -> None:
    """Show how the synchronisation with the registry stands.

    \b
    Example:
      amc registry status
    """
    with service() as client:
        print_document(client.registry_status(), output_format)


@command.command("list")
@format_option("table", "json", "yaml", "csv")
def list_applications(output_format: str) -> None:
    """List the applications that the registry holds.

    \b
    Example:
      amc registry list
    """
    from regkit.tables import show  # noqa: PLC0415

    with service() as client:
        rows: list[dict[str, Any]] = client.registry_applications()
    if output_format in ("table", "csv"):
        rows = [{**row, "numbers": list(row.get("versions") or ())} for row in rows]
    show(rows, COLUMNS, output_format)


@command.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--allow-deletions",
    is_flag=True,
    help="Carry out deletions that are held back, after the registry was restored or emptied.",
)
@timeout_option
@no_wait_option
@report_option
def sync(
    dry_run: bool,
    allow_deletions: bool,
    timeout: timedelta,
    no_wait: bool,
    output_format: str,
) -> None:
    """Synchronise with the registry now.

    \b
    Example:
      amc registry sync
      amc registry sync --dry-run
    """
    with service() as client, progress.operation("Synchronising") as watcher:
        operation = client.registry_sync(dry_run=dry_run, allow_deletions=allow_deletions)
        operation = finish(client, operation, timeout, no_wait=no_wait, watcher=watcher)
    if not no_wait:
        _print_report(operation.metadata, output_format, dry_run=dry_run)


@command.command()
@application_argument
@timeout_option
@no_wait_option
@report_option
def push(application: str, timeout: timedelta, no_wait: bool, output_format: str) -> None:
    """Push the published versions of an application to the registry.

    \b
    Example:
      amc registry push my-app
    """
    with service() as client, progress.operation(f"Pushing {application}") as watcher:
        operation = client.registry_push(application)
        operation = finish(client, operation, timeout, no_wait=no_wait, watcher=watcher)
    if not no_wait:
        _print_report(operation.metadata, output_format)


@command.command()
@click.argument("application", metavar="<name>")
@timeout_option
@no_wait_option
@report_option
def pull(application: str, timeout: timedelta, no_wait: bool, output_format: str) -> None:
    """Pull the versions of an application from the registry.

    \b
    Example:
      amc registry pull my-app
    """
    with service() as client, progress.operation(f"Pulling {application}") as watcher:
        operation = client.registry_pull(application)
        operation = finish(client, operation, timeout, no_wait=no_wait, watcher=watcher)
    if not no_wait:
        _print_report(operation.metadata, output_format)


@command.command()
@click.argument("application", metavar="<name>")
@timeout_option
@no_wait_option
@yes_option
def delete(application: str, timeout: timedelta, no_wait: bool, yes: bool) -> None:
    """Delete an application from the registry, and so from every site that pulls it.

    \b
    Example:
      amc registry delete my-app
    """
    with service() as client:
        if all(row.get("name") != application for row in client.registry_applications()):
            raise NotFound(
                f"the registry holds no application {application!r}: see 'amc registry list'"
            )
        if not yes:
            click.echo("The following application will be REMOVED:")
            click.echo(f"  - {application}")
            confirm()
        operation = client.registry_delete(application)
        finish(client, operation, timeout, no_wait=no_wait)


def _print_report(report: Any, output_format: str, *, dry_run: bool = False) -> None:
    """Say what was done, or would be. Of plain lines, those for the operator go to stderr."""
    if output_format == "text":
        _print_lines(report, dry_run)
    else:
        print_document({key: report[key] for key in report if key != "progress"}, output_format)
    if failed := report.get("failed"):
        raise ServiceError(
            f"{len(failed)} of {len(report.get('planned') or failed)} steps failed; they are "
            "tried again later, see 'amc registry status'"
        )


def _print_lines(report: Any, dry_run: bool) -> None:
    for line in report.get("planned" if dry_run else "done") or ():
        click.echo(line)
    for key in ("failed", "held", "conflicts", "notes"):
        for line in report.get(key) or ():
            click.echo(f"{key}: {line}", err=True)
    if not dry_run and report.get("bytes"):
        click.echo(f"{report['bytes']} bytes transferred")
    if not any(report.get(key) for key in ("planned", "done", "failed", "held", "conflicts")):
        click.echo("Nothing to do")

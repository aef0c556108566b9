"""`amc operation …`: work that goes on in the service, such as what `--no-wait` left running."""

from __future__ import annotations

from datetime import timedelta

import click

from ams.amc import progress
from ams.amc.common import Group, finish, readable, service, timeout_option
from regkit.cli import format_option, print_document
from regkit.errors import ServiceError

COLUMNS = [
    ("ID", "id"),
    ("DESCRIPTION", "description"),
    ("STATUS", "status"),
    ("CANCELABLE", "may_cancel"),
    ("CREATED", "created_at"),
    ("LAST UPDATED", "updated_at"),
]


def complete_operation(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Complete ids of operations; nothing when the service can't be asked."""
    try:
        with service(ctx) as client:
            found = client.operations()
    except ServiceError:
        return []
    return [item.id for item in found if item.id.startswith(incomplete)]


operation_argument = click.argument(
    "operation_id", metavar="<id>", shell_complete=complete_operation
)


@click.group("operation", cls=Group)
def command() -> None:
    """See, wait for and cancel work that goes on in the service.

    The service remembers an operation for a day after its end.

    \b
    Example:
      amc operation list
      amc operation wait 2f6c0b1e-5a0e-4e0e-9b64-0d5c3a2f8a11
    """


@command.command("list")
@format_option("table", "json", "yaml", "csv")
def list_operations(output_format: str) -> None:
    """List the operations that the service remembers, the newest first.

    \b
    Example:
      amc operation list
    """
    from regkit.tables import show as show_rows  # noqa: PLC0415

    with service() as client:
        rows = [dict(item.document) for item in client.operations()]
    if output_format == "table":
        rows = [
            {**row, **{key: readable(str(row.get(key))) for key in ("created_at", "updated_at")}}
            for row in rows
        ]
    show_rows(rows, COLUMNS, output_format)


@command.command()
@operation_argument
@format_option("yaml", "json", default="yaml")
def show(operation_id: str, output_format: str) -> None:
    """Show an operation as it stands.

    \b
    Example:
      amc operation show 2f6c0b1e-5a0e-4e0e-9b64-0d5c3a2f8a11
    """
    with service() as client:
        print_document(dict(client.operation(operation_id).document), output_format)


@command.command()
@operation_argument
@timeout_option
def wait(operation_id: str, timeout: timedelta) -> None:
    """Wait until an operation has ended; fails when the operation failed.

    \b
    Example:
      amc operation wait 2f6c0b1e-5a0e-4e0e-9b64-0d5c3a2f8a11 --timeout 1h
    """
    with service() as client:
        operation = client.operation(operation_id)
        with progress.operation(operation.description or "Waiting") as watcher:
            finish(client, operation, timeout, watcher=watcher, cancels=False)


@command.command()
@operation_argument
def cancel(operation_id: str) -> None:
    """Ask an operation to stop; it does so as soon as it safely can.

    \b
    Example:
      amc operation cancel 2f6c0b1e-5a0e-4e0e-9b64-0d5c3a2f8a11
    """
    with service() as client:
        client.cancel(operation_id)

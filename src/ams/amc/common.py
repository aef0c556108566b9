"""What the commands share: reaching the service, waiting for it, formats, questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from regkit import durations
from regkit.errors import ServiceError
from regkit.paths import state_root

if TYPE_CHECKING:
    from ams.client import Client, Operation

F = TypeVar("F", bound=Callable[..., Any])

SOCKET = ("server", "unix.socket")
"""Below the state root."""


@contextmanager
def service() -> Iterator[Client]:
    """Connect to the service of this machine."""
    from ams.client import Client  # noqa: PLC0415 - requests costs 100 ms

    with Client.local(state_root("ams").joinpath(*SOCKET)) as client:
        yield client


class Duration(click.ParamType):
    """A duration like 5m or 1h30m."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Parse, or fail as wrong usage."""
        if isinstance(value, timedelta):
            return value
        try:
            return durations.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


timeout_option = click.option(
    "-t",
    "--timeout",
    type=Duration(),
    default="5m",
    show_default=True,
    help="How long to wait for the operation, such as 30s or 1h30m.",
)
no_wait_option = click.option(
    "--no-wait", is_flag=True, help="Return at once and let the operation go on."
)


def finish(
    client: Client,
    operation: Operation,
    timeout: timedelta,
    *,
    no_wait: bool = False,
    progress: Callable[[Operation], None] | None = None,
) -> Operation:
    """Wait for `operation` unless `no_wait`, cancel it on Ctrl-C, and return it as it ended."""
    if no_wait:
        return operation
    step = 0.5 if progress is not None else 20
    try:
        return client.wait(operation, timeout.total_seconds(), progress, step)
    except KeyboardInterrupt:
        cancel(client, operation)
        raise


def cancel(client: Client, operation: Operation) -> None:
    """Ask the service to stop `operation`, and say whether it will."""
    try:
        client.cancel(operation.id)
    except ServiceError as error:
        click.echo(f"The operation could not be cancelled: {error}", err=True)
    else:
        click.echo("The operation is being cancelled.", err=True)


def readable(moment: str) -> str:
    """Write an RFC 3339 time for people; anything else is left as it is."""
    try:
        return f"{datetime.fromisoformat(moment.replace('Z', '+00:00')):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return moment


def complete_application(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Complete ids and names of applications; nothing when the service can't be asked."""
    try:
        with service() as client:
            applications = client.applications()
    except ServiceError:
        return []
    words = [word for item in applications for word in (item.name, item.id)]
    return [word for word in words if word.startswith(incomplete)]


application_argument = click.argument(
    "application", metavar="<id>|<name>", shell_complete=complete_application
)
version_argument = click.argument("number", metavar="<version>", type=click.IntRange(min=0))

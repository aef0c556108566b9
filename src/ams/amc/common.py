"""What the commands share: reaching the service, waiting for it, formats, questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click

from regkit import durations
from regkit.errors import Forbidden, ServiceError
from regkit.paths import state_root

if TYPE_CHECKING:
    from ams.amc.progress import Watcher
    from ams.client import Client, Operation
    from ams.client.remotes import Remote

F = TypeVar("F", bound=Callable[..., Any])

SOCKET = ("server", "unix.socket")
"""Below the state root."""


class Group(click.Group):
    """A group whose commands answer to the reference's short names too."""

    short_names: ClassVar[dict[str, str]] = {"ls": "list", "rm": "remove"}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Look a command up by its name or short name."""
        return super().get_command(ctx, self.short_names.get(cmd_name, cmd_name))


class DeletingGroup(Group):
    """A group in which `rm` means `delete`."""

    short_names: ClassVar[dict[str, str]] = {"ls": "list", "rm": "delete"}


def chosen_remote(ctx: click.Context | None = None) -> Remote:
    """Return the remote that `amc --remote` names, or the default one."""
    from ams.client.remotes import Remotes, folder  # noqa: PLC0415

    ctx = ctx or click.get_current_context()
    return Remotes(folder()).get(ctx.find_root().params.get("remote"))


def connect(remote: Remote) -> Client:
    """Return a client of a remote; over TLS the user's own certificate is shown."""
    from ams.client import Client  # noqa: PLC0415 - requests costs 100 ms

    if remote.pin is None:
        return Client.local(remote.socket(state_root("ams").joinpath(*SOCKET)))
    from ams.client.remotes import Remotes, folder  # noqa: PLC0415

    return Client.remote(remote.url, remote.pin, Remotes(folder()).identity())


@contextmanager
def service(ctx: click.Context | None = None) -> Iterator[Client]:
    """Connect to the chosen service: this machine's, unless the user has said otherwise."""
    remote = chosen_remote(ctx)
    with connect(remote) as client:
        try:
            yield client
        except Forbidden as error:
            if remote.pin is None:
                raise
            from ams.client.remotes import Remotes, folder  # noqa: PLC0415

            path = Remotes(folder()).identity().cert_path
            raise Forbidden(
                f"{error}: let an operator of {remote.name} run 'amc config trust add' there "
                f"with your {path}"
            ) from None


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


def duration_option(*names: str, default: str, text: str) -> Callable[[F], F]:
    """Return an option that takes a duration; `text` is its help."""
    return click.option(
        *names,
        type=Duration(),
        default=default,
        show_default=True,
        help=f"{text}, such as 30s or 1h30m.",
    )


timeout_option = duration_option(
    "-t", "--timeout", default="5m", text="How long to wait for the operation"
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
    watcher: Watcher | None = None,
    cancels: bool = True,
) -> Operation:
    """Wait for `operation` unless `no_wait`, cancel it on Ctrl-C, and return it as it ended.

    With `no_wait` its id goes to stderr. Without `cancels`, Ctrl-C only ends the waiting.
    """
    if no_wait:
        click.echo(f"Operation {operation.id} goes on in the service", err=True)
        return operation
    seconds = timeout.total_seconds()
    try:
        if watcher is None:
            return client.wait(operation, seconds)
        return client.wait(operation, seconds, watcher.show, watcher.every)
    except KeyboardInterrupt:
        if cancels:
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
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Complete names of applications, or else ids; nothing when the service can't be asked."""
    try:
        with service(ctx) as client:
            # There may be thousands: ids are looked for only where no name fits.
            if found := client.applications({"name": f"{incomplete}*"}):
                return [item.name for item in found]
            applications = client.applications()
    except ServiceError:
        return []
    return [item.id for item in applications if item.id.startswith(incomplete)]


def complete_remote(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Complete names of remotes."""
    from ams.client.remotes import Remotes, folder  # noqa: PLC0415

    try:
        found = Remotes(folder()).list()
    except ServiceError:
        return []
    return [remote.name for remote in found if remote.name.startswith(incomplete)]


application_argument = click.argument(
    "application", metavar="<id>|<name>", shell_complete=complete_application
)
version_argument = click.argument("number", metavar="<version>", type=click.IntRange(min=0))

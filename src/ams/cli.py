"""`ams`: runs the management service. What an operator does with a running one is `amc`."""

from __future__ import annotations

import shlex
import sys
from typing import IO, TYPE_CHECKING

import click

from regkit import cli as shared

if TYPE_CHECKING:
    from regkit import logs


@click.group(context_settings=shared.CONTEXT)
@shared.version_option("ams")
def cli() -> None:
    """Run the management service, which amc talks to.

    \b
    Example:
      ams serve
    """


@cli.command()
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How events are written to stderr.",
)
def serve(log_format: logs.Format) -> None:
    """Run the service in the foreground until SIGTERM or Ctrl-C.

    Its state is under $AMS_HOME, or else under the place that the documentation names; its
    settings are conf/main.yaml there. SIGHUP reads settings and certificates anew. It must be run
    by the user who owns that state; root is told how.

    \b
    Example:
      ams serve
      AMS_HOME=/srv/ams ams serve --log-format json
    """
    # Before anything else is imported: what was imported earlier keeps blocking calls.
    from regkit.serving import patch  # noqa: PLC0415

    patch()
    from ams import serve as server  # noqa: PLC0415
    from regkit import ownership  # noqa: PLC0415
    from regkit.paths import state_root  # noqa: PLC0415

    home = state_root("ams")
    ownership.require_owner(
        home, "management service", f"AMS_HOME={shlex.quote(str(home))} ams serve"
    )
    server.run(home, log_format=log_format)


def _check_config(file: IO[bytes], source: str) -> None:
    from ams.settings import Settings  # noqa: PLC0415 - pydantic costs every command 100 ms
    from regkit.settings import read  # noqa: PLC0415

    read(file, source, Settings)


cli.add_command(shared.check_config_command("ams", _check_config))
cli.add_command(shared.completion_command("ams"))


def main() -> None:
    """Run `ams`."""
    sys.exit(shared.run(cli, "ams"))

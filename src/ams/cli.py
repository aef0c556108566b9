"""`ams`: runs the management service. What an operator does with a running one is `amc`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

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
    settings are conf/main.yaml there. SIGHUP reads settings and certificates anew.

    \b
    Example:
      ams serve
      AMS_HOME=/srv/ams ams serve --log-format json
    """
    # Before anything else is imported: what was imported earlier keeps blocking calls.
    from regkit.serving import patch  # noqa: PLC0415

    patch()
    from ams import serve as server  # noqa: PLC0415
    from regkit.paths import state_root  # noqa: PLC0415

    server.run(state_root("ams"), log_format=log_format)


cli.add_command(shared.completion_command("ams"))


def main() -> None:
    """Run `ams`."""
    sys.exit(shared.run(cli, "ams"))

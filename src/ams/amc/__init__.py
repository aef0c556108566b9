"""`amc`: the command line of the management service.

A command parses, makes one call of `ams.client`, and prints. Commands are imported only when they
are used, since most of the time of a short command is start-up.
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

from ams.amc.common import complete_remote
from regkit import cli as shared

COMMANDS = {
    "application": ("ams.amc.application", "Manage applications"),
    "completion": ("ams.amc.completion", "Generate the completion script for a shell"),
    "config": ("ams.amc.config", "Manage the configuration and the trusted certificates"),
    "info": ("ams.amc.info", "Show what the connected service is"),
    "operation": ("ams.amc.operation", "See, wait for and cancel work that goes on"),
    "registry": ("ams.amc.registry", "Synchronise with an application registry"),
    "remote": ("ams.amc.remote", "Manage the services that amc can talk to"),
    "wait": ("ams.amc.wait", "Wait for an application to reach a condition"),
}
ALIASES = {"app": "application"}


class LazyGroup(click.Group):
    """A group whose commands are modules, imported on use; each defines `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, without their aliases."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        return import_module(COMMANDS[name][0]).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview from the table, so that `--help` imports no command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.command(cls=LazyGroup, context_settings=shared.CONTEXT)
@click.option(
    "--remote",
    metavar="<name>",
    shell_complete=complete_remote,
    help="Talk to this service, of those in 'amc remote list', instead of the default one.",
)
@shared.version_option("amc")
def cli(**_: object) -> None:
    """Manage the applications of a site.

    amc talks to the management service (ams) of this machine over its unix socket, or to the
    default service of 'amc remote list'.

    Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.

    \b
    Example:
      amc application create ./my-app
      amc config set registry.mode push
    """


def main() -> None:
    """Run `amc`."""
    sys.exit(shared.run(cli, "amc"))

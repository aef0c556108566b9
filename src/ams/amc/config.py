"""`amc config show|get|set` and `amc config trust …`."""

from __future__ import annotations

import sys
from datetime import timedelta

import click

from ams.amc.common import finish, service, timeout_option
from ams.amc.trust import trust
from regkit.cli import format_option, print_document
from regkit.errors import NotFound


@click.group("config")
def command() -> None:
    """Manage the configuration and the trusted certificates.

    \b
    Example:
      amc config show
      amc config trust add server.crt
    """


command.add_command(trust)


@command.command()
@format_option("yaml", "json", default="yaml")
def show(output_format: str) -> None:
    """Show all configuration items.

    \b
    Example:
      amc config show
    """
    with service() as client:
        document = {"config": client.config()}
    print_document(document, output_format)


@command.command()
@click.argument("name", metavar="<name>")
def get(name: str) -> None:
    """Show one configuration item.

    \b
    Example:
      amc config get registry.url
    """
    with service() as client:
        items = client.config()
    if name not in items:
        raise NotFound(f"{name!r} is not a configuration item: see 'amc config show'")
    value = items[name]
    click.echo(str(value).lower() if isinstance(value, bool) else value)


@command.command("set")
@click.argument("name", metavar="<name>")
@click.argument("value", metavar="<value>")
@timeout_option
def set_item(name: str, value: str, timeout: timedelta) -> None:
    """Set a configuration item; an empty value restores its default.

    A value of - is read from standard input, which keeps a password out of the shell's history.

    \b
    Example:
      amc config set registry.url https://192.168.178.45:3000
      amc config set registry.update_interval 5m
    """
    if value == "-":
        value = sys.stdin.read().rstrip("\r\n")
    with service() as client:
        finish(client, client.set_config(name, value), timeout)

"""`amc config show|get|set|apply` and `amc config trust …`."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import click

from ams.amc.common import finish, service, timeout_option
from ams.amc.trust import trust
from regkit.cli import format_option, print_document
from regkit.errors import Invalid, NotFound

MAX_BYTES = 512 * 1024
"""Of a document for `apply`: hundreds of certificates."""


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
@click.option(
    "--origin",
    is_flag=True,
    help="Show with each value who set it: default, manual (by hand) or the name of an owner.",
)
def show(output_format: str, origin: bool) -> None:
    """Show all configuration items.

    \b
    Example:
      amc config show
      amc config show --origin
    """
    with service() as client:
        items = client.config()
        if origin:
            origins = client.config_origins()
            items = {
                name: {"value": value, "origin": origins.get(name, "")}
                for name, value in items.items()
            }
    print_document({"config": items}, output_format)


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

    An item that an owner such as Juju manages is refused: change it there. A value of - is read
    from standard input, which keeps a password out of the shell's history.

    \b
    Example:
      amc config set registry.url https://192.168.178.45:3000
      amc config set registry.update_interval 5m
    """
    if value == "-":
        value = sys.stdin.read().rstrip("\r\n")
    with service() as client:
        finish(client, client.set_config(name, value), timeout)


@command.command()
@click.argument("path", metavar="[<path>|-]", default="-", type=click.Path(allow_dash=True))
@click.option(
    "--owner",
    required=True,
    metavar="<name>",
    help="On whose behalf: a lower-case name, such as juju.",
)
@format_option("json", "yaml", default="json")
def apply(path: str, owner: str, output_format: str) -> None:
    """Manage exactly what an owner wants: configuration items and trusted certificates.

    For programs, such as a charm. Reads a document, YAML or JSON, from a file or from standard
    input, which states everything that the owner wants:

    \b
      config:
        registry.url: https://192.168.178.45:3000
        registry.mode: pull
      certificates:
      - |
        -----BEGIN CERTIFICATE-----
        ...

    Managed items win over those set by hand, which 'amc config set' refuses to change meanwhile.
    What the owner leaves out the next time uncovers what was set by hand before. Certificates that
    others have trusted stay as they are. Anything wrong with the document, and nothing changes.

    \b
    Example:
      amc config apply --owner juju wanted.yaml
      echo '{"config": {}, "certificates": []}' | amc config apply --owner juju
    """
    with click.open_file(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    document = _managed(content, "standard input" if path == "-" else path)
    with service() as client:
        applied = client.apply_config(owner, document)
    print_document(applied, output_format)


def _managed(content: bytes, source: str) -> dict[str, Any]:
    """Read the document; the service judges all of it but what may be no certificate."""
    from aar_interface import Certificate, InvalidCertificate  # noqa: PLC0415
    from regkit import documents  # noqa: PLC0415 - pydantic costs 100 ms

    document = documents.load(content, source, MAX_BYTES)
    if not isinstance(document, dict):
        raise Invalid(f"{source} must hold keys and values: 'config:' and 'certificates:'")
    certificates = document.get("certificates")
    for index, item in enumerate(certificates if isinstance(certificates, list) else ()):
        try:
            # Parsed here, so that a private key given by mistake never leaves this process.
            Certificate.parse(str(item))
        except InvalidCertificate as error:
            raise Invalid(f"{source}: certificates[{index}]: {error}") from None
    return document

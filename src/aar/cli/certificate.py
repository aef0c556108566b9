"""`aar certificate show|export|import|rotate`: what the registry is known by.

Works on the files of the state root, whether or not a server runs there; one that does shows the
new certificate to new connections at once, and loses no request. Nothing else is opened, so that
a registry can be given its certificate before its first start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aar.cli.common import Group
from regkit import cli as shared
from regkit import ownership
from regkit.certificate_commands import document, rotate_command, show_command
from regkit.paths import state_root

if TYPE_CHECKING:
    from regkit.identity import Identity


@click.group("certificate", cls=Group, no_args_is_help=False)
def command() -> None:
    """Show or replace the registry's certificate.

    Those who trust the registry have pinned its certificate: after a change they must trust the
    new one. Sites that are related by Juju follow by themselves.

    \b
    Example:
      sudo aar certificate show
    """


@command.command()
def export() -> None:
    """Write the private key and the certificate, in PEM, to standard output.

    For another unit of the same registry, which takes both with `aar certificate import`.

    \b
    Example:
      sudo aar certificate export | ssh second sudo aar certificate import
    """
    from regkit import identity  # noqa: PLC0415

    if sys.stdout.isatty():
        raise click.UsageError("this writes the private key: send it to a file or a command")
    with _files() as files:
        pair = identity.export(*files)
    click.echo(pair, nl=False)


@command.command("import")
@click.argument("path", metavar="[<path>|-]", default="-", type=click.Path(allow_dash=True))
@shared.format_option("yaml", "json", default="yaml")
def import_(path: str, output_format: str) -> None:
    """Use this private key and certificate, given in one PEM file or on standard input.

    The former pair is deleted.

    \b
    Example:
      sudo aar certificate import < pair.pem
    """
    from regkit import identity  # noqa: PLC0415

    with click.open_file(path, "rb") as file:
        pair = file.read(identity.MAX_PAIR_BYTES + 1)
    with _files() as files:
        found, changed = identity.replace(*files, pair)
    shared.print_document(document(found) | {"changed": changed}, output_format)


@contextmanager
def _files() -> Iterator[tuple[Path, Path]]:
    """Give the paths of certificate and key, as the user whom the state root belongs to."""
    from aar.settings import CERTIFICATE, KEY  # noqa: PLC0415 - pydantic costs 100 ms

    home = state_root("aar")
    with ownership.acting_as_owner(home, "registry"):
        yield home / CERTIFICATE, home / KEY


def _renew(certificate: Path, key: Path) -> Identity:
    from aar.settings import CONFIGURATION, Settings  # noqa: PLC0415
    from regkit import identity  # noqa: PLC0415
    from regkit.settings import load  # noqa: PLC0415

    settings = load(state_root("aar") / CONFIGURATION, Settings)
    names = (*identity.local_names(), *settings.http.names)
    return identity.renew(certificate, key, "aar", names, usage="server")


command.add_command(show_command("aar", _files))
command.add_command(rotate_command("aar", _files, _renew))

"""`certificate show` and `certificate rotate`, as both services' command lines have them.

They work on the files of the state root, whether or not a server runs there. Nothing else is
opened. How a pair is made and put in place is `regkit.identity`'s business; who has to trust the
new one, the operator's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regkit import cli as shared

if TYPE_CHECKING:
    from regkit.identity import Identity

Files = Callable[[], AbstractContextManager[tuple[Path, Path]]]
"""Gives the paths of certificate and key, as the user whom the state root belongs to."""


def show_command(program: str, files: Files) -> click.Command:
    """Return the command `certificate show` of the command line `program`."""

    @click.command("show")
    @shared.format_option("yaml", "json", default="yaml")
    def command(output_format: str) -> None:
        from regkit import identity  # noqa: PLC0415 - cryptography costs 100 ms

        with files() as paths:
            found = identity.load(*paths)
        shared.print_document(document(found), output_format)

    command.help = (
        f"Show the certificate and its fingerprint.\n\n\b\nExample:\n"
        f"  sudo {program} certificate show"
    )
    return command


def rotate_command(
    program: str, files: Files, renew: Callable[[Path, Path], Identity], more: str = ""
) -> click.Command:
    """Return the command `certificate rotate` of the command line `program`.

    `renew` makes a new pair at the paths of certificate and key; `more` is added to the help.
    """

    @click.command("rotate")
    @shared.yes_option
    @shared.format_option("yaml", "json", default="yaml")
    def command(yes: bool, output_format: str) -> None:
        if not yes:
            click.echo(
                "Whoever has pinned the present certificate must trust the new one.", err=True
            )
            shared.confirm(default=False)
        with files() as paths:
            made = renew(*paths)
        shared.print_document(document(made), output_format)

    command.help = (
        f"Make a new private key and certificate. The former pair is deleted.{more}"
        f"\n\n\b\nExample:\n  sudo {program} certificate rotate"
    )
    return command


def document(found: Identity) -> dict[str, Any]:
    """Return a pair as it is shown: nothing of the key."""
    certificate = found.certificate
    return {
        "fingerprint": str(certificate.fingerprint),
        "common_name": certificate.common_name,
        "names": list(certificate.names),
        "issued": certificate.issued.isoformat(),
        "expires": certificate.expires.isoformat(),
        "certificate": certificate.pem,
    }

"""`amc config trust add|list|remove`: who may use the API, and which registry is the right one."""

from __future__ import annotations

from datetime import timedelta

import click

from ams.amc.common import Group, finish, readable, service, timeout_option
from regkit.cli import format_option
from regkit.errors import Invalid

MAX_BYTES = 64 * 1024
"""More than any certificate; what is read beyond is not sent."""

SHOWN = 12
"""Digits in the table, as in the reference; unlike there, they are enough for every command."""

COLUMNS = [
    ("FINGERPRINT", "fingerprint"),
    ("COMMON NAME", "common_name"),
    ("ISSUE DATE", "issue_date"),
    ("EXPIRY DATE", "expiry_date"),
]


@click.group(cls=Group)
def trust() -> None:
    """Manage the trusted certificates.

    A registry's certificate is imported here so that registry.fingerprint can name it; a client's
    certificate lets its holder use the API over the network.

    \b
    Example:
      amc config trust add server.crt
      amc config trust list
    """


@trust.command()
@click.argument("path", metavar="<path>|-", type=click.Path(allow_dash=True, readable=False))
def add(path: str) -> None:
    """Trust a certificate, read from a file or, with -, from standard input.

    \b
    Example:
      amc config trust add server.crt
      cat client.crt | amc config trust add -
    """
    from aar_interface import Certificate, InvalidCertificate  # noqa: PLC0415

    with click.open_file(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    try:
        # Parsed here, so that a private key given by mistake never leaves this process.
        certificate = Certificate.parse(content)
    except InvalidCertificate as error:
        where = "standard input" if path == "-" else path
        raise Invalid(f"{where}: {error}") from None
    with service() as client:
        client.add_certificate(certificate.pem)
    click.echo(f"Certificate {certificate.fingerprint} is now trusted")


@trust.command("list")
@format_option("table", "json", "yaml", "csv")
def list_certificates(output_format: str) -> None:
    """List the trusted certificates.

    \b
    Example:
      amc config trust list
      amc config trust list --format json
    """
    from regkit.tables import show  # noqa: PLC0415

    with service() as client:
        short = output_format == "table"
        rows = [
            {
                "fingerprint": item.fingerprint[:SHOWN] if short else item.fingerprint,
                "common_name": item.common_name,
                "issue_date": readable(item.issued) if short else item.issued,
                "expiry_date": readable(item.expires) if short else item.expires,
                "certificate": item.certificate,
            }
            for item in client.certificates()
        ]
    show(rows, COLUMNS, output_format)


@trust.command()
@click.argument("fingerprint", metavar="<fingerprint>")
@timeout_option
def remove(fingerprint: str, timeout: timedelta) -> None:
    """Stop trusting a certificate; any unambiguous beginning of its fingerprint will do.

    \b
    Example:
      amc config trust remove 3a1f09c2b7d4
    """
    with service() as client:
        found = client.certificate(fingerprint)
        finish(client, client.remove_certificate(found.fingerprint), timeout)
    click.echo(f"Certificate {found.fingerprint} is no longer trusted")

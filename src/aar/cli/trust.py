"""`aar trust add|list|remove|revoke`, and `apply` for programs: whom the registry lets in."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from aar.cli.apply import apply
from aar.cli.common import Group, opened
from regkit import cli as shared
from regkit.errors import Invalid

if TYPE_CHECKING:
    from regkit.trust import Entry

MAX_BYTES = 64 * 1024
"""More than any certificate takes; no more than one byte beyond is read."""

SHOWN = 12
"""Digits of a fingerprint in the table, enough for every command."""

COLUMNS = [
    ("FINGERPRINT", "Fingerprint"),
    ("ROLE", "Role"),
    ("COMMON NAME", "CommonName"),
    ("ISSUE DATE", "IssueDate"),
    ("EXPIRY DATE", "ExpiryDate"),
    ("ARCHITECTURES", "Architectures"),
    ("LAST USED", "LastUsed"),
]


class TrustGroup(Group):
    """The group whose help the register-clients page shows, line for line."""

    def get_help(self, ctx: click.Context) -> str:
        """Lay the help out as the page does."""
        path = ctx.command_path
        commands = [
            f"  {name:<12}{command.get_short_help_str(limit=80)}"
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None and not command.hidden
        ]
        lines = [
            self.get_short_help_str(limit=80),
            "",
            "Usage:",
            f"  {path} [command]",
            "",
            "Available Commands:",
            *commands,
            "",
            "Flags:",
            f"  -h, --help   help for {self.name}",
            "",
            f'Use "{path} [command] --help" for more information about a command.',
        ]
        return "\n".join(lines)


@click.group("trust", cls=TrustGroup, no_args_is_help=False, short_help="Manage trusted clients")
def command() -> None:
    """Manage trusted clients."""


@command.command(short_help="Register a client certificate")
@click.argument("path", metavar="[path]", required=False, type=click.Path(allow_dash=True))
@click.option("-p", "--publisher", is_flag=True, help="Let the client push applications too.")
@click.option("-q", "--quiet", is_flag=True, help="Don't say that standard input is read.")
@click.option(
    "--architecture",
    "architectures",
    multiple=True,
    metavar="<architecture>",
    help="Let the publisher push only this one, such as amd64; repeatable.",
)
def add(path: str | None, publisher: bool, quiet: bool, architectures: tuple[str, ...]) -> None:
    """Register a client certificate, read from a file or from standard input.

    A client reads; with --publisher it may push and remove applications too.

    \b
    Example:
      sudo aar trust add client.crt
      cat client.crt | sudo aar trust add --publisher --architecture amd64
    """
    if architectures and not publisher:
        raise click.UsageError("--architecture limits what is pushed: give it with --publisher")
    for name in architectures:
        if not (name.isascii() and name.isalnum() and name == name.lower()):
            raise click.UsageError(f"{name[:80]!r} is not an architecture, such as amd64 or arm64")
    from aar_interface import Certificate, InvalidCertificate, Role  # noqa: PLC0415

    source = path or "-"
    if source == "-" and sys.stdin.isatty() and not quiet:
        click.echo("Reading the certificate from standard input; end it with Ctrl-D.", err=True)
    with click.open_file(source, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    try:
        certificate = Certificate.parse(content)
    except InvalidCertificate as error:
        raise Invalid(f"{'standard input' if source == '-' else source}: {error}") from None
    if not certificate.client_usable:
        raise Invalid("the certificate's extended key usage excludes clients: give the client's")
    role = Role.PUBLISHER if publisher else Role.CLIENT
    with opened() as registry:
        registry.trust.add(certificate, role, architectures=architectures)
    click.echo(f"Certificate {certificate.fingerprint} is now trusted as {role.value}")


@command.command("list", short_help="List currently trusted clients")
@shared.format_option("table", "csv", "json", "yaml")
@click.option("--revoked", is_flag=True, help="List the revoked certificates instead.")
def list_trusted(output_format: str, revoked: bool) -> None:
    """List currently trusted clients.

    \b
    Example:
      sudo aar trust list
      sudo aar trust list --revoked --format json
    """
    from regkit.tables import show  # noqa: PLC0415

    with opened() as registry:
        entries = registry.trust.list(revoked=revoked)
    rows = [_describe(entry, short=output_format == "table") for entry in entries]
    show(rows, [*COLUMNS, ("REVOKED", "Revoked")] if revoked else COLUMNS, output_format)


def _describe(entry: Entry, *, short: bool) -> dict[str, Any]:
    def moment(value: Any) -> str | None:
        exact = value and value.isoformat(timespec="seconds")
        return f"{value:%Y-%m-%d %H:%M} UTC" if value and short else exact

    return {
        "Fingerprint": str(entry.fingerprint)[: SHOWN if short else None],
        "Role": entry.role.value,
        "CommonName": entry.common_name,
        "IssueDate": moment(entry.issued),
        "ExpiryDate": moment(entry.expires),
        "Architectures": list(entry.architectures),
        "Added": moment(entry.added),
        "LastUsed": moment(entry.last_used),
        "Origin": entry.origin,
        "Revoked": moment(entry.revoked),
        "Certificate": entry.certificate,
    }


@command.command(short_help="Remove a trusted certificate")
@click.argument("fingerprint", metavar="<fingerprint>")
def remove(fingerprint: str) -> None:
    """Remove a trusted certificate; it may be added again.

    Any unambiguous beginning of the fingerprint, of 8 digits or more, will do.

    \b
    Example:
      sudo aar trust remove 3a1f09c2b7d4
    """
    with opened() as registry:
        found = registry.trust.find(fingerprint).fingerprint
        registry.trust.remove(found)
    click.echo(f"Certificate {found} is no longer trusted")


@command.command(short_help="Revoke a certificate")
@click.argument("fingerprint", metavar="<fingerprint>")
@shared.yes_option
def revoke(fingerprint: str, yes: bool) -> None:
    """Revoke a certificate and its key, for ever.

    Any unambiguous beginning of the fingerprint, of 8 digits or more, will do.

    \b
    Example:
      sudo aar trust revoke 3a1f09c2b7d4
    """
    with opened() as registry:
        entry = registry.trust.find(fingerprint)
        if not yes and not entry.revoked:
            click.echo(f"{entry.fingerprint} ({entry.common_name}) will be REVOKED.")
            click.echo("This is irreversible: neither it nor its key can be added again.")
            shared.confirm(default=False)
        registry.trust.revoke(entry.fingerprint)
    click.echo(f"Certificate {entry.fingerprint} is revoked")


command.add_command(apply)

"""`aar`: runs the registry, and manages whom it trusts and what it holds.

All commands but `serve` work on the state root itself, beside a server or without one; a running
server sees every change at once. The rules are the trust store's and the catalogue's. Imports of
weight wait until a command needs them: `serve` patches before it imports.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from regkit import cli as shared
from regkit.errors import Forbidden, Invalid, NotFound
from regkit.paths import state_root

if TYPE_CHECKING:
    from aar.applications import Version
    from aar.registry import Registry
    from regkit.trust import Entry

"""Below the state root."""

MAX_BYTES = 64 * 1024
"""More than any certificate takes; no more than one byte beyond is read."""

SHOWN = 12
"""Digits of a fingerprint in the table, enough for every command."""


TRUST_COLUMNS = [
    ("FINGERPRINT", "Fingerprint"),
    ("ROLE", "Role"),
    ("COMMON NAME", "CommonName"),
    ("ISSUE DATE", "IssueDate"),
    ("EXPIRY DATE", "ExpiryDate"),
    ("ARCHITECTURES", "Architectures"),
    ("LAST USED", "LastUsed"),
]
APPLICATION_COLUMNS = [
    ("NAME", "name"),
    ("VERSION", "version"),
    ("ARCHITECTURES", "architectures"),
    ("TAGS", "tags"),
    ("SIZE", "size"),
    ("LAST UPDATED", "last_updated"),
]


class Group(click.Group):
    """A group with `ls` for `list`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Look a command up by its name or short name."""
        return super().get_command(ctx, "list" if cmd_name == "ls" else cmd_name)


class TrustGroup(Group):
    """The group whose help the register-clients page shows, line for line."""

    def get_help(self, ctx: click.Context) -> str:
        """Lay the help out as the page does."""
        path = ctx.command_path
        commands = [
            f"  {name:<12}{command.get_short_help_str(limit=80)}"
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None
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


@contextmanager
def opened() -> Iterator[Registry]:
    """Open the registry of this machine's state root."""
    home = state_root("aar")
    _check_owner(home)
    from aar.registry import Registry  # noqa: PLC0415 - SQLAlchemy and Alembic cost 300 ms
    from aar.settings import CONFIGURATION, Settings  # noqa: PLC0415
    from regkit.settings import load  # noqa: PLC0415

    with Registry(home, load(home / CONFIGURATION, Settings)) as registry:
        yield registry


def _check_owner(home: Path) -> None:
    """Refuse others early: what they'd create or fail to read would only confuse."""
    user = os.geteuid()
    for path in (home, home / "data"):
        try:
            allowed = user in (0, path.stat().st_uid)
        except FileNotFoundError:
            continue
        except PermissionError:
            allowed = False
        if not allowed:
            raise Forbidden(f"the registry's state in {home} is another user's: use sudo")


@click.group(no_args_is_help=False, context_settings=shared.CONTEXT)
@shared.version_option("aar")
def cli() -> None:
    """Run an application registry and manage its clients.

    \b
    Example:
      sudo aar trust add client.crt
      sudo aar status
    """


@cli.command()
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How events are written to stderr.",
)
def serve(log_format: Literal["text", "json"]) -> None:
    """Run the registry in the foreground until SIGTERM or Ctrl-C.

    Its state is under $AAR_HOME, or else under the place that the documentation names; its
    settings are conf/main.yaml there. SIGHUP reads log level and certificate anew.

    \b
    Example:
      aar serve
      AAR_HOME=/srv/aar aar serve --log-format json
    """
    from aar import serve as server  # noqa: PLC0415 - patches before it imports the rest

    home = state_root("aar")
    _check_owner(home)
    server.run(home, log_format)


@cli.group(cls=TrustGroup, no_args_is_help=False, short_help="Manage trusted clients")
def trust() -> None:
    """Manage trusted clients."""


@trust.command(short_help="Register a client certificate")
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


@trust.command("list", short_help="List currently trusted clients")
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
    show(
        rows, [*TRUST_COLUMNS, ("REVOKED", "Revoked")] if revoked else TRUST_COLUMNS, output_format
    )


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
    }


@trust.command(short_help="Remove a trusted certificate")
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


@trust.command(short_help="Revoke a certificate")
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


@cli.group(cls=Group, no_args_is_help=False)
def application() -> None:
    """Manage the applications that the registry holds.

    \b
    Example:
      sudo aar application list
    """


@application.command("list")
@shared.format_option("table", "csv", "json", "yaml")
def list_applications(output_format: str) -> None:
    """List the applications, with a row for each version.

    \b
    Example:
      sudo aar application list --format json
    """
    from regkit.tables import show  # noqa: PLC0415

    with opened() as registry:
        found = registry.applications.list()
    rows: list[dict[str, Any]] = []
    for item in found:
        for number in sorted({version.key.number for version in item.versions}):
            versions = [version for version in item.versions if version.key.number == number]
            latest = max(version.published_at for version in versions)
            rows.append(
                {
                    "name": item.name,
                    "version": number,
                    "architectures": [version.key.architecture for version in versions],
                    "tags": sorted({tag for version in versions for tag in version.tags}),
                    "size": sum(version.size for version in versions),
                    "last_updated": latest.isoformat(timespec="seconds"),
                }
            )
    show(rows, APPLICATION_COLUMNS, output_format)


@application.command("show")
@click.argument("name", metavar="<name>")
@shared.format_option("yaml", "json", default="yaml")
def show_application(name: str, output_format: str) -> None:
    """Show an application with all its versions.

    \b
    Example:
      sudo aar application show my-app
    """
    with opened() as registry:
        item = registry.applications.get(name)
    versions = [
        {
            "version": version.key.number,
            "architecture": version.key.architecture,
            "digest": str(version.digest),
            "size": version.size,
            "tags": list(version.tags),
            "published-at": version.published_at.isoformat(timespec="seconds"),
            "published-by": version.published_by,
        }
        for version in item.versions
    ]
    shared.print_document({"name": item.name, "versions": versions}, output_format)


@application.command()
@click.argument("name", metavar="<name>")
@click.argument("number", metavar="[<version>", required=False, type=click.IntRange(min=0))
@click.argument("architecture", metavar="[<architecture>]]", required=False)
@shared.yes_option
def delete(name: str, number: int | None, architecture: str | None, yes: bool) -> None:
    """Delete an application, one version of it, or one architecture of that version.

    Every client that imported it removes it at its next update.

    \b
    Example:
      sudo aar application delete my-app
      sudo aar application delete my-app 3 arm64 --yes
    """
    with opened() as registry:
        versions = _matching(registry, name, number, architecture)
        if not yes:
            click.echo("The following application versions will be REMOVED:")
            for version in versions:
                click.echo(f"  {name} {version.key.number} {version.key.architecture}")
            shared.confirm(default=False)
        removed = registry.applications.remove(name, number, architecture, actor=None)
    for version in removed:
        click.echo(f"Removed {name} {version.key.number} {version.key.architecture}")


def _matching(
    registry: Registry, name: str, number: int | None, architecture: str | None
) -> list[Version]:
    """Return what a deletion would remove, so that nothing is asked about what isn't there."""
    versions = [
        version
        for version in registry.applications.get(name).versions
        if number in (None, version.key.number)
        and architecture in (None, version.key.architecture)
    ]
    if not versions:
        what = " ".join(str(part) for part in (number, architecture) if part is not None)
        raise NotFound(f"the registry has no version {what} of application {name[:80]!r}")
    return versions


@cli.command()
@shared.format_option("yaml", "json", default="yaml")
def status(output_format: str) -> None:
    """Show where the registry is, what it holds and whether it is running.

    \b
    Example:
      sudo aar status
    """
    with opened() as registry:
        from aar.settings import CERTIFICATE  # noqa: PLC0415 - loaded by now

        address = registry.settings.http.addr
        document = {
            "state": str(registry.home),
            "address": str(address),
            "trusted": len(registry.trust.list()),
            "applications": len(registry.applications.list()),
            "cursor": str(registry.feed.head()),
            "running": _answers(registry.home / CERTIFICATE, address.host, address.port),
        }
    shared.print_document(document, output_format)


def _answers(certificate: Path, host: str, port: int) -> bool:
    """Whether the holder of this registry's certificate answers `GET /1.0/status` as ready."""
    from aar_interface import Certificate, InvalidCertificate  # noqa: PLC0415
    from regkit import pinned  # noqa: PLC0415 - requests costs 100 ms
    from regkit.settings import Address  # noqa: PLC0415

    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where such a server is met
    address = Address(host=everywhere.get(host, host), port=port)
    try:
        fingerprint = Certificate.parse(certificate.read_bytes()).fingerprint
        with pinned.session(fingerprint, None, (3.0, 3.0)) as session:
            return session.get(f"https://{address}/1.0/status").status_code == 200
    except (OSError, InvalidCertificate):  # what requests raises is an OSError
        return False


cli.add_command(shared.completion_command("aar"))


def main() -> None:
    """Run `aar`."""
    sys.exit(shared.run(cli, "aar"))

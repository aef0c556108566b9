"""`amc remote …`: the management services that amc can talk to, and how they come to trust it."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

import click

from ams.amc.common import Group, complete_remote, connect
from regkit.cli import confirm, format_option
from regkit.errors import ServiceError

if TYPE_CHECKING:
    from aar_interface import Fingerprint
    from ams.client.remotes import Remote, Remotes

COLUMNS = [
    ("NAME", "name"),
    ("URL", "url"),
    ("DEFAULT", "default"),
    ("FINGERPRINT", "fingerprint"),
]
SHOWN = 12
"""Digits of a fingerprint in the table."""
STDIN = "-"

accept_option = click.option(
    "--accept-certificate",
    is_flag=True,
    help="Trust the certificate that the server shows, without a question.",
)
name_argument = click.argument("name", metavar="<name>", shell_complete=complete_remote)


@click.group("remote", cls=Group)
def command() -> None:
    """Manage the services that amc can talk to.

    The service of this machine is always there, as 'local'. Remotes and this user's certificate
    are kept in $AMC_HOME, or else in the folder amc of $XDG_CONFIG_HOME or ~/.config.

    \b
    Example:
      amc remote add site https://192.168.178.46:8444
      amc remote set-default site
    """


def _remotes() -> Remotes:
    from ams.client.remotes import Remotes, folder  # noqa: PLC0415

    return Remotes(folder())


@command.command()
@click.argument("name", metavar="<name>")
@click.argument("url", metavar="<url>")
@click.argument("trust_password", metavar="[<trust-password>]", required=False)
@click.option(
    "--password",
    metavar="<trust-password>|-",
    help="The service's trust password, with which this user registers; - reads it from "
    "standard input.",
)
@accept_option
def add(
    name: str,
    url: str,
    trust_password: str | None,
    password: str | None,
    accept_certificate: bool,
) -> None:
    """Add a service, once you have accepted its certificate.

    amc then talks to the holder of this certificate only. Compare the fingerprint with what this
    prints on the service's machine: openssl x509 -noout -fingerprint -sha256 -in server/ams.crt
    (below $AMS_HOME; /var/snap/ams/common for root).

    The service, too, must trust this user's certificate, which is made on first use. With the
    service's trust password (core.trust_password) amc sees to that, otherwise it says what to do
    there. Other users of this machine can see a password on the command line; --password - and
    the question on a terminal hide it.

    \b
    Example:
      amc remote add site https://192.168.178.46:8444
      amc remote add site https://192.168.178.46:8444 --accept-certificate --password - < password
      amc remote add other unix:///srv/ams/server/unix.socket
    """
    from ams.client.remotes import Remote, parse_url  # noqa: PLC0415

    if password is not None and trust_password is not None:
        raise click.UsageError("give the trust password once")
    remotes = _remotes()
    remote = Remote(name, parse_url(url))
    remotes.check_new(name)
    trusted = True
    if not remote.is_local:
        remote = Remote(name, remote.url, _accepted(remote.url, accept_certificate))
        trusted = _register(remotes, remote, password if password is not None else trust_password)
    remotes.add(remote)
    click.echo(f"Remote {name} is added")
    if not trusted:
        _tell_how_to_trust(remotes, remote)


@command.command("list")
@format_option("table", "json", "yaml", "csv")
def list_remotes(output_format: str) -> None:
    """List the services that amc can talk to.

    \b
    Example:
      amc remote list
    """
    from regkit.tables import show  # noqa: PLC0415

    remotes = _remotes()
    default = remotes.default
    rows = [
        {
            "name": remote.name,
            "url": remote.url,
            "default": remote.name == default,
            "fingerprint": str(remote.pin or "")[: SHOWN if output_format == "table" else None],
        }
        for remote in remotes.list()
    ]
    show(rows, COLUMNS, output_format)


@command.command()
@name_argument
def remove(name: str) -> None:
    """Forget a service; it goes on trusting this user's certificate until it is told otherwise.

    \b
    Example:
      amc remote remove site
    """
    _remotes().remove(name)
    click.echo(f"Remote {name} is removed")


@command.command("set-default")
@name_argument
def set_default(name: str) -> None:
    """Choose the service that amc talks to when --remote isn't given.

    \b
    Example:
      amc remote set-default site
      amc remote set-default local
    """
    _remotes().set_default(name)


@command.command("set-url")
@name_argument
@click.argument("url", metavar="<url>")
@accept_option
def set_url(name: str, url: str, accept_certificate: bool) -> None:
    """Change where a service is; another certificate than the accepted one is shown first.

    \b
    Example:
      amc remote set-url site https://192.168.178.47:8444
    """
    from ams.client.remotes import Remote, parse_url  # noqa: PLC0415

    remotes = _remotes()
    known = remotes.get(name)
    remote = Remote(name, parse_url(url))
    if not remote.is_local:
        remote = Remote(name, remote.url, _accepted(remote.url, accept_certificate, known.pin))
    remotes.replace(remote)


def _accepted(url: str, accept: bool, known: Fingerprint | None = None) -> Fingerprint:
    """Return the fingerprint of the server's certificate once it is `known` or accepted."""
    from ams.client.probe import server_certificate  # noqa: PLC0415

    certificate = server_certificate(url)
    if certificate.fingerprint != known:
        click.echo(f"Certificate fingerprint: {certificate.fingerprint}", err=accept)
        if not accept:
            click.echo(
                f"Common name: {certificate.common_name or '-'}, expires on "
                f"{certificate.expires:%Y-%m-%d}. Compare it with server/ams.crt on the "
                "service's machine."
            )
            confirm(default=False, option="--accept-certificate")
    return certificate.fingerprint


def _register(remotes: Remotes, remote: Remote, password: str | None) -> bool:
    """Make the service trust this user if it doesn't yet; say whether it does."""
    with connect(remote) as client:
        if client.info().get("auth") == "trusted":
            return True
        secret = _password(password)
        if not secret:
            return False
        client.add_certificate(remotes.identity().certificate.pem, trust_password=secret)
        if client.info().get("auth") != "trusted":
            raise ServiceError(
                f"{remote.url} took this user's certificate but doesn't trust it: look at its log"
            )
        return True


def _password(given: str | None) -> str:
    if given == STDIN:
        return sys.stdin.readline().rstrip("\r\n")
    if given is None and sys.stdin.isatty():
        return getpass.getpass("Trust password (none: press Enter): ")
    return given or ""


def _tell_how_to_trust(remotes: Remotes, remote: Remote) -> None:
    identity = remotes.identity()
    click.echo(
        f"{remote.name} doesn't trust you yet. Copy {identity.cert_path} to its machine and run "
        "there: amc config trust add client.crt",
        err=True,
    )

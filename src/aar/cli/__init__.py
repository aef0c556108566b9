"""`aar`: runs the registry, and manages whom it trusts and what it holds.

All commands but `serve` work on the state root itself, beside a server or without one; a running
server sees every change at once. The rules are the trust store's and the catalogue's. Imports of
weight wait until a command needs them: `serve` patches before it imports.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import IO, Literal

import click

from aar.cli import application, audit, certificate, epoch, quarantine, trust, upkeep
from aar.cli.adopt import adopt
from aar.cli.common import opened
from aar.cli.migrate import migrate
from regkit import cli as shared
from regkit import ownership
from regkit.paths import state_root


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
    settings are conf/main.yaml there. SIGHUP reads log level and certificate anew. It must be run
    by the user who owns that state; root is told how.

    \b
    Example:
      aar serve
      AAR_HOME=/srv/aar aar serve --log-format json
    """
    from aar import serve as server  # noqa: PLC0415 - patches before it imports the rest

    home = state_root("aar")
    ownership.require_owner(home, "registry", f"AAR_HOME={shlex.quote(str(home))} aar serve")
    server.run(home, log_format)


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


def _answers(shown: Path, host: str, port: int) -> bool:
    """Whether the holder of this registry's certificate answers `GET /1.0/status` as ready."""
    from aar_interface import Certificate, InvalidCertificate  # noqa: PLC0415
    from regkit import pinned  # noqa: PLC0415 - requests costs 100 ms
    from regkit.settings import Address  # noqa: PLC0415

    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where such a server is met
    address = Address(host=everywhere.get(host, host), port=port)
    try:
        fingerprint = Certificate.parse(shown.read_bytes()).fingerprint
        with pinned.session(fingerprint, None, (3.0, 3.0)) as session:
            return session.get(f"https://{address}/1.0/status").status_code == 200
    except (OSError, InvalidCertificate):  # what requests raises is an OSError
        return False


def _check_config(file: IO[bytes], source: str) -> None:
    from aar.settings import Settings  # noqa: PLC0415 - pydantic costs every command 100 ms
    from regkit.settings import read  # noqa: PLC0415

    read(file, source, Settings)


cli.add_command(trust.command)
cli.add_command(application.command)
cli.add_command(audit.command)
cli.add_command(certificate.command)
cli.add_command(quarantine.command)
cli.add_command(epoch.command)
cli.add_command(upkeep.verify)
cli.add_command(upkeep.gc)
cli.add_command(upkeep.backup)
cli.add_command(upkeep.restore)
cli.add_command(migrate)
cli.add_command(adopt)
cli.add_command(shared.check_config_command("aar", _check_config))
cli.add_command(shared.completion_command("aar"))


def main() -> None:
    """Run `aar`."""
    sys.exit(shared.run(cli, "aar"))

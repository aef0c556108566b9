"""`ams`: runs the management service. What an operator does with a running one is `amc`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from regkit import cli as shared
from regkit import ownership
from regkit.certificate_commands import rotate_command, show_command
from regkit.paths import state_root
from regkit.upkeep.commands import (
    Checked,
    backup_command,
    restore_command,
    verify_command,
)

if TYPE_CHECKING:
    import requests

    from aar_interface import Fingerprint
    from ams.service import Service
    from regkit import logs
    from regkit.blobs import BlobStore
    from regkit.database import Database
    from regkit.identity import Identity
    from regkit.upkeep.state import State

STATE = "management service"


@click.group(context_settings=shared.CONTEXT)
@shared.version_option("ams")
def cli() -> None:
    """Run the management service, which amc talks to.

    \b
    Example:
      ams serve
    """


@cli.command()
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How events are written to stderr.",
)
def serve(log_format: logs.Format) -> None:
    """Run the service in the foreground until SIGTERM or Ctrl-C.

    Its state is under $AMS_HOME, or else under the place that the documentation names; its
    settings are conf/main.yaml there. SIGHUP reads settings and certificates anew. It must be run
    by the user who owns that state; root is told how.

    \b
    Example:
      ams serve
      AMS_HOME=/srv/ams ams serve --log-format json
    """
    # Before anything else is imported: what was imported earlier keeps blocking calls.
    from regkit.serving import patch  # noqa: PLC0415

    patch()
    from ams import serve as server  # noqa: PLC0415

    home = state_root("ams")
    ownership.require_owner(home, STATE, f"AMS_HOME={shlex.quote(str(home))} ams serve")
    server.run(home, log_format=log_format)


@cli.command("adopt-storage")
def adopt_storage() -> None:
    """Take the storage in conf/main.yaml for that of all services on this database.

    Only after the former storage was lost for good: services that still keep their files there
    don't start any more. 'ams verify --repair --from registry' then fetches what it can.

    \b
    Example:
      ams adopt-storage
    """
    from ams import shared_storage  # noqa: PLC0415 - SQLAlchemy and pydantic cost 300 ms
    from regkit.errors import Conflict  # noqa: PLC0415

    with _opened(shared_storage.adopt) as service:
        if not service.database.shared:
            raise Conflict("database.url names no server that others use too: nothing to adopt")
    click.echo("The services on this database keep their files here from now on")


@contextmanager
def _opened(
    check_storage: Callable[[Database, BlobStore], None] | None = None,
) -> Iterator[Service]:
    """Open the service of this machine's state root, as the user whom it belongs to."""
    from ams import shared_storage  # noqa: PLC0415
    from ams.service import Service  # noqa: PLC0415 - SQLAlchemy and pydantic cost 300 ms
    from regkit.upkeep import swap  # noqa: PLC0415

    home = state_root("ams")
    with ownership.acting_as_owner(home, STATE):
        swap.complete(home)
        check = check_storage or shared_storage.require_same
        with Service(home, check_storage=check) as service:
            yield service


@contextmanager
def _checked() -> Iterator[Checked]:
    from aar_interface import Fingerprint  # noqa: PLC0415
    from ams.verify import ServiceBooks  # noqa: PLC0415 - loaded when it is opened
    from regkit import pinned  # noqa: PLC0415
    from regkit.errors import Invalid  # noqa: PLC0415

    with _opened() as service:

        def connect(pin: Fingerprint) -> requests.Session:
            return pinned.session(pin, service.identity)

        def registry() -> tuple[str, Fingerprint]:
            urls = service.options.get("registry.url")
            fingerprint = str(service.options.get("registry.fingerprint"))
            if not urls or not fingerprint:
                raise Invalid("no registry is set: see 'amc config show', or give its URL")
            return urls[0], Fingerprint.parse(fingerprint)

        yield Checked(
            service.blobs,
            ServiceBooks(service.database),
            connect,
            "give the packages anew, with 'amc application update'",
            registry,
        )


@contextmanager
def _saved() -> Iterator[State]:
    from ams.backup import state  # noqa: PLC0415

    with _opened() as service:
        yield state(service.home, service.settings)


@contextmanager
def _restoring() -> Iterator[tuple[Path, Callable[[bytes | None], State]]]:
    from ams.backup import state  # noqa: PLC0415
    from ams.settings import CONFIG_FILE, Settings, load  # noqa: PLC0415
    from regkit.settings import read  # noqa: PLC0415
    from regkit.upkeep import swap  # noqa: PLC0415

    home = state_root("ams")

    def make_state(configuration: bytes | None) -> State:
        if configuration is None or (home / CONFIG_FILE).exists():
            return state(home, load(home))
        source = f"the backup's {CONFIG_FILE}"
        return state(home, read(BytesIO(configuration), source, Settings))

    with ownership.acting_as_owner(home, STATE):
        swap.complete(home)
        yield home, make_state


@contextmanager
def _towards_registry() -> Iterator[tuple[Path, Path]]:
    """Give the paths of what a registry knows this service by, as the state root's owner."""
    from ams.settings import REGISTRY_CERTIFICATE, REGISTRY_KEY  # noqa: PLC0415 - pydantic

    home = state_root("ams")
    with ownership.acting_as_owner(home, STATE):
        yield home / REGISTRY_CERTIFICATE, home / REGISTRY_KEY


def _renew(certificate: Path, key: Path) -> Identity:
    from regkit import identity  # noqa: PLC0415 - cryptography costs 100 ms

    return identity.renew(certificate, key, "ams", (), usage="client")


@cli.group()
def certificate() -> None:
    """Show or replace the certificate that a registry knows this service by.

    A registry that trusts it must trust the new one; one that is related by Juju follows by
    itself. What `amc` and other clients of this service see is another one.

    \b
    Example:
      sudo ams certificate show
    """


certificate.add_command(show_command("ams", _towards_registry))
certificate.add_command(
    rotate_command(
        "ams",
        _towards_registry,
        _renew,
        " A running service shows the new one with its next connection.",
    )
)


def _check_config(file: IO[bytes], source: str) -> None:
    from ams.settings import Settings  # noqa: PLC0415 - pydantic costs every command 100 ms
    from regkit.settings import read  # noqa: PLC0415

    read(file, source, Settings)


cli.add_command(
    verify_command(
        "ams",
        _checked,
        " '--from registry' means the one that registry.url names, pinned as ever.",
    )
)
cli.add_command(backup_command("ams", _saved))
cli.add_command(restore_command("ams", _restoring, "Start the service now."))
cli.add_command(shared.check_config_command("ams", _check_config))
cli.add_command(shared.completion_command("ams"))


def main() -> None:
    """Run `ams`."""
    sys.exit(shared.run(cli, "ams"))

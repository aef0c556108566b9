"""`aar verify|gc|backup|restore`: what an operator does with the registry's storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aar.cli.common import opened
from regkit import cli as shared
from regkit import durations, ownership
from regkit.errors import Conflict
from regkit.paths import state_root
from regkit.upkeep.commands import (
    Checked,
    backup_command,
    restore_command,
    verify_command,
)

if TYPE_CHECKING:
    import requests

    from aar.janitor import Counts
    from aar_interface import Fingerprint
    from regkit.upkeep.state import State

CLIENT_CERTIFICATE = Path("certs/client.crt")
CLIENT_KEY = Path("certs/client.key")
"""What the registry shows to another one that it takes lost content from; made when needed."""

PATIENCE = 60.0
"""Seconds to wait for the server's own janitor."""
SOONEST = timedelta(minutes=1)
"""What is younger may be about to be used, as a blob between its push and its manifest's."""


@contextmanager
def _checked() -> Iterator[Checked]:
    from aar.verify import RegistryBooks  # noqa: PLC0415 - loaded when it is opened
    from regkit import identity, pinned  # noqa: PLC0415

    with opened() as registry:
        registry.check_storage()

        def connect(pin: Fingerprint) -> requests.Session:
            paths = registry.home / CLIENT_CERTIFICATE, registry.home / CLIENT_KEY
            own = identity.ensure(*paths, "aar", (), usage="client")
            return pinned.session(pin, own)

        yield Checked(
            registry.blobs,
            RegistryBooks(registry.database),
            connect,
            "ask those who published them to push again, with 'amc registry push <application>'",
        )


@contextmanager
def _saved() -> Iterator[State]:
    from aar.backup import state  # noqa: PLC0415

    with opened() as registry:
        yield state(registry.home, registry.settings)


@contextmanager
def _restoring() -> Iterator[tuple[Path, Callable[[bytes | None], State]]]:
    from aar.backup import state  # noqa: PLC0415 - SQLAlchemy and pydantic cost 300 ms
    from aar.settings import CONFIGURATION, Settings  # noqa: PLC0415
    from regkit.settings import load, read  # noqa: PLC0415
    from regkit.upkeep import swap  # noqa: PLC0415

    home = state_root("aar")

    def make_state(configuration: bytes | None) -> State:
        path = home / CONFIGURATION
        if configuration is None or path.exists():
            return state(home, load(path, Settings))
        return state(home, read(BytesIO(configuration), f"the backup's {CONFIGURATION}", Settings))

    with ownership.acting_as_owner(home, "registry"):
        swap.complete(home)
        if (home / CONFIGURATION).exists():
            make_state(None)  # a database that isn't restored like this is told before all else
        yield home, make_state


verify = verify_command("aar", _checked)
backup = backup_command("aar", _saved)
restore = restore_command(
    "aar",
    _restoring,
    "Start the registry now. Sites notice that it was restored, and keep what it lacks until "
    "'amc registry sync --allow-deletions'.",
)


def _older_than(
    _ctx: click.Context, _parameter: click.Parameter, text: str | None
) -> timedelta | None:
    if text is None:
        return None
    try:
        found = durations.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if found < SOONEST:
        raise click.BadParameter("what is younger than 1m may be about to be used")
    return found


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option(
    "--older-than",
    metavar="<duration>",
    callback=_older_than,
    help="Take this, 1m or more, in place of the periods in conf/main.yaml.",
)
@shared.format_option("text", "json", "yaml", default="text")
def gc(dry_run: bool, older_than: timedelta | None, output_format: str) -> None:
    """Remove what is left over now, rather than when the server does it.

    That is: uploads that nobody went on with, blobs that no manifest refers to, and files that a
    crash left; each when its period is over (janitor in conf/main.yaml, 24h). Uploads and pushes
    that are going on are safe, as long as a push takes no longer than the period.

    \b
    Example:
      sudo aar gc --dry-run
      sudo aar gc --older-than 1h
    """
    with opened() as registry:
        registry.check_storage()
        counts = registry.janitor.run(
            datetime.now(timezone.utc),
            older_than=older_than,
            dry_run=dry_run,
            patience=PATIENCE,
        )
    if not counts.ran:
        raise Conflict("blobs are in use by a backup, or being removed already: try again later")
    document = {
        "dry-run": dry_run,
        "uploads": {"count": counts.uploads, "bytes": counts.upload_bytes},
        "blobs": {"count": counts.blobs, "bytes": counts.bytes},
        "orphans": {"count": counts.orphans, "bytes": counts.orphan_bytes},
        "bytes": counts.freed,
    }
    if output_format == "text":
        click.echo(_in_words(counts, dry_run))
    else:
        shared.print_document(document, output_format)


def _in_words(counts: Counts, dry_run: bool) -> str:
    from regkit.sizes import render  # noqa: PLC0415

    what = (
        f"{counts.uploads} uploads ({render(counts.upload_bytes)}), "
        f"{counts.blobs} blobs ({render(counts.bytes)}), "
        f"{counts.orphans} files that nothing knew ({render(counts.orphan_bytes)})"
    )
    done = "Would remove" if dry_run else "Removed"
    return f"{done} {what}: {render(counts.freed)} in all"

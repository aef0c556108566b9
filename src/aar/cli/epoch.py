"""`aar epoch`: the name of the change feed's history, and a new one after a restore."""

from __future__ import annotations

import click

from aar.cli.common import opened
from regkit import cli as shared


@click.group("epoch", short_help="Begin a new history after a restore")
def command() -> None:
    """The epoch names one history of the change feed.

    \b
    Example:
      sudo aar epoch rotate
    """


@command.command("rotate", short_help="Begin a new history")
@click.option(
    "--revocations",
    metavar="<file>",
    type=click.Path(),
    help="Revoke these too: what 'trust list --revoked --format json' printed.",
)
@shared.yes_option
def rotate(revocations: str | None, yes: bool) -> None:
    """Begin a new history of the change feed, after a database was restored by other means.

    'aar restore' does so by itself. After pg_restore, point-in-time recovery or an older copy of
    the machine, numbers of the feed are given a second time; with a new epoch every site notices,
    reads everything anew, and deletes nothing until 'amc registry sync --allow-deletions'.

    Revocations that are younger than what was restored are lost with it: give them again from a
    list that was kept elsewhere.

    \b
    Example:
      sudo aar epoch rotate
      sudo aar epoch rotate --revocations revoked.json
    """
    from aar.backup import settle  # noqa: PLC0415 - SQLAlchemy and pydantic cost 300 ms
    from regkit.upkeep.restore import read_revocations  # noqa: PLC0415

    revoked = []
    if revocations is not None:
        with click.open_file(revocations, "rb") as listed:
            revoked = read_revocations(listed, revocations)
    if not yes:
        click.echo("Every site reads everything anew, and holds back deletions.")
        shared.confirm(default=False)
    with opened() as registry:
        head, carried = settle(registry.database, revoked)
    for entry in carried:
        click.echo(f"revoked again: {entry.fingerprint}")
    click.echo(f"The epoch is now {head.epoch}, at change {head.seq}")

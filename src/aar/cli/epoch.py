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
@shared.yes_option
def rotate(yes: bool) -> None:
    """Begin a new history of the change feed, after a database was restored by other means.

    'aar restore' does so by itself. After pg_restore, point-in-time recovery or an older copy of
    the machine, numbers of the feed are given a second time; with a new epoch every site notices,
    reads everything anew, and deletes nothing until 'amc registry sync --allow-deletions'.

    \b
    Example:
      sudo aar epoch rotate
    """
    if not yes:
        click.echo("Every site reads everything anew, and holds back deletions.")
        shared.confirm(default=False)
    with opened() as registry:
        head = registry.feed.rotate_epoch()
    click.echo(f"The epoch is now {head.epoch}, at change {head.seq}")

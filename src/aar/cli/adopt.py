"""`aar adopt`: go on with another database or storage than the state root was used with."""

from __future__ import annotations

import click

from aar.cli.common import opened
from regkit import cli as shared


@click.command("adopt", short_help="Go on with another database or storage")
@shared.yes_option
def adopt(yes: bool) -> None:
    """Make the database and the storage that conf/main.yaml names this machine's registry.

    A registry that was used doesn't start on a database or storage that is empty or another
    registry's: it would look as if it had lost everything. 'aar migrate' takes everything along to
    new ones, and 'aar restore' brings a backup; neither needs this command. It is for what you
    brought there by other means, or to begin anew. Sites notice by the epoch of what is there, and
    hold back deletions. Nothing is copied or deleted.

    \b
    Example:
      sudo aar adopt
    """
    with opened(foreign=True) as registry:
        registry.blobs.check()
        owner = registry.blobs.owner()
        click.echo(
            f"{registry.database.name} holds {len(registry.applications.list())} applications "
            f"and {len(registry.trust.list())} trusted certificates, at change "
            f"{registry.feed.head().seq}."
        )
        if owner is not None and owner != registry.identity:
            click.echo(
                "The storage holds the files of another registry, which won't start on it again."
            )
        if not yes:
            shared.confirm(default=False)
        registry.adopt()
    click.echo("Adopted. 'aar verify' tells whether the storage has every file of it.")

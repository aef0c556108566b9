"""`aar migrate`: the registry on other engines."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from regkit import ownership, progress
from regkit.errors import Invalid
from regkit.paths import state_root

if TYPE_CHECKING:
    from aar.migrate import Migration, Plan


@click.command("migrate", short_help="Move to another database or storage, and back")
@click.option(
    "--to",
    "target",
    metavar="<file>",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file like conf/main.yaml with the new sections database, storage, or both.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be moved.")
@click.option(
    "--keep-config", is_flag=True, help="Leave conf/main.yaml alone, and say what to set."
)
def migrate(target: Path, dry_run: bool, keep_config: bool) -> None:
    """Move the registry to the database and storage that a file describes.

    A section that the file leaves out stays as it is; 'database: {}' and 'storage: {}' mean the
    embedded ones. Blobs are copied while the registry serves. When it is stopped, the rest follows
    and conf/main.yaml is changed; so run this once beside it, stop it, run this again, start it.
    After a cut, run it again. What was moved from stays as it is.

    \b
    Example:
      sudo aar migrate --to new.yaml --dry-run
      sudo aar migrate --to new.yaml
    """
    from aar.migrate import FORMER, Migration, merged, switch  # noqa: PLC0415 - SQLAlchemy
    from aar.settings import CONFIGURATION, Settings  # noqa: PLC0415
    from regkit.settings import load  # noqa: PLC0415
    from regkit.upkeep import swap  # noqa: PLC0415

    # Before becoming the owner, who may not read it.
    wanted = load(target, Settings)
    with target.open("rb") as file:
        document = _sections(file, target)
    home = state_root("aar")
    with ownership.acting_as_owner(home, "registry"):
        swap.complete(home)
        current = load(home / CONFIGURATION, Settings)
        with Migration(home, current, merged(current, wanted)) as migration:
            if not (migration.moves_database or migration.moves_storage):
                click.echo("The registry is there already: nothing to move.")
                return
            if dry_run:
                click.echo(_in_words(migration.plan()))
                return
            counts = _move(migration, lambda: None if keep_config else switch(home, document))
    rows = sum(counts.values())
    click.echo(f"Moved and compared{f', {rows} rows' if migration.moves_database else ''}.")
    if keep_config:
        click.echo(f"Take the sections of {target} into conf/main.yaml, then start the registry.")
    else:
        click.echo(
            f"conf/main.yaml names it, the former one is conf/{FORMER}. Start the registry."
        )


def _move(migration: Migration, switch: Any) -> dict[str, int]:
    with progress.transfer("Copying", migration.total()) as count:
        migration.copy_blobs(count)
    return migration.finish(progress.ignore, switch)


def _sections(file: IO[bytes], path: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415

    document = yaml.safe_load(file) or {}
    if not {"database", "storage"} & set(document):
        raise Invalid(f"{path} has neither a section 'database' nor 'storage'")
    # An empty section may be written as nothing at all.
    return {name: section or {} for name, section in document.items()}


def _in_words(plan: Plan) -> str:
    from regkit.sizes import render  # noqa: PLC0415

    parts = []
    if plan.storage:
        parts.append(f"{plan.blobs} blobs ({render(plan.size)})")
    if plan.database:
        parts.append(f"{sum(plan.rows.values())} rows")
    return f"Would move {' and '.join(parts)}"


__all__ = ["migrate"]

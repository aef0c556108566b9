"""What the commands of `aar` share: the opened registry, and groups with `ls` for `list`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from regkit import ownership
from regkit.paths import state_root

if TYPE_CHECKING:
    from aar.registry import Registry


class Group(click.Group):
    """A group with `ls` for `list`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Look a command up by its name or short name."""
        return super().get_command(ctx, "list" if cmd_name == "ls" else cmd_name)


@contextmanager
def opened(*, foreign: bool = False) -> Iterator[Registry]:
    """Open the registry of this machine's state root, as the user whom it belongs to.

    `foreign`: also when it is another than that root was used with. Read all input before: what
    root may read, that user may not.
    """
    from aar.registry import Registry  # noqa: PLC0415 - SQLAlchemy and pydantic cost 300 ms
    from aar.settings import CONFIGURATION, Settings  # noqa: PLC0415
    from regkit.settings import load  # noqa: PLC0415
    from regkit.upkeep import swap  # noqa: PLC0415

    home = state_root("aar")
    with ownership.acting_as_owner(home, "registry"):
        swap.complete(home)
        settings = load(home / CONFIGURATION, Settings)
        with Registry(home, settings, foreign=foreign) as registry:
            yield registry

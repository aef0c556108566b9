"""How far an operation is, as `regkit.progress` shows a transfer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regkit.progress import QUIET, Lines, bar, counted, transfer

if TYPE_CHECKING:
    from ams.client import Operation

__all__ = ["QUIET", "Watcher", "counted", "operation", "transfer"]

FRAME = 0.5
"""Seconds between two looks at an operation whose bar is shown."""


@dataclass(frozen=True)
class Watcher:
    """Shows an operation as it goes on; wants to see it every `every` seconds."""

    show: Callable[[Operation], None]
    every: float


@contextmanager
def operation(description: str) -> Iterator[Watcher]:
    """Show what an operation tells in its metadata.

    `progress` there may hold `done` and `total` (bytes) and `step` (a text).
    """
    if not sys.stderr.isatty():
        lines = Lines()

        def tell(state: Operation) -> None:
            step, done, total = _progress(state)
            lines.say(step or description, done, total)

        yield Watcher(tell, QUIET)
        return
    from rich.progress import SpinnerColumn  # noqa: PLC0415

    with bar(before=SpinnerColumn()) as shown:
        task = shown.add_task(description, total=None)

        def show(state: Operation) -> None:
            step, done, total = _progress(state)
            if step:
                shown.update(task, description=step)
            if done is not None and total is not None:
                shown.update(task, completed=done, total=total)

        yield Watcher(show, FRAME)


def _progress(state: Operation) -> tuple[str, int | None, int | None]:
    """Read what the service told: it comes from elsewhere, so nothing about it is certain."""
    told = state.metadata.get("progress")
    if not isinstance(told, dict):
        return "", None, None
    step, done, total = (told.get(key) for key in ("step", "done", "total"))
    return (
        "".join(c for c in step if c.isprintable())[:80] if isinstance(step, str) else "",
        done if isinstance(done, int) else None,
        total if isinstance(total, int) else None,
    )

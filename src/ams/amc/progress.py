"""How far a transfer or an operation is: bars on a terminal, a plain line now and then elsewhere.

Both go to stderr, so that output can be redirected. Colours obey NO_COLOR, which rich knows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from ams.client import Operation

FRAME = 0.5
"""Seconds between two looks at an operation whose bar is shown."""
QUIET = 10.0
"""Seconds between plain lines: what ends sooner says nothing, and a log stays short."""

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Watcher:
    """Shows an operation as it goes on; wants to see it every `every` seconds."""

    show: Callable[[Operation], None]
    every: float


@contextmanager
def transfer(description: str, total: int | None) -> Iterator[Advance]:
    """Show how much of `total` bytes has gone; the caller reports each piece."""
    if not sys.stderr.isatty():
        lines, sent = _Lines(), 0

        def count(size: int) -> None:
            nonlocal sent
            sent += size
            lines.say(description, sent, total)

        yield count
        return
    from rich.progress import TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415

    with _bar(TransferSpeedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(description, total=total)
        yield lambda size: bar.advance(task, size)


def counted(chunks: Iterable[bytes], advance: Advance) -> Iterator[bytes]:
    """Pass `chunks` on and report their sizes."""
    for chunk in chunks:
        yield chunk
        advance(len(chunk))


@contextmanager
def operation(description: str) -> Iterator[Watcher]:
    """Show what an operation tells in its metadata.

    `progress` there may hold `done` and `total` (bytes) and `step` (a text).
    """
    if not sys.stderr.isatty():
        lines = _Lines()

        def tell(state: Operation) -> None:
            step, done, total = _progress(state)
            lines.say(step or description, done, total)

        yield Watcher(tell, QUIET)
        return
    from rich.progress import SpinnerColumn  # noqa: PLC0415

    with _bar(before=SpinnerColumn()) as bar:
        task = bar.add_task(description, total=None)

        def show(state: Operation) -> None:
            step, done, total = _progress(state)
            if step:
                bar.update(task, description=step)
            if done is not None and total is not None:
                bar.update(task, completed=done, total=total)

        yield Watcher(show, FRAME)


class _Lines:
    """Says how far it is, but no more often than every QUIET seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + QUIET

    def say(self, text: str, done: int | None, total: int | None) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + QUIET
        amount = ""
        if done is not None:
            from rich.filesize import decimal  # noqa: PLC0415

            amount = f": {decimal(done)}" + (f" of {decimal(total)}" if total else "")
        click.echo(f"{text}{amount}", err=True)


def _bar(*after: ProgressColumn, before: ProgressColumn | None = None) -> Progress:
    from rich.console import Console  # noqa: PLC0415 - rich costs 60 ms
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415

    columns: list[ProgressColumn] = [
        *([before] if before else []),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        *after,
    ]
    return Progress(*columns, console=Console(stderr=True), transient=True)


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

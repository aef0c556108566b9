"""How far a transfer or a check is: a bar on a terminal, a plain line now and then elsewhere.

Both go to stderr, so that output can be redirected. Colours obey NO_COLOR, which rich knows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

QUIET = 10.0
"""Seconds between plain lines: what ends sooner says nothing, and a log stays short."""

Advance = Callable[[int], None]
"""Told of each piece, in bytes."""


def ignore(_size: int) -> None:
    """Show nothing."""


@contextmanager
def transfer(description: str, total: int | None) -> Iterator[Advance]:
    """Show how much of `total` bytes has gone; the caller reports each piece."""
    if not sys.stderr.isatty():
        lines, sent = Lines(), 0

        def count(size: int) -> None:
            nonlocal sent
            sent += size
            lines.say(description, sent, total)

        yield count
        return
    from rich.progress import TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415

    with bar(TransferSpeedColumn(), TimeRemainingColumn()) as shown:
        task = shown.add_task(description, total=total)
        yield lambda size: shown.advance(task, size)


def counted(chunks: Iterable[bytes], advance: Advance) -> Iterator[bytes]:
    """Pass `chunks` on and report their sizes."""
    for chunk in chunks:
        yield chunk
        advance(len(chunk))


class Lines:
    """Says how far it is, but no more often than every QUIET seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + QUIET

    def say(self, text: str, done: int | None, total: int | None) -> None:
        """Say what goes on and how many bytes are done, unless it was said just now."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + QUIET
        amount = ""
        if done is not None:
            from rich.filesize import decimal  # noqa: PLC0415

            amount = f": {decimal(done)}" + (f" of {decimal(total)}" if total else "")
        click.echo(f"{text}{amount}", err=True)


def bar(*after: ProgressColumn, before: ProgressColumn | None = None) -> Progress:
    """Return a bar on stderr that counts bytes and vanishes at its end."""
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

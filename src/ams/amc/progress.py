"""Progress bars on a terminal; nothing at all anywhere else.

Bars go to stderr, so that output can be redirected. Colours obey NO_COLOR, which rich knows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ams.client import Operation

Advance = Callable[[int], None]


@contextmanager
def transfer(description: str, total: int | None) -> Iterator[Advance]:
    """Show a bar over `total` bytes; the caller reports each piece."""
    if not sys.stderr.isatty():
        yield lambda _size: None
        return
    from rich.console import Console  # noqa: PLC0415 - rich costs 60 ms
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda size: bar.advance(task, size)


def counted(chunks: Iterable[bytes], advance: Advance) -> Iterator[bytes]:
    """Pass `chunks` on and report their sizes."""
    for chunk in chunks:
        yield chunk
        advance(len(chunk))


@contextmanager
def operation(description: str) -> Iterator[Callable[[Operation], None] | None]:
    """Show what an operation tells in its metadata; gives None where nothing can be shown.

    Metadata `progress` may hold `done` and `total` (bytes) and `step` (a text).
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None)

        def show(state: Operation) -> None:
            progress = state.metadata.get("progress")
            if not isinstance(progress, dict):
                return
            step, done, total = (progress.get(key) for key in ("step", "done", "total"))
            if isinstance(step, str):
                bar.update(task, description="".join(c for c in step if c.isprintable())[:80])
            if isinstance(done, int) and isinstance(total, int):
                bar.update(task, completed=done, total=total)

        yield show

"""`amc` with a terminal on all three of its streams, as a person has it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from support.ams import environment

END_SECONDS = 30


def on_terminal(
    home: Path,
    *arguments: str | Path,
    answer: bytes = b"",
    dialogue: Sequence[tuple[bytes, bytes]] = (),
    **env: str,
) -> tuple[int, str]:
    """Run `amc`; returns its exit code and all that was shown.

    `answer` is typed at once, each line of `dialogue` when its question has been shown.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ams.amc", *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(home, **{"TERM": "xterm-256color", "COLUMNS": "120", **env}),
        start_new_session=True,
    )
    try:
        os.close(theirs)
        os.write(ours, answer)
        shown, left = b"", list(dialogue)
        while piece := _read(ours):
            shown += piece
            while left and left[0][0] in shown:
                os.write(ours, left.pop(0)[1])
        assert not left, f"not asked: {left[0][0]!r}; shown: {shown!r}"
        return process.wait(END_SECONDS), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read(terminal: int) -> bytes:
    """Return what is shown next; empty when the other end is closed."""
    ready, _, _ = select.select([terminal], [], [], END_SECONDS)
    assert ready, "nothing more was shown, nor did it end"
    try:
        return os.read(terminal, 65536)
    except OSError:  # the terminal's other end is closed
        return b""

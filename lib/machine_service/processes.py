"""The one door to other programs: bounded in time, an environment of our own, output captured."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from machine_service.errors import CommandFailed

ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}
"""Nothing of a hook's: no tools, no proxy, no PYTHONPATH, no pip or locale settings."""


@dataclass(frozen=True)
class Finished:
    """How a program ended. Undecodable bytes of its output are replaced."""

    code: int
    stdout: str
    stderr: str

    @property
    def reason(self) -> str:
        """Its last line on stderr, in other words its own explanation; may be empty."""
        return last_line(self.stderr)


def execute(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
    umask: int = 0o022,
    keep_open: Sequence[int] = (),
) -> Finished:
    """Run the program at the absolute path `argv[0]` to its end, whatever its exit code.

    `timeout` is in seconds, `keep_open` are descriptors that it inherits. Raises CommandFailed
    when it can't be started, doesn't end in time, or is killed.
    """
    name = Path(argv[0]).name
    try:
        done = subprocess.run(
            [str(argument) for argument in argv],
            env={**ENVIRONMENT, **(environment or {})},
            input=None if stdin is None else stdin.encode(),
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            cwd="/",
            timeout=timeout,
            umask=umask,
            pass_fds=keep_open,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{name} didn't end within {timeout:g} s and was stopped") from None
    except OSError as error:
        raise CommandFailed(f"{argv[0]} can't be run: {error.strerror}") from error
    if done.returncode < 0:
        raise CommandFailed(f"{name} was ended by {signal.Signals(-done.returncode).name}")
    return Finished(
        done.returncode,
        done.stdout.decode(errors="replace"),
        done.stderr.decode(errors="replace"),
    )


def demand(finished: Finished, purpose: str) -> Finished:
    """Return what succeeded; raise CommandFailed with its own words for what didn't."""
    if finished.code:
        said = finished.reason or f"exit code {finished.code} and no explanation"
        raise CommandFailed(f"{purpose}: {said}")
    return finished


def last_line(text: str) -> str:
    """Return the last line that says something, without the `Error:` that introduces it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else ""

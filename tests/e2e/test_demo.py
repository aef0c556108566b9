"""The demo's scenario as tests: one registry, two publishers, two clients, a real application.

Each step asserts what it shows, see `e2e.demo.Scenario`. They build on each other: a step that is
asked for alone runs those before it, and after a failure those that follow fail with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import apk
from e2e.demo import STEPS, Narrator, Scenario
from e2e.site import Site, short_folder, until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scenario() -> Iterator[Scenario]:
    # Not tmp_path: a unix socket's path must be short.
    with short_folder() as folder, Site(folder / "machines") as site:
        yield Scenario(site, apk.find(), folder / "packages", Narrator())


@pytest.mark.parametrize("step", STEPS)
def test_step(scenario: Scenario, step: str) -> None:
    scenario.run_through(step)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "terminate"]
)
def test_interrupted_demo_leaves_nothing(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with short_folder() as folder:
        _interrupt(folder, tmp_path / "out", number, code)


def _interrupt(folder: Path, log: Path, number: signal.Signals, code: int) -> None:
    with log.open("wb") as out:
        demo = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.demo"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        until(
            "it has begun", lambda: demo.poll() is not None or b"=== Register" in log.read_bytes()
        )
        services = _descendants(demo.pid)
        assert len(services) >= 5, log.read_text()
        demo.send_signal(number)
        assert demo.wait(60) == code, log.read_text()
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
    until("its processes are gone", lambda: not any(map(_runs, services)))
    assert not list(folder.iterdir())


def _descendants(process: int) -> list[tuple[int, str]]:
    """Return what runs below a process, each by its id and the moment when it began."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except FileNotFoundError:
        return []
    found: list[tuple[int, str]] = []
    for child in map(int, children):
        if (began := _began(child)) is not None:
            found += [(child, began), *_descendants(child)]
    return found


def _runs(process: tuple[int, str]) -> bool:
    return _began(process[0]) == process[1]


def _began(process: int) -> str | None:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None

"""A registry and management services as processes on loopback, and their command lines.

Each machine is a folder: `home` is its state root, `desk` where its operator types. It knows how
to start, ask and end them; what is asked is `e2e.demo`'s business.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

START_SECONDS = 40
STOP_SECONDS = 15
COMMAND_SECONDS = 60
PATIENCE = 40
"""Seconds until a condition that must come true is given up."""

MODULES = {"aar": "aar", "ams": "ams", "amc": "ams.amc"}
SCRUBBED = ("AAR_", "AMC_", "AMS_", "SNAP", "XDG_", "NOTIFY_", "_AAR", "_AMS", "_AMC")


@dataclass(frozen=True)
class Result:
    """A command that was run on a machine, and how it ended."""

    machine: str
    line: str
    code: int
    out: str
    err: str


class Machine:
    """One service, run by `program` (aar or ams), and its operator."""

    def __init__(self, root: Path, name: str, program: str, settings: str) -> None:
        self.name = name
        self.program = program
        self.home = root / name / "state"
        self.desk = root / name / "desk"
        self._log = root / name / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.desk.mkdir(parents=True)
        (self.home / "conf").mkdir(parents=True)
        (self.home / "conf" / "main.yaml").write_text(settings)

    @property
    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(SCRUBBED)}
        user = {"XDG_CONFIG_HOME": str(self.desk / ".config")}
        return {**kept, **user, f"{self.program.upper()}_HOME": str(self.home)}

    # The service

    def start(self) -> None:
        """Start the service; `wait_ready` tells when it can be used."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.program, "serve", "--log-format", "json"],
                cwd=self.desk,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                # Ctrl-C is for the demo, which then ends the services one by one.
                start_new_session=True,
            )

    def wait_ready(self) -> int:
        """Wait until it serves, and return the port that it listens on."""
        until(f"{self.name} is ready", lambda: self.ended or self.events("ready"), START_SECONDS)
        events = self.events("ready")
        if not events:
            raise AssertionError(f"{self.program} serve ended:\n{self._log.read_text()}")
        found = re.search(r"127\.0\.0\.1:(\d+)", json.dumps(events[0]))
        if found is None:
            raise AssertionError(f"no address in {events[0]}")
        return int(found[1])

    @property
    def ended(self) -> bool:
        """Whether the service runs no more."""
        return self._process is None or self._process.poll() is not None

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the service's log entries of this name so far."""
        lines = self._log.read_text(errors="replace").splitlines(keepends=True)
        whole = [json.loads(x) for x in lines if x.startswith("{") and x.endswith("}\n")]
        return [entry for entry in whole if entry.get("event") == name]

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the service's log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def request_stop(self) -> None:
        """Ask the service to stop."""
        if not self.ended and self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def wait_stopped(self) -> None:
        """Wait until it has stopped; kill it, with its workers, when that takes too long."""
        if self._process is None:
            return
        try:
            self._process.wait(STOP_SECONDS)
        except BaseException:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            raise

    # Its operator

    def run(self, *command: str, stdin: str = "", answer: str = "") -> Result:
        """Run `aar` or `amc` on this machine.

        `stdin` names a file at the desk to pipe in; `answer` is typed at a question.
        """
        program, *arguments = command
        line = shlex.join(command)
        done = subprocess.run(
            [sys.executable, "-m", MODULES[program], *arguments],
            cwd=self.desk,
            env=self._environment,
            input=(self.desk / stdin).read_bytes() if stdin else answer.encode(),
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return Result(
            self.name,
            f"cat {stdin} | {line}" if stdin else line,
            done.returncode,
            done.stdout.decode(),
            done.stderr.decode(),
        )

    def ask(self, *command: str) -> Any:
        """Run a command with `--format json` and return what it says."""
        result = self.run(*command, "--format", "json")
        if result.code != 0:
            raise AssertionError(f"{self.name}$ {result.line}: {result.err}")
        return json.loads(result.out)

    def receive(self, source: Path, name: str) -> None:
        """Copy a file to the operator's desk, as between machines."""
        (self.desk / name).write_bytes(source.read_bytes())


class Site:
    """One registry, a publisher and a client for each of two architectures."""

    ARCHITECTURES = ("amd64", "arm64")

    def __init__(self, root: Path) -> None:
        address = "http:\n  addr: 127.0.0.1:0\n"
        self.registry = Machine(root, "registry", "aar", f"{address}  workers: 2\n")
        self.publishers, self.clients = (
            {
                arch: Machine(root, f"{role}-{arch}", "ams", f"{address}architecture: {arch}\n")
                for arch in self.ARCHITECTURES
            }
            for role in ("publisher", "client")
        )
        self.machines = [self.registry, *self.publishers.values(), *self.clients.values()]
        self.url = ""

    def __enter__(self) -> Site:
        try:
            for machine in self.machines:
                machine.start()
            port, *_ = [machine.wait_ready() for machine in self.machines]
            self.url = f"https://127.0.0.1:{port}"
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every service, each by its id; tells which didn't stop when asked."""
        with undisturbed():
            for machine in self.machines:
                machine.request_stop()
            stuck = []
            for machine in self.machines:
                try:
                    machine.wait_stopped()
                except subprocess.TimeoutExpired:
                    stuck.append(machine.name)
        if stuck:
            raise AssertionError(f"had to be killed: {', '.join(stuck)}")

    def stored(self) -> int:
        """Return how many bytes of blobs the registry holds."""
        blobs = self.registry.home / "data" / "blobs"
        return sum(path.stat().st_size for path in blobs.rglob("*") if path.is_file())


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a temporary folder whose path leaves room for a unix socket's (108 bytes, unix(7))."""
    usual = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(
        prefix="aar-demo-", dir=usual if len(usual) <= 40 else "/tmp"
    ) as folder:
        yield Path(folder)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let a second Ctrl-C wait until what must be cleaned up is."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def until(what: str, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Ask until `condition` holds; AssertionError when it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)

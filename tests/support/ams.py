"""A real `ams serve` over a temporary state root, and the real `amc` run against it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
import yaml

from ams.client.transport import BASE_URL, unix_session

START_SECONDS = 30
STOP_SECONDS = 15
COMMAND_SECONDS = 60


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(home: Path, **extra: str) -> dict[str, str]:
    """Return an environment in which `home` is the state root and nothing else leaks in."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("AMC_", "AMS_", "AAR_", "SNAP", "XDG_", "_AMC", "_AMS", "NOTIFY_"))
    }
    user = {"XDG_CONFIG_HOME": str(home / "user")}
    return {**kept, "AMS_HOME": str(home), **user, **extra}


def amc(
    home: Path,
    *arguments: str | Path,
    stdin: str | bytes = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Result:
    """Run `amc` as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "ams.amc", *map(str, arguments)],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=COMMAND_SECONDS,
        cwd=cwd or home,
        env=environment(home, **(env or {})),
        check=False,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def write_package(folder: Path, name: str, **more: object) -> Path:
    """Write the folder of a small package; `more` are further fields of its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"name": name, "version": "1.0", "instance-type": "a4.3", **more}
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    (folder / "app.apk").write_bytes(b"PK\x03\x04" + name.encode() * 100)
    return folder


@dataclass
class Service:
    """A running service. `log` holds its lines so far."""

    home: Path
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    def amc(self, *arguments: str | Path, stdin: str | bytes = "", **more: object) -> Result:
        """Run `amc` against this service."""
        return amc(self.home, *arguments, stdin=stdin, **more)  # type: ignore[arg-type]

    def ok(self, *arguments: str | Path, stdin: str | bytes = "") -> str:
        """Run `amc`, expect success, and return what it printed."""
        result = self.amc(*arguments, stdin=stdin)
        assert result.code == 0, result
        return result.out

    def fails(self, *arguments: str | Path, code: int = 1, stdin: str | bytes = "") -> str:
        """Run `amc`, expect failure told in one line, and return that line."""
        result = self.amc(*arguments, stdin=stdin)
        assert result.code == code, result
        lines = result.err.splitlines()
        assert lines and lines[-1].startswith("Error: "), result
        assert len(lines) == 1, result
        return lines[-1].removeprefix("Error: ")

    def session(self) -> requests.Session:
        """Return a session over the unix socket; URLs begin with `BASE_URL`."""
        return unix_session(self.home / "server" / "unix.socket")

    def api(self, method: str, path: str, **arguments: object) -> requests.Response:
        """Send one request over the unix socket."""
        with self.session() as session:
            return session.request(method, BASE_URL + path, timeout=60, **arguments)  # type: ignore[arg-type]

    def state(self) -> tuple[object, object, object]:
        """Return everything that a refused command must leave as it is."""
        paths = ("/1.0/applications?recursion=1", "/1.0/config", "/1.0/certificates")
        applications, config, certificates = (
            self.api("GET", path).json()["metadata"] for path in paths
        )
        return applications, config, certificates

    def logged(self, *words: str) -> bool:
        """Say whether a line of the log holds all `words`."""
        return any(all(word in line for word in words) for line in self.log)

    def open_uploads(self) -> int:
        """Count the nameless files below the state root that the service's processes hold."""
        count = 0
        for process in _family(self.process.pid):
            for link in Path(f"/proc/{process}/fd").iterdir():
                try:
                    target = str(link.readlink())
                except FileNotFoundError:
                    continue  # closed meanwhile
                count += target.startswith(str(self.home)) and target.endswith(" (deleted)")
        return count

    def kill(self) -> None:
        """kill -9 all of it, as a machine that loses power."""
        for process in _family(self.process.pid):
            os.kill(process, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def address(self) -> tuple[str, int]:
        """Return where it listens for TLS, as its ready line says."""
        line = next(line for line in self.log if _is_ready(line))
        for word in line.replace(",", " ").replace('"', " ").replace("=", " ").split():
            host, colon, port = word.removeprefix("https://").rpartition(":")
            if colon and port.isdigit() and not host.startswith("unix"):
                return ("127.0.0.1" if host == "0.0.0.0" else host), int(port)
        raise AssertionError(line)


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Wait for a condition that must come true; fails when it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def _family(process: int) -> list[int]:
    """Return a process and all below it."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(found for child in children for found in _family(int(child)))]


@contextmanager
def running(home: Path, settings: str = "") -> Iterator[Service]:
    """Start `ams serve`, wait until it is ready, and end it."""
    if not (home / "conf" / "main.yaml").exists():
        (home / "conf").mkdir(parents=True, exist_ok=True)
        (home / "conf" / "main.yaml").write_text(
            settings or "http:\n  addr: 127.0.0.1:0\narchitecture: amd64\n"
        )
    process = subprocess.Popen(
        [sys.executable, "-m", "ams", "serve"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment(home),
    )
    service = Service(home, process)
    ready = threading.Event()
    reader = threading.Thread(target=_collect, args=(service, ready), daemon=True)
    reader.start()
    try:
        if not ready.wait(START_SECONDS) or process.poll() is not None:
            raise AssertionError("ams did not start:\n" + "\n".join(service.log))
        yield service
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("ams did not stop on SIGTERM") from None
        finally:
            reader.join(STOP_SECONDS)
            assert process.stderr is not None
            process.stderr.close()


def _collect(service: Service, ready: threading.Event) -> None:
    assert service.process.stderr is not None
    for line in service.process.stderr:
        service.log.append(line.rstrip("\n"))
        if _is_ready(line):
            ready.set()
    ready.set()


def _is_ready(line: str) -> bool:
    words = line.split()
    return len(words) > 2 and words[2] == "ready"

"""`amc` on a terminal: bars, colours, questions; and Ctrl-C, which cancels the operation."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import pairs
from support.ams import Service, environment, running, until, write_package
from support.terminal import on_terminal

ESCAPE = "\x1b["


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


def test_bars_on_a_terminal_only(service: Service, tmp_path: Path) -> None:
    folder = write_package(tmp_path / "package", "with-a-bar")
    code, shown = on_terminal(service.home, "application", "create", folder)
    assert code == 0
    assert "Uploading package" in shown
    quiet = service.amc("application", "create", write_package(tmp_path / "quiet", "quiet"))
    assert (quiet.code, quiet.err) == (0, "")
    assert re.fullmatch(r"[0-9a-z]{20}\n", quiet.out)


def test_no_colour_where_it_is_not_wanted(service: Service) -> None:
    code, shown = on_terminal(service.home, "application", "show", "nobody")
    assert code == 1
    assert f"{ESCAPE}31m" in shown
    code, shown = on_terminal(service.home, "application", "show", "nobody", NO_COLOR="1")
    assert code == 1
    assert ESCAPE not in shown
    assert ESCAPE not in service.amc("application", "show", "nobody").err


COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")


def test_bars_have_no_colour_where_it_is_not_wanted(service: Service, tmp_path: Path) -> None:
    folder = write_package(tmp_path / "colourful", "colourful")
    code, shown = on_terminal(service.home, "application", "create", folder)
    assert code == 0
    assert COLOUR.search(shown)
    folder = write_package(tmp_path / "plain", "plain")
    code, shown = on_terminal(service.home, "application", "create", folder, NO_COLOR="1")
    assert code == 0
    assert "Uploading plain" in shown
    assert not COLOUR.search(shown)


def test_the_question_on_a_terminal(service: Service, tmp_path: Path) -> None:
    service.ok("application", "create", write_package(tmp_path / "package", "asked"))
    code, shown = on_terminal(service.home, "application", "delete", "asked", answer=b"n\n")
    assert code == 1
    assert "Do you want to continue? [Y/n]:" in shown
    assert "nothing was changed" in shown
    service.ok("application", "show", "asked")
    # As in the reference, a bare Enter means yes.
    code, shown = on_terminal(service.home, "application", "delete", "asked", answer=b"\n")
    assert code == 0
    assert "no application" in service.fails("application", "show", "asked")


def test_a_table_is_folded_to_the_terminal(service: Service, tmp_path: Path) -> None:
    folder = write_package(tmp_path / "package", "a-name-that-is-much-too-long-for-it")
    id_ = service.ok("application", "create", folder).strip()
    code, shown = on_terminal(service.home, "application", "list", COLUMNS="72")
    assert code == 0
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 72
    first = "".join(line[2:].partition(" ")[0] for line in lines)  # the first column
    assert id_ in first
    # Elsewhere each application has its line, whatever it takes.
    assert any(id_ in line for line in service.ok("application", "list").splitlines())


def test_control_c_while_uploading(service: Service, tmp_path: Path) -> None:
    package = tmp_path / "package.tar"
    with package.open("wb") as file:
        file.truncate(400_000_000)
    before = service.state()
    with subprocess.Popen(
        [sys.executable, "-m", "ams.amc", "application", "create", str(package)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(service.home),
    ) as process:
        try:
            until(lambda: service.open_uploads() > 0 or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "Error: interrupted"
    until(lambda: service.open_uploads() == 0)
    assert service.state() == before


def test_control_c_cancels_the_operation(service: Service, tmp_path: Path) -> None:
    pair = pairs.make(tmp_path, "registry", usage="server")
    service.ok("config", "trust", "add", pair.cert_path)
    service.ok("config", "set", "registry.mode", "manual")
    service.ok("config", "set", "registry.fingerprint", str(pair.certificate.fingerprint))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        service.ok("config", "set", "registry.url", f"https://127.0.0.1:{port}")
        with subprocess.Popen(
            [sys.executable, "-m", "ams.amc", "registry", "sync"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(service.home),
        ) as process:
            try:
                until(lambda: state(service) == "running")
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=30)
            finally:
                process.kill()
        assert (process.returncode, out) == (130, "")
        assert "The operation is being cancelled." in err
        assert "Error: interrupted" in err
        assert state(service) in ("cancelling", "cancelled")
    # The registry that never answered is gone now, so the service sees that it is to stop.
    until(lambda: state(service) == "cancelled")
    service.ok("config", "set", "registry.url", "")


def state(service: Service) -> str:
    """Return the status of the one sync that was asked for."""
    found = service.api("GET", "/1.0/operations?recursion=1").json()["metadata"]
    for status, operations in found.items():
        if any("Synchronising" in item["description"] for item in operations):
            return status
    return ""

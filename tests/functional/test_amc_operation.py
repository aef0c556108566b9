"""`amc operation …` as processes: look at, wait for and cancel what `--no-wait` left running."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from support import pairs
from support.ams import Service, environment, running, until, write_package


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


@contextmanager
def sync_that_lasts(service: Service, folder: Path) -> Iterator[str]:
    """Start a synchronisation with a registry that never answers; yields the operation's id."""
    pair = pairs.make(folder, "registry", usage="server")
    service.ok("config", "trust", "add", pair.cert_path)
    service.ok("config", "set", "registry.mode", "manual")
    service.ok("config", "set", "registry.fingerprint", str(pair.certificate.fingerprint))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        service.ok("config", "set", "registry.url", f"https://127.0.0.1:{port}")
        started = service.amc("registry", "sync", "--no-wait")
        assert (started.code, started.out) == (0, "")
        match = re.fullmatch(r"Operation ([0-9a-f-]{36}) goes on in the service\n", started.err)
        assert match, started
        until(lambda: show(service, match[1])["status"] == "Running")
        yield match[1]
    service.ok("config", "set", "registry.url", "")
    service.ok("config", "set", "registry.fingerprint", "")


def show(service: Service, operation: str) -> dict[str, object]:
    return json.loads(service.ok("operation", "show", operation, "--format", "json"))


def test_the_life_of_an_operation(service: Service, tmp_path: Path) -> None:
    with sync_that_lasts(service, tmp_path) as id_:
        listed = service.ok("operation", "ls")
        for heading in ("ID", "DESCRIPTION", "STATUS", "CANCELABLE", "CREATED", "LAST UPDATED"):
            assert heading in listed
        (line,) = [line for line in listed.splitlines() if id_ in line]
        assert "Running" in line
        message = service.fails("operation", "wait", id_, "--timeout", "100ms")
        assert "still goes on" in message
        assert service.ok("operation", "cancel", id_) == ""
        assert show(service, id_)["status"] in ("Cancelling", "Cancelled")
    # The registry that never answered is gone, so the service sees that it is to stop.
    assert "was cancelled" in service.fails("operation", "wait", id_)
    assert show(service, id_)["status_code"] == 401
    assert "ended already" in service.fails("operation", "cancel", id_)


def test_control_c_ends_the_waiting_and_not_the_operation(
    service: Service, tmp_path: Path
) -> None:
    with sync_that_lasts(service, tmp_path) as id_:
        with subprocess.Popen(
            [sys.executable, "-m", "ams.amc", "operation", "wait", id_],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(service.home),
        ) as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
            assert (out, err.strip()) == ("", "Error: interrupted")
        assert process.returncode == 130
        assert show(service, id_)["status"] == "Running"
        service.ok("operation", "cancel", id_)


def test_for_programs(service: Service, tmp_path: Path) -> None:
    service.ok("application", "create", write_package(tmp_path / "package", "programs"))
    rows = json.loads(service.ok("operation", "list", "--format", "json"))
    row = rows[0]  # the newest first
    assert (row["description"], row["status"]) == ("Creating an application", "Success")
    assert row["may_cancel"] is True
    assert row == show(service, row["id"])
    assert yaml.safe_load(service.ok("operation", "show", row["id"])) == row
    csv = service.ok("operation", "list", "--format", "csv").splitlines()
    assert csv[0] == "ID,DESCRIPTION,STATUS,CANCELABLE,CREATED,LAST UPDATED"
    assert csv[1].startswith(f"{row['id']},Creating an application,Success,true,")
    assert service.ok("operation", "wait", row["id"]) == ""


def test_what_failed_is_told_by_wait(service: Service, tmp_path: Path) -> None:
    folder = write_package(tmp_path / "package", "not a name")
    started = service.amc("application", "create", folder, "--no-wait")
    id_ = started.err.split()[1]
    message = service.fails("operation", "wait", id_)
    assert "name" in message
    assert message == show(service, id_)["err"]


@pytest.mark.parametrize("verb", ["show", "wait", "cancel"])
def test_unknown_operations(service: Service, verb: str) -> None:
    for id_ in ("nobody", "00000000-0000-0000-0000-000000000000"):
        assert "operation" in service.fails("operation", verb, id_)
    assert "amc operation list" in service.fails("operation", verb, "..")


def test_none_at_all(tmp_path: Path) -> None:
    with running(tmp_path) as fresh:
        assert fresh.ok("operation", "list", "--format", "json") == "[]\n"
        assert fresh.ok("operation", "list", "--format", "yaml") == "[]\n"

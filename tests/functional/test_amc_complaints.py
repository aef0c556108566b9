"""What users of the reference complained about: a test for each, through `amc`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import pairs
from support.ams import Service, environment, running, until, write_package


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


def as_json(service: Service, *arguments: str) -> object:
    return json.loads(service.ok(*arguments, "--format", "json"))


def test_an_empty_list_is_no_null(tmp_path: Path) -> None:
    lists = [("application", "list"), ("config", "trust", "list"), ("registry", "list")]
    lists += [("operation", "list")]
    with running(tmp_path) as fresh:
        for command in lists:
            assert fresh.ok(*command, "--format", "json") == "[]\n", command
            assert fresh.ok(*command, "--format", "yaml") == "[]\n", command
        # For people, the headings alone; for spreadsheets too.
        for command in lists:
            assert fresh.ok(*command, "--format", "csv").count("\n") == 1
            assert "null" not in fresh.ok(*command)
        assert as_json(fresh, "registry", "status")["pending"] == []  # type: ignore[index]


def test_booleans_are_no_strings(service: Service, tmp_path: Path) -> None:
    service.ok("application", "create", write_package(tmp_path / "package", "booleans"))
    found: list[bool] = []

    def walk(value: object, where: str) -> None:
        assert value not in ("true", "false", "True", "False"), where
        if isinstance(value, bool):
            found.append(value)
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{where}.{key}")
        elif isinstance(value, list):
            for item in value:
                walk(item, where)

    for command in (
        ("application", "list"),
        ("application", "show", "booleans"),
        ("config", "show"),
        ("operation", "list"),
        ("registry", "status"),
        ("remote", "list"),
    ):
        before = len(found)
        walk(as_json(service, *command), " ".join(command))
        assert len(found) > before, command


def test_removing_trust_says_so(service: Service, tmp_path: Path) -> None:
    pair = pairs.make(tmp_path, "client")
    service.ok("config", "trust", "add", pair.cert_path)
    said = service.ok("config", "trust", "remove", str(pair.certificate.fingerprint))
    assert said == f"Certificate {pair.certificate.fingerprint} is no longer trusted\n"


@pytest.mark.parametrize("hidden", ["package", "package/extra-data", "package/app.apk"])
def test_an_unreadable_folder_is_named(service: Service, tmp_path: Path, hidden: str) -> None:
    folder = write_package(tmp_path / "package", "unreadable")
    (folder / "extra-data").mkdir()
    (folder / "extra-data" / "level.bin").write_bytes(b"x")
    command = [sys.executable, "-m", "ams.amc", "application", "create", str(folder)]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("root may read everything, and setpriv isn't there to take that away")
        command = [setpriv, "--bounding-set=-dac_override,-dac_read_search", *command]
    (tmp_path / hidden).chmod(0)
    try:
        done = subprocess.run(
            command, env=environment(service.home), capture_output=True, text=True, check=False
        )
    finally:
        (tmp_path / hidden).chmod(0o700)
    assert done.returncode == 1
    assert f"{tmp_path / hidden}" in done.stderr
    assert "can't be read: check its owner and mode" in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_is_stuck_initializing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    folder = write_package(tmp_path / "package", "stuck")
    (folder / "app.apk").write_bytes(os.urandom(1 << 20) * 150)
    with running(home) as first:
        with subprocess.Popen(
            [sys.executable, "-m", "ams.amc", "application", "create", str(folder)],
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as creating:
            until(lambda: bool(statuses(first) & {"Running", "Success"}))
            at_work = statuses(first) == {"Running"}
            kill(first)
            _, err = creating.communicate(timeout=30)
        if at_work:
            assert creating.returncode == 1
            assert err.count("\n") == 1
    with running(home) as again:
        assert statuses(again) <= {"Failure", "Success"}
        rows = as_json(again, "application", "list")
        assert isinstance(rows, list)
        assert all(row["status"] == "ready" for row in rows)
        if not rows:
            message = as_json(again, "operation", "list")[0]["err"]  # type: ignore[index]
            assert "interrupted by a restart" in message
            again.ok("application", "create", folder)
        shown = as_json(again, "application", "show", "stuck")
        assert shown["versions"]["0"]["status"] == "active"  # type: ignore[index]
        again.ok("application", "delete", "stuck", "--yes")


def statuses(service: Service) -> set[str]:
    found = service.api("GET", "/1.0/operations?recursion=1").json()["metadata"]
    return {item["status"] for items in found.values() for item in items}


def kill(service: Service) -> None:
    """End the service's processes as a power cut would."""
    master = service.process.pid
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    for process in (master, *map(int, children)):
        os.kill(process, signal.SIGKILL)
    service.process.wait()


def test_what_failed_to_be_created_is_in_nobodys_way(service: Service, tmp_path: Path) -> None:
    folder = write_package(tmp_path / "package", "failing", services=[{"name": "x", "port": 0}])
    service.fails("application", "create", folder)
    assert "no application" in service.fails("application", "show", "failing")
    write_package(folder, "failing")
    service.ok("application", "create", folder)
    write_package(folder, "failing", hooks={"timeout": "never"})
    service.fails("application", "update", "failing", folder)
    shown = as_json(service, "application", "show", "failing")
    assert shown["status"] == "ready"  # type: ignore[index]
    assert list(shown["versions"]) == ["0"]  # type: ignore[index]
    service.ok("application", "delete", "failing", "--yes")


@pytest.mark.parametrize(
    "arguments",
    [
        ("application", "delete", "nobody"),
        ("application", "delete", "nobody", "--version", "0"),
        ("registry", "delete", "nobody"),
    ],
    ids=" ".join,
)
def test_existence_is_checked_before_the_question(
    service: Service, arguments: tuple[str, ...]
) -> None:
    result = service.amc(*arguments, stdin="y\n")
    assert (result.code, result.out) == (1, "")
    assert "REMOVED" not in result.err


@pytest.mark.parametrize("verb", ["pull", "push", "sync"])
def test_a_manual_sync_without_a_registry_crashes_nothing(
    service: Service, tmp_path: Path, verb: str
) -> None:
    name = f"manual-{verb}"
    service.ok("application", "create", write_package(tmp_path / "package", name))
    arguments = ("registry", verb) if verb == "sync" else ("registry", verb, name)
    assert "registry.url" in service.fails(*arguments)
    assert "ready" in service.ok("application", "list", "-f", f"name={name}")

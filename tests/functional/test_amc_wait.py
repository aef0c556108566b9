"""`amc wait` as a process: until an application or a version is as wanted, or the time is over."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.ams import Service, environment, running, write_package


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        folder = write_package(started.home / "package", "app", tags=["game", "beta"])
        started.ok("application", "create", folder)
        yield started


@contextmanager
def waiting(service: Service, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `amc wait` beside the test."""
    with subprocess.Popen(
        [sys.executable, "-m", "ams.amc", "wait", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(service.home),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    "conditions",
    [
        ("-c", "status=ready"),
        ("-c", "status=error", "-c", "status=ready"),
        ("--condition", "published=TRUE", "-c", "immutable=false"),
        ("-c", "tags=beta"),
        ("-c", "tag=beta,game"),
        ("-c", "instance-type=a4.3", "-c", "instance_type=a2.3"),
        ("-c", "status=active", "-s", "version=0"),
        ("-c", "published=true", "--selector", "version=0", "-t", "0s"),
    ],
    ids=" ".join,
)
def test_what_is_so_already_takes_no_time(service: Service, conditions: tuple[str, ...]) -> None:
    for command in (("wait",), ("application", "wait")):
        assert service.ok(*command, "app", *conditions) == ""


@pytest.mark.parametrize(
    ("conditions", "now"),
    [
        (("-c", "status=error"), "now: status=ready"),
        (("-c", "tags=beta,other"), "now: tags=game,beta"),
        (("-c", "status=ready", "-c", "published=false"), "published=true"),
        (("-c", "published=false", "-s", "version=0"), "now: published=true"),
        (("-c", "status=active", "-s", "version=1"), "now: no such version"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_the_time_is_over(service: Service, conditions: tuple[str, ...], now: str) -> None:
    message = service.fails("wait", "app", *conditions, "--timeout", "300ms")
    assert now in message
    assert "within 0.3s" in message
    assert "--timeout" in message


def test_it_waits_for_a_version_to_come_and_be_published(service: Service, tmp_path: Path) -> None:
    folder = write_package(tmp_path / "package", "growing")
    service.ok("application", "create", folder)
    with waiting(service, "growing", "-c", "published=true", "-s", "version=1") as process:
        (folder / "app.apk").write_bytes(b"the next one")
        service.ok("application", "update", "growing", folder)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0


def test_a_deletion_can_be_waited_for(service: Service, tmp_path: Path) -> None:
    service.ok("application", "create", write_package(tmp_path / "package", "going"))
    (tmp_path / "package" / "app.apk").write_bytes(b"the next one")
    service.ok("application", "update", "going", tmp_path / "package")
    service.ok("application", "delete", "going", "-v", "0", "-y")
    service.ok("wait", "going", "-c", "status=deleted", "-s", "version=0")
    # A number that was taken never comes again: nothing to wait for.
    message = service.fails("wait", "going", "-c", "status=active", "-s", "version=0")
    assert "has no version 0" in message
    with waiting(service, "going", "-c", "status=deleted") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)  # long enough that it has seen the application
        service.ok("application", "delete", "going", "-y")
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0


def test_what_is_not_there_is_told_at_once(service: Service) -> None:
    for condition in ("status=ready", "status=deleted"):
        message = service.fails("wait", "nobody", "-c", condition)
        assert "amc application list" in message


def test_what_is_deleted_meanwhile_is_not_waited_for(service: Service, tmp_path: Path) -> None:
    service.ok("application", "create", write_package(tmp_path / "package", "gone"))
    with waiting(service, "gone", "-c", "status=error") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        service.ok("application", "delete", "gone", "-y")
        _, err = process.communicate(timeout=30)
        assert process.returncode == 1
        assert err.startswith("Error: ")
        assert err.count("\n") == 1


def test_control_c(service: Service) -> None:
    with waiting(service, "app", "-c", "status=error") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (out, err.strip()) == ("", "Error: interrupted")
        assert process.returncode == 130


@pytest.mark.parametrize(
    "arguments",
    [
        ("app",),
        ("app", "-c", "status"),
        ("app", "-c", "colour=red"),
        ("app", "-c", "published=perhaps"),
        ("app", "-c", "tags=x", "-s", "version=0"),
        ("app", "-c", "status=ready", "-s", "0"),
        ("app", "-c", "status=ready", "-s", "version=first"),
        ("app", "-c", "status=ready", "-t", "soon"),
        ("-c", "status=ready"),
    ],
    ids=" ".join,
)
def test_wrong_usage(service: Service, arguments: tuple[str, ...]) -> None:
    assert "--help'" in service.fails("wait", *arguments, code=2)

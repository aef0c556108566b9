"""The fake that stands for MachineService in other tests does what the real one does."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from machine_service import (
    CommandFailed,
    InvalidConfiguration,
    MachineService,
    MachineServiceError,
    NotRunning,
    Program,
)
from support.fake_machine import FakeMachine, check_config, write_wheels
from support.fake_machine_service import FakeMachineService, failing

PROGRAM = Program(
    name="aar",
    commands=("aar",),
    home=Path("/var/snap/aar/common"),
    home_variable="AAR_HOME",
    description="Application registry",
    serve=("aar", "serve"),
)
Service = MachineService | FakeMachineService


def surface(kind: type) -> dict[str, str]:
    """Public verbs and predicates with their parameters and results."""
    return {
        name: "property" if isinstance(member, property) else str(inspect.signature(member))
        for name, member in vars(kind).items()
        if not name.startswith("_") or name == "__init__"
    }


def test_the_surface_is_the_same() -> None:
    assert surface(FakeMachineService) == surface(MachineService)


@pytest.fixture(params=["real", "fake"])
def make(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Service]:
    """Return what makes a service that refuses settings with `wrong` or `fails` in them."""
    if request.param == "fake":
        return lambda: FakeMachineService(PROGRAM, tmp_path)
    machine = FakeMachine(tmp_path / "root")

    def answer(words: list[str], stdin: str) -> tuple[int, str, str]:
        if words == ["check-config", "-"]:
            return check_config(words, stdin)
        return (1, "", "Error: no\n") if words == ["fail"] else (0, f"{words} {stdin}", "")

    machine.answers["aar"] = answer
    machine.patch(monkeypatch.setattr)
    return lambda: MachineService(PROGRAM, machine.root)


def tell(service: Service, *, refuse: str = "", down: str = "") -> str:
    """Make the next settings what the service refuses; return them."""
    if isinstance(service, FakeMachineService):
        service.refuses_configuration = refuse and "wrong: unknown key"
        service.refuses_to_start = down
    if refuse:
        return "wrong"
    return json.dumps({"fails": [{"MESSAGE": down}]}) if down else "good"


def test_a_life(make: Callable[[], Service], tmp_path: Path) -> None:
    service, wheels = make(), write_wheels(tmp_path / "wheels")
    newer = write_wheels(tmp_path / "newer", content="y")
    assert not service.installed and not service.is_running
    for early in (lambda: service.configure("good"), service.version, lambda: service.run("aar")):
        with pytest.raises(MachineServiceError, match="aar isn't installed: install it first"):
            early()
    assert [service.install(wheels), service.install(wheels)] == [True, False]
    assert (service.installed, service.version()) == (True, "0.1.0")
    for early in (service.ensure_running, service.restart):
        with pytest.raises(NotRunning, match="isn't configured yet"):
            early()
    assert [service.configure("good"), service.configure("good")] == [True, False]
    assert not service.is_running
    assert [service.ensure_running(), service.ensure_running()] == [True, False]
    assert service.is_running
    assert service.configure("good", low_port=True, writable=[Path("/srv/x")]) is True
    assert [service.ensure_running(), service.ensure_running()] == [True, False]
    assert service.install(newer) is True
    assert service.ensure_running() is False
    assert service.configure("good") is True
    assert service.ensure_running() is True
    service.stop()
    assert not service.is_running
    assert service.ensure_running() is True
    service.restart()
    assert service.is_running
    service.remove()
    service.remove(keep_data=False)
    assert not service.installed and not service.is_running


def test_refusals(make: Callable[[], Service], tmp_path: Path) -> None:
    service = make()
    service.install(write_wheels(tmp_path / "wheels"))
    good = tell(service)
    service.configure(good)
    service.ensure_running()
    with pytest.raises(InvalidConfiguration, match=r"^wrong: unknown key$"):
        service.configure(tell(service, refuse="yes"))
    assert service.is_running
    tell(service)
    assert service.ensure_running() is False
    service.configure(tell(service, down="port is in use"))
    for verb in (service.ensure_running, service.restart):
        with pytest.raises(NotRunning, match=r"^port is in use$"):
            verb()
    assert not service.is_running
    service.configure(tell(service))
    assert service.ensure_running() is True


def test_commands(make: Callable[[], Service], tmp_path: Path) -> None:
    service = make()
    service.install(write_wheels(tmp_path / "wheels"))
    if isinstance(service, FakeMachineService):
        service.scripts = {"aar": lambda words, stdin: f"{[*words]} {stdin}"}
    assert service.run("aar", "trust", "list", input="x", timeout=5) == "['trust', 'list'] x"
    if isinstance(service, FakeMachineService):
        assert service.ran == [("aar", "trust", "list")]
        service.scripts = {"aar": failing("no")}
    with pytest.raises(CommandFailed, match=r"^no$"):
        service.run("aar", "fail")
    with pytest.raises(ValueError, match="sh is no command of aar"):
        service.run("sh")


def test_the_fake_does_not_make_up_answers(tmp_path: Path) -> None:
    service = FakeMachineService(PROGRAM)
    service.install(tmp_path)
    with pytest.raises(AssertionError, match="nothing is scripted for aar"):
        service.run("aar", "trust", "list")

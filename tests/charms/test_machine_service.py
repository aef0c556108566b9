"""The verbs of MachineService on a machine in a directory."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

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

PROGRAM = Program(
    name="aar",
    commands=("aar",),
    home=Path("/var/snap/aar/common"),
    home_variable="AAR_HOME",
    description="Application registry",
    serve=("aar", "serve"),
)
SHARING = Program(**{**vars(PROGRAM), "shared": ("server",)})
SETTINGS = "log: {level: info}\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """A bare machine, which this process runs on."""
    made = FakeMachine(tmp_path / "root")
    made.answers["aar"] = check_config
    made.patch(monkeypatch.setattr)
    return made


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    return write_wheels(tmp_path / "wheels")


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    return write_wheels(tmp_path / "newer", "0.2.0", content="y")


@pytest.fixture
def service(machine: FakeMachine) -> MachineService:
    return MachineService(PROGRAM, machine.root)


@pytest.fixture
def running(service: MachineService, machine: FakeMachine, wheels: Path) -> MachineService:
    service.install(wheels)
    service.configure(SETTINGS)
    service.ensure_running()
    machine.ran()
    return service


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):o}"


def releases(machine: FakeMachine) -> list[str]:
    return sorted(path.name for path in (machine.root / "opt/aar/releases").iterdir())


# ---- install


def test_install(service: MachineService, machine: FakeMachine, wheels: Path) -> None:
    assert not service.installed
    with pytest.raises(MachineServiceError, match="aar isn't installed: install it first"):
        service.version()
    assert service.install(wheels) is True
    assert service.installed
    assert service.version() == "0.1.0"
    root = machine.root
    assert (root / "opt/aar/venv").readlink() == Path("releases", *releases(machine))
    assert (root / "opt/aar/venv/bin/aar").exists()
    assert (root / "opt/aar/venv/lib/compiled").exists()
    assert machine.state["users"]["aar"] == {
        "dir": "/var/snap/aar/common",
        "shell": "/usr/sbin/nologin",
    }
    assert machine.state["groups"]["aar"] == []
    assert mode(root / "var/snap/aar/common") == "751"
    assert (root / "usr/local/bin/aar").readlink() == Path("/opt/aar/bin/aar")
    launcher = (root / "opt/aar/bin/aar").read_text(encoding="utf-8")
    assert ': "${AAR_HOME:=/var/snap/aar/common}"\nexport AAR_HOME\n' in launcher
    assert 'exec /opt/aar/venv/bin/aar "$@"\n' in launcher
    assert mode(root / "opt/aar/bin/aar") == "755"


def test_installing_again_does_nothing(
    service: MachineService, machine: FakeMachine, wheels: Path
) -> None:
    service.install(wheels)
    before = machine.snapshot()
    machine.ran()
    assert service.install(wheels) is False
    assert machine.ran() == []
    assert machine.snapshot() == before


def test_the_name_of_a_folder_does_not_matter(
    service: MachineService, machine: FakeMachine, tmp_path: Path, wheels: Path
) -> None:
    service.install(wheels)
    assert service.install(write_wheels(tmp_path / "elsewhere")) is False


def test_pip_sees_nothing_of_ours(
    service: MachineService, machine: FakeMachine, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://example.org")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    service.install(wheels)
    seen = machine.environments["python3"]
    assert seen["PIP_CONFIG_FILE"] == "/dev/null"
    assert seen["PYTHONPATH"] == str(wheels / "pip-26.0-py3-none-any.whl")
    assert seen.keys() == {"PATH", "LANG", "HOME", "PIP_CONFIG_FILE", "PYTHONPATH"}


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("pip-*", "holds 0 wheels of pip, where one is needed"),
        ("anbox_registry-*", "holds no wheel with the command aar"),
        ("*", "holds 0 wheels of pip"),
    ],
)
def test_incomplete_wheels(
    missing: str, message: str, service: MachineService, wheels: Path
) -> None:
    for path in wheels.glob(missing):
        path.unlink()
    with pytest.raises(MachineServiceError, match=message):
        service.install(wheels)
    assert not service.installed


def test_two_pips(service: MachineService, wheels: Path) -> None:
    (wheels / "pip-25.0-py3-none-any.whl").write_bytes(b"")
    with pytest.raises(MachineServiceError, match="holds 2 wheels of pip"):
        service.install(wheels)


@pytest.mark.parametrize("tool", ["venv", "pip", "compileall"])
def test_a_failed_installation_is_done_again(
    tool: str, service: MachineService, machine: FakeMachine, wheels: Path
) -> None:
    machine.broken[tool] = "ERROR: no space left"
    with pytest.raises(CommandFailed, match=r"^can't .*: ERROR: no space left$"):
        service.install(wheels)
    assert not service.installed
    del machine.broken[tool]
    assert service.install(wheels) is True
    assert service.installed


def test_a_failed_upgrade_keeps_the_former_release(
    running: MachineService, machine: FakeMachine, newer: Path
) -> None:
    machine.broken["pip"] = "ERROR: no space left"
    with pytest.raises(CommandFailed):
        running.install(newer)
    assert running.version() == "0.1.0"
    assert running.configure(SETTINGS) is False
    assert running.ensure_running() is False
    assert len(releases(machine)) == 1


def test_half_a_release_is_removed_and_made_again(
    service: MachineService, machine: FakeMachine, wheels: Path
) -> None:
    service.install(wheels)
    release = machine.root / "opt/aar/releases" / releases(machine)[0]
    (release / ".complete").unlink()
    (release / "lib/stray").touch()
    assert not service.installed
    assert service.install(wheels) is True
    assert not (release / "lib/stray").exists()


def test_upgrade(running: MachineService, machine: FakeMachine, wheels: Path, newer: Path) -> None:
    (before,) = releases(machine)
    pid = machine.unit()["pid"]
    assert running.install(newer) is True
    assert running.version() == "0.2.0"
    # The process that runs goes on with what it was started from.
    assert machine.unit()["pid"] == pid
    assert before in releases(machine)
    assert running.configure(SETTINGS) is True
    assert running.ensure_running() is True
    assert releases(machine) == [machine.unit()["runs"]["release"].removeprefix("releases/")]
    assert before not in releases(machine)
    # Back again.
    assert running.install(wheels) is True
    running.configure(SETTINGS)
    assert running.ensure_running() is True
    assert releases(machine) == [before]


def test_a_release_that_another_process_runs_from_is_kept(
    running: MachineService, machine: FakeMachine, newer: Path
) -> None:
    (before,) = releases(machine)
    process = machine.root / "proc/7"
    process.mkdir()
    (process / "cmdline").write_text(f"/opt/aar/releases/{before}/bin/python\0", encoding="utf-8")
    running.install(newer)
    running.configure(SETTINGS)
    running.ensure_running()
    assert before in releases(machine)
    (process / "cmdline").write_text("/bin/sh\0", encoding="utf-8")
    assert running.ensure_running() is False
    assert before not in releases(machine)


def test_half_a_removed_release_is_no_release(
    running: MachineService,
    machine: FakeMachine,
    wheels: Path,
    newer: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (before,) = releases(machine)
    running.install(newer)
    running.configure(SETTINGS)

    def stuck(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as broken:
        broken.setattr(shutil, "rmtree", stuck)
        with pytest.raises(MachineServiceError, match=f"{before}: Input/output error"):
            running.ensure_running()
    (machine.root / "opt/aar/releases" / before / "bin/aar").unlink()
    running.install(wheels)
    assert (machine.root / "opt/aar/venv/bin/aar").exists()


def test_commands_that_a_release_no_longer_has(machine: FakeMachine, wheels: Path) -> None:
    former = Program(**{**vars(PROGRAM), "commands": ("aar", "aarctl")})
    MachineService(former, machine.root).install(wheels)
    links = machine.root / "usr/local/bin"
    assert {path.name for path in links.iterdir()} == {"aar", "aarctl"}
    MachineService(PROGRAM, machine.root).install(wheels)
    assert {path.name for path in links.iterdir()} == {"aar"}


@pytest.mark.parametrize("kind", ["file", "link", "dangling"])
def test_a_strangers_command_is_named_and_kept(
    kind: str, service: MachineService, machine: FakeMachine, wheels: Path
) -> None:
    path = machine.root / "usr/local/bin/aar"
    if kind == "file":
        path.write_text("stranger", encoding="utf-8")
    else:
        path.symlink_to("/bin/true" if kind == "link" else "/nowhere")
    before = machine.snapshot()
    with pytest.raises(MachineServiceError, match=r"^/usr/local/bin/aar is somebody else's"):
        service.install(wheels)
    assert machine.snapshot() == before
    service.remove(keep_data=False)
    assert machine.snapshot()["files"] == before["files"]


def test_a_strangers_user_is_left_alone(
    service: MachineService, machine: FakeMachine, wheels: Path
) -> None:
    machine.add_user("aar", "/home/aar")
    with pytest.raises(MachineServiceError, match="another user aar, whose home is /home/aar"):
        service.install(wheels)
    with pytest.raises(MachineServiceError, match="another user aar"):
        service.remove(keep_data=False)
    assert machine.state["users"]["aar"]["shell"] == "/bin/bash"


def test_a_user_that_was_made_half_way(
    service: MachineService, machine: FakeMachine, wheels: Path
) -> None:
    machine.add_user("aar", "/var/snap/aar/common")
    service.install(wheels)
    assert machine.state["users"]["aar"]["shell"] == "/usr/sbin/nologin"


def test_a_tool_that_fails_is_named(
    service: MachineService, machine: FakeMachine, wheels: Path
) -> None:
    machine.broken["useradd"] = "useradd: cannot lock /etc/passwd"
    with pytest.raises(MachineServiceError, match=r"^useradd .* failed with exit code 1"):
        service.install(wheels)
    del machine.broken["useradd"]
    assert service.install(wheels) is True


def test_what_is_shared_is_for_the_operator(machine: FakeMachine, wheels: Path) -> None:
    service = MachineService(SHARING, machine.root)
    service.install(wheels)
    assert machine.state["groups"]["aar"] == ["ubuntu"]
    assert mode(machine.root / "var/snap/aar/common/server") == "750"
    machine.ran()
    service.install(wheels)
    assert machine.ran() == []


def test_a_machine_without_that_operator(machine: FakeMachine, wheels: Path) -> None:
    state = machine.state
    del state["users"]["ubuntu"]
    machine._save(state)
    MachineService(SHARING, machine.root).install(wheels)
    assert machine.state["groups"]["aar"] == []


@pytest.mark.parametrize("name", ["conf", "server"])
def test_root_follows_no_link_in_the_state_root(
    name: str, machine: FakeMachine, wheels: Path, tmp_path: Path
) -> None:
    """The service, or who has taken it over, may put one there."""
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    home = machine.root / "var/snap/aar/common"
    home.mkdir(parents=True)
    (home / name).symlink_to(victim)
    service = MachineService(SHARING, machine.root)
    with pytest.raises(MachineServiceError, match=f"{name} is in the way"):
        service.install(wheels)
        service.configure(SETTINGS)
    assert (mode(victim), list(victim.iterdir())) == ("700", [])


# ---- configure


def test_configure(service: MachineService, machine: FakeMachine, wheels: Path) -> None:
    with pytest.raises(MachineServiceError, match="isn't installed"):
        service.configure(SETTINGS)
    service.install(wheels)
    assert service.configure(SETTINGS) is True
    path = machine.root / "var/snap/aar/common/conf/main.yaml"
    assert path.read_text(encoding="utf-8") == SETTINGS
    assert (mode(path), mode(path.parent)) == ("640", "750")
    unit = machine.root / "etc/systemd/system/aar.service"
    assert mode(unit) == "644"
    assert re.search(r"^Environment=AAR_GENERATION=[0-9a-f]{16}$", unit.read_text(), re.M)


def test_configuring_again_does_nothing(running: MachineService, machine: FakeMachine) -> None:
    before = machine.snapshot()
    assert running.configure(SETTINGS, writable=iter([])) is False
    assert machine.ran() == []
    assert machine.snapshot() == before


@pytest.mark.parametrize("first", [True, False])
def test_refused_settings_change_nothing(
    first: bool, service: MachineService, machine: FakeMachine, wheels: Path
) -> None:
    service.install(wheels)
    if not first:
        service.configure(SETTINGS)
        service.ensure_running()
    before = machine.snapshot()
    with pytest.raises(InvalidConfiguration, match=r"^wrong: unknown key$"):
        service.configure("wrong: 1\n", writable=[Path("/srv/new")])
    assert machine.snapshot() == before


@pytest.mark.parametrize("code", [2, 3, 127])
def test_a_check_that_fails_otherwise_says_nothing_of_the_settings(
    code: int, service: MachineService, machine: FakeMachine, wheels: Path
) -> None:
    service.install(wheels)
    machine.answers["aar"] = lambda *_: (code, "", "Error: no such command\n")
    with pytest.raises(MachineServiceError, match="aar check-config: no such command") as raised:
        service.configure(SETTINGS)
    assert type(raised.value) is MachineServiceError


def test_the_check_is_done_once_per_release_and_settings(
    running: MachineService, machine: FakeMachine, newer: Path
) -> None:
    running.configure(SETTINGS)
    assert machine.ran() == []
    running.install(newer)
    machine.ran()
    running.configure(SETTINGS)
    assert machine.ran() == ["aar check-config -"]


def test_edited_settings_are_put_back(running: MachineService, machine: FakeMachine) -> None:
    path = machine.root / "var/snap/aar/common/conf/main.yaml"
    path.write_text("edited", encoding="utf-8")
    path.chmod(0o666)
    assert running.configure(SETTINGS) is True
    assert (path.read_text(encoding="utf-8"), mode(path)) == (SETTINGS, "640")


def test_a_strangers_unit_is_named_and_kept(
    service: MachineService, machine: FakeMachine, wheels: Path
) -> None:
    service.install(wheels)
    unit = machine.root / "etc/systemd/system/aar.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    with pytest.raises(MachineServiceError, match=r"^/etc/systemd/system/aar\.service is some"):
        service.configure(SETTINGS)
    service.remove(keep_data=False)
    assert "ExecStart=/bin/true" in unit.read_text(encoding="utf-8")


def test_more_to_write_to(service: MachineService, machine: FakeMachine, wheels: Path) -> None:
    service.install(wheels)
    service.configure(SETTINGS, writable=[Path("/srv/b b"), Path("/srv/a"), Path("/srv/a")])
    unit = (machine.root / "etc/systemd/system/aar.service").read_text(encoding="utf-8")
    assert '\nReadWritePaths=/var/snap/aar/common /srv/a "/srv/b b"\n' in unit
    assert mode(machine.root / "srv/a") == "750"
    (machine.root / "srv/a").chmod(0o700)  # an operator's from here on
    service.configure(SETTINGS, writable=[Path("/srv/a")])
    assert mode(machine.root / "srv/a") == "700"


@pytest.mark.parametrize(
    "path",
    [
        "srv",
        "/srv/../etc",
        "/",
        "/var",
        "/opt",
        "/etc",
        "/etc/aar",
        "/usr/share/x",
        "/home/ubuntu/x",
        "/root",
        "/tmp/x",
        "/opt/aar",
        "/opt/aar/venv",
        "/srv/a\nExecStartPre=/bin/x",
    ],
)
def test_places_that_no_service_writes_to(path: str, running: MachineService) -> None:
    with pytest.raises(InvalidConfiguration, match=r"name (one|a directory of its own)"):
        running.configure(SETTINGS, writable=[Path(path)])


# ---- ensure_running


def test_nothing_runs_before_it_is_configured(service: MachineService, wheels: Path) -> None:
    service.install(wheels)
    assert not service.is_running
    for verb in (service.ensure_running, service.restart):
        with pytest.raises(NotRunning, match="aar isn't configured yet"):
            verb()


def test_start(service: MachineService, machine: FakeMachine, wheels: Path) -> None:
    service.install(wheels)
    service.configure(SETTINGS)
    machine.ran()
    assert service.ensure_running() is True
    assert service.is_running
    assert machine.unit()["enabled"]
    assert machine.unit()["runs"]["settings"] == SETTINGS
    machine.ran()
    assert service.ensure_running() is False
    assert machine.ran() == []


def test_a_change_restarts(running: MachineService, machine: FakeMachine) -> None:
    changes: list[tuple[str, dict[str, Any]]] = [
        ("log: {level: debug}\n", {}),
        (SETTINGS, {"low_port": True}),
        (SETTINGS, {"writable": [Path("/srv/a")]}),
        (SETTINGS, {}),
    ]
    for content, more in changes:
        pid = machine.unit()["pid"]
        assert running.configure(content, **more) is True
        assert machine.unit()["pid"] == pid
        assert running.ensure_running() is True
        assert machine.unit()["pid"] != pid
        assert machine.unit()["runs"]["settings"] == content
        assert running.ensure_running() is False


@pytest.mark.parametrize("reload", [True, False])
@pytest.mark.parametrize("restart", [True, False])
def test_what_happens_between_writing_and_restarting(
    reload: bool, restart: bool, running: MachineService, machine: FakeMachine
) -> None:
    """An operator's daemon-reload and restart: it counts only if it did start what is wanted."""
    running.configure("log: {level: debug}\n")
    if reload:
        machine.systemctl("daemon-reload")
    if restart:
        machine.systemctl("restart", "aar.service")
    assert running.ensure_running() is not (reload and restart)
    assert machine.unit()["runs"]["settings"] == "log: {level: debug}\n"
    assert machine.unit()["runs"]["unit"] == machine.unit()["loaded"]
    assert running.ensure_running() is False


@pytest.mark.parametrize("verb", ["stop", "disable"])
def test_what_an_operator_switched_off(
    verb: str, running: MachineService, machine: FakeMachine
) -> None:
    machine.systemctl(verb, "aar.service")
    assert running.ensure_running() is (verb == "stop")
    assert running.is_running
    assert machine.unit()["enabled"]


def test_a_start_by_somebody_else_is_waited_for(
    running: MachineService, machine: FakeMachine
) -> None:
    machine.change_unit(active="activating")
    assert not running.is_running
    pid = machine.unit()["pid"]
    assert running.ensure_running() is True
    assert (running.is_running, machine.unit()["pid"]) == (True, pid)


def test_a_crash_loop_is_ended(running: MachineService, machine: FakeMachine) -> None:
    """systemd waits before it tries again, or has given up: now is the time."""
    for active in ("activating", "failed"):
        machine._end(machine.unit()["pid"])
        machine.change_unit(active=active, pid=0, failures=5)
        assert running.ensure_running() is True
        assert running.is_running


def test_a_reload_is_no_reason_to_restart(running: MachineService, machine: FakeMachine) -> None:
    machine.change_unit(active="reloading")
    assert running.is_running
    assert running.ensure_running() is False


def test_a_process_that_ends_while_we_look(running: MachineService, machine: FakeMachine) -> None:
    (machine.root / "proc" / str(machine.unit()["pid"]) / "environ").unlink()
    assert running.ensure_running() is True


def line(text: str, **fields: str) -> dict[str, object]:
    return {"MESSAGE": text, **fields}


SYSTEMD = {"INVOCATION_ID": "1"}


@pytest.mark.parametrize(
    ("journal", "message"),
    [
        ([line("starting"), line("Error: port 3000 is in use"), line(" ")], "port 3000 is in use"),
        (
            [
                line("aar.service: namespacing: /run/systemd/unit-root/srv/x: missing", **SYSTEMD),
                line("aar.service: Failed at step NAMESPACE", **SYSTEMD),
            ],
            r"aar\.service: namespacing: /srv/x: missing",
        ),
        ([line("my last words"), line("aar.service: Failed", **SYSTEMD)], "my last words"),
        ([{"MESSAGE": [27, 91]}], r"aar\.service failed with result exit-code"),
        ([], r"aar\.service failed with result exit-code"),
    ],
)
def test_why_it_does_not_start(
    journal: list[dict[str, object]],
    message: str,
    running: MachineService,
    machine: FakeMachine,
) -> None:
    running.configure(json.dumps({"fails": journal}))
    for _ in range(4):  # more often than the limit on starts allows
        with pytest.raises(NotRunning, match=f"^{message}$"):
            running.ensure_running()
    with pytest.raises(NotRunning, match=message):
        running.restart()
    running.configure(SETTINGS)
    assert running.ensure_running() is True


def test_a_masked_unit(running: MachineService, machine: FakeMachine) -> None:
    machine.systemctl("stop", "aar.service")
    machine.change_unit(masked=True)
    with pytest.raises(NotRunning, match="systemctl unmask"):
        running.ensure_running()


def test_an_override_that_hides_the_generation_is_no_reason_to_restart_for_ever(
    running: MachineService, machine: FakeMachine
) -> None:
    machine.change_unit(drop_in="FOO=1")
    with pytest.raises(MachineServiceError, match=r"systemctl cat aar\.service"):
        running.ensure_running()
    assert machine.ran() == ["systemctl daemon-reload"]
    assert running.is_running


def test_restart_and_stop(running: MachineService, machine: FakeMachine) -> None:
    pid = machine.unit()["pid"]
    running.restart()
    assert machine.unit()["pid"] != pid
    running.stop()
    running.stop()
    assert not running.is_running
    assert machine.unit()["enabled"]


def test_stopping_what_is_not_there(service: MachineService, machine: FakeMachine) -> None:
    service.stop()
    assert machine.ran() == []


def test_systemd_that_fails_is_quoted(running: MachineService, machine: FakeMachine) -> None:
    machine.broken["systemctl stop"] = "Failed to connect to bus"
    with pytest.raises(MachineServiceError, match=r"stop failed for aar\.service: Failed to conn"):
        running.stop()


# ---- run


def test_run(running: MachineService, machine: FakeMachine) -> None:
    seen = []
    machine.answers["aar"] = lambda words, stdin: seen.append((words, stdin)) or (0, "ünï\n", "w")
    assert running.run("aar", "trust", "list", input="doc") == "ünï\n"
    assert seen == [(["trust", "list"], "doc")]
    assert machine.environments["aar"] == {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/root",
        "AAR_HOME": "/var/snap/aar/common",
    }


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        ("warning\nError: certificate already exists\n\n", "certificate already exists"),
        ("", "aar failed with exit code 1 and said nothing"),
    ],
)
def test_a_failed_command(
    stderr: str, message: str, running: MachineService, machine: FakeMachine
) -> None:
    machine.answers["aar"] = lambda *_: (1, "", stderr)
    with pytest.raises(CommandFailed, match=f"^{message}$"):
        running.run("aar", "trust", "add", "s3cret")


def test_commands_are_the_programs_own(running: MachineService) -> None:
    with pytest.raises(ValueError, match="sh is no command of aar"):
        running.run("sh")


def test_no_command_before_it_is_installed(service: MachineService) -> None:
    with pytest.raises(MachineServiceError, match="isn't installed"):
        service.run("aar")


# ---- remove


@pytest.mark.parametrize("runs", [True, False])
def test_remove_keeps_the_data(
    runs: bool, running: MachineService, machine: FakeMachine, wheels: Path
) -> None:
    data = machine.root / "var/snap/aar/common/data"
    data.mkdir()
    (data / "aar.db").touch()
    if not runs:
        running.stop()
    running.remove()
    assert not running.is_running and not running.installed
    files = machine.snapshot()["files"]
    assert {name for name in files if "aar" in name} == {
        "var/snap/aar",
        "var/snap/aar/common",
        "var/snap/aar/common/conf",
        "var/snap/aar/common/conf/main.yaml",
        "var/snap/aar/common/data",
        "var/snap/aar/common/data/aar.db",
    }
    assert "aar" in machine.state["users"]
    assert not machine.unit()["enabled"] and machine.unit()["loaded"] is None
    machine.ran()
    running.remove()
    assert machine.ran() == []
    running.install(wheels)
    running.configure(SETTINGS)
    assert running.ensure_running() is True
    assert (data / "aar.db").exists()


def test_remove_everything(machine: FakeMachine, wheels: Path) -> None:
    service, before = MachineService(SHARING, machine.root), machine.snapshot()
    service.install(wheels)
    service.configure(SETTINGS)
    service.ensure_running()
    for _ in range(2):
        service.remove(keep_data=False)
        after = machine.snapshot()
        assert {k: after[k] for k in ("users", "groups")} == {
            k: before[k] for k in ("users", "groups")
        }
        # Directories that others use too.
        assert set(after["files"]) - set(before["files"]) == {
            "etc",
            "etc/systemd",
            "etc/systemd/system",
            "opt",
            "var",
            "var/snap",
        }


def test_remove_a_service_that_failed(running: MachineService, machine: FakeMachine) -> None:
    running.configure(json.dumps({"fails": []}))
    with pytest.raises(NotRunning):
        running.ensure_running()
    running.remove()
    assert machine.unit()["active"] == "inactive"


def test_remove_what_was_never_there(service: MachineService, machine: FakeMachine) -> None:
    before = machine.snapshot()["files"]
    service.remove(keep_data=False)
    assert machine.snapshot()["files"] == before


def test_removal_leaves_strangers_files(running: MachineService, machine: FakeMachine) -> None:
    (machine.root / "opt/aar/notes").touch()
    (machine.root / "var/snap/aar/mine").touch()
    running.remove(keep_data=False)
    assert [path.name for path in (machine.root / "opt/aar").iterdir()] == ["notes"]
    assert [path.name for path in (machine.root / "var/snap/aar").iterdir()] == ["mine"]


# ---- faults of the machine


def test_what_the_file_system_refuses_is_explained(
    service: MachineService, machine: FakeMachine, wheels: Path
) -> None:
    (machine.root / "opt").write_text("a file", encoding="utf-8")
    with pytest.raises(MachineServiceError, match=r"/opt.*: (File exists|Not a directory)$"):
        service.install(wheels)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Aar"},
        {"name": "aar/x"},
        {"home": Path("relative")},
        {"home": Path("/var/a b")},
        {"home": Path("/var/../etc")},
        {"home_variable": "A B"},
        {"commands": ("ams",)},
        {"commands": ("aar", "../x")},
        {"serve": ("ams", "serve")},
        {"description": "two\nlines"},
        {"shared": ("../x",)},
    ],
)
def test_programs_that_cannot_be_installed(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Program(**{**vars(PROGRAM), **wrong})  # type: ignore[arg-type]

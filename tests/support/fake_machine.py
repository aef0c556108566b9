"""A machine in a directory: accounts, systemd and the programs that `machine_service` calls.

Its state is in files, so a process that is killed leaves behind what it had done, as on a real
one. It refuses every program, option and unit that it doesn't know. Patched in at `subprocess`,
`pwd` and `grp`.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import json
import os
import pwd
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

Patch = Callable[[Any, str, Any], None]
"""`setattr` or pytest's."""

EXPECTED_ENVIRONMENT = {"PATH", "LANG", "HOME"}
FAKES_OWN = ("/.machine/", "/proc/")
"""Parts of the paths that no crash leaves half-way: the fake's memory, and the kernel's files."""
RUN = "fake_machine.run"
"""Audit event before a tool does anything."""


class FakeMachine:
    """What there is below `root`; any number of objects may look at the same machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._file = root / ".machine/state"
        if not self._file.exists():
            self._file.parent.mkdir(parents=True)
            (root / "proc").mkdir()
            (root / "usr/local/bin").mkdir(parents=True)
            self._save(
                {
                    "users": {"ubuntu": {"dir": "/home/ubuntu", "shell": "/bin/bash"}},
                    "groups": {"ubuntu": []},
                    "units": {},
                    "starts": 0,
                    "ran": [],
                    "journal": {},
                }
            )
        self.answers: dict[str, Callable[[list[str], str], tuple[int, str, str]]] = {}
        """What the program's own commands do, by the name of the command."""
        self.broken: dict[str, str] = {}
        """What a tool says instead of doing its work, by its name and verb, such as `pip`."""
        self.environments: dict[str, dict[str, str]] = {}
        """The variables that each tool was last called with."""

    # ---- for tests

    def patch(self, patch: Patch = setattr) -> None:
        """Be the machine that this process runs on."""
        import charmhelpers.osplatform  # noqa: PLC0415

        patch(charmhelpers.osplatform, "_get_platform_from_fs", lambda: "Ubuntu")
        patch(subprocess, "run", self._run)
        patch(subprocess, "call", lambda argv, **_: self._run(argv).returncode)
        patch(subprocess, "check_call", self._check_call)
        patch(pwd, "getpwnam", self._getpwnam)
        patch(grp, "getgrnam", self._getgrnam)

    @property
    def state(self) -> dict[str, Any]:
        return json.loads(self._file.read_text(encoding="utf-8"))

    def ran(self) -> list[str]:
        """Return what was run since the last call, without what only looks."""
        state = self.state
        ran, state["ran"] = state["ran"], []
        self._save(state)
        return ran

    def unit(self, name: str = "aar.service") -> dict[str, Any]:
        return self.state["units"].get(name, {})

    def change_unit(self, name: str = "aar.service", **values: Any) -> None:
        """Do to a unit what an operator or a fault does."""
        state = self.state
        state["units"].setdefault(name, _new_unit()).update(values)
        self._save(state)

    def add_user(self, name: str, home: str) -> None:
        state = self.state
        state["users"][name] = {"dir": home, "shell": "/bin/bash"}
        self._save(state)

    def systemctl(self, *arguments: str) -> None:
        """Do what an operator does by hand."""
        assert self._dispatch(["/usr/bin/systemctl", *arguments], "").returncode == 0

    def snapshot(self) -> dict[str, Any]:
        """Return all that lasts, for comparing two machines: files, accounts, what runs."""
        state, files = self.state, {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if name.startswith((".machine", "proc/")):
                continue
            if path.is_symlink():
                files[name] = f"-> {path.readlink()}"
            else:
                content = path.read_text(encoding="utf-8") if path.is_file() else ""
                files[name] = f"{path.stat().st_mode:o} {content}"
        units = {
            name: {k: unit[k] for k in ("enabled", "active", "loaded", "runs")}
            for name, unit in state["units"].items()
        }
        return {**{k: state[k] for k in ("users", "groups")}, "units": units, "files": files}

    # ---- the doors

    def _run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        words = [os.fspath(word) for word in argv]
        environment = options.get("env")
        if environment is not None:
            assert environment.keys() >= EXPECTED_ENVIRONMENT
            assert not environment.keys() & {"PYTHONHOME", "JUJU_UNIT_NAME", "PIP_INDEX_URL"}
            self.environments[Path(words[0]).name] = environment
            if "-m" in words:
                self._require_lock(options["pass_fds"])
        done = self._dispatch(words, (options.get("input") or b"").decode())
        return subprocess.CompletedProcess(
            words, done.returncode, done.stdout.encode(), done.stderr.encode()
        )

    def _require_lock(self, inherited: Sequence[int]) -> None:
        """What works on a release holds its lock, longer than a caller that is killed."""
        (lock,) = inherited
        base = self.root / "opt/aar"
        other = os.open(base, os.O_RDONLY)
        try:
            assert os.path.sameopenfile(lock, other)
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(other)

    def _check_call(self, argv: Sequence[str], **_: Any) -> int:
        done = self._run(argv)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, list(argv))
        return 0

    def _getpwnam(self, name: str) -> Any:
        user = self.state["users"].get(name)
        if user is None:
            raise KeyError(name)
        return SimpleNamespace(
            pw_uid=os.getuid(), pw_gid=os.getgid(), pw_dir=user["dir"], pw_shell=user["shell"]
        )

    def _getgrnam(self, name: str) -> Any:
        groups = self.state["groups"]
        if name not in groups:
            raise KeyError(name)
        return SimpleNamespace(gr_gid=os.getgid(), gr_mem=groups[name])

    def _save(self, state: dict[str, Any]) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(state), encoding="utf-8")
        temporary.replace(self._file)

    # ---- the programs

    def _dispatch(self, argv: list[str], stdin: str) -> subprocess.CompletedProcess[str]:
        name = Path(argv[0]).name
        state = self.state
        looks = name == "journalctl" or argv[1:2] == ["show"]
        if not looks and name != "juju-log":
            state["ran"].append(" ".join([name, *argv[1:3]]))
            self._save(state)
            sys.audit(RUN)
        if name in ("python3", "python"):
            key = argv[argv.index("-m") + 1]
        else:
            key = f"{name} {argv[1]}" if name == "systemctl" else name
        if key in self.broken:
            return _done(1, stderr=f"something\n{self.broken[key]}\n")
        if Path(argv[0]).parent == self.root / "opt/aar/venv/bin" and name != "python":
            assert Path(argv[0]).exists(), f"{argv[0]} isn't installed"
            return _done(*self.answers[name](argv[1:], stdin))
        tools: dict[str, Callable[[list[str]], subprocess.CompletedProcess[str]]] = {
            "systemctl": self._systemctl,
            "journalctl": self._journalctl,
            "addgroup": self._addgroup,
            "useradd": self._useradd,
            "usermod": self._usermod,
            "gpasswd": self._gpasswd,
            "userdel": self._userdel,
            "groupdel": self._groupdel,
            "venv": self._venv,
            "pip": self._pip,
            "compileall": self._compileall,
        }
        if name == "juju-log":  # as outside of a hook
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return tools[key.partition(" ")[0]](argv[1:])

    def _addgroup(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        option, name = words
        state = self.state
        assert option == "--system" and name not in state["groups"]
        state["groups"][name] = []
        self._save(state)
        return _done()

    def _useradd(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        home_option, home, system, group_option, group, name = words
        assert (home_option, system, group_option) == ("--home", "--system", "-g")
        state = self.state
        assert group in state["groups"] and name not in state["users"]
        state["users"][name] = {"dir": home, "shell": "/bin/sh"}
        self._save(state)
        return _done()

    def _usermod(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        option, shell, name = words
        state = self.state
        assert option == "--shell"
        state["users"][name]["shell"] = shell
        self._save(state)
        return _done()

    def _gpasswd(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        option, user, group = words
        state = self.state
        assert option == "-a" and user in state["users"]
        state["groups"][group].append(user)
        self._save(state)
        return _done()

    def _userdel(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        (name,) = words
        state = self.state
        assert not any(unit["pid"] for unit in state["units"].values()), "its process runs"
        del state["users"][name]
        if not state["groups"].get(name, [name]):
            del state["groups"][name]
        self._save(state)
        return _done()

    def _groupdel(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        (name,) = words
        state = self.state
        assert name not in state["users"], "it is a user's primary group"
        del state["groups"][name]
        self._save(state)
        return _done()

    def _venv(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        *options, target = words
        assert options == ["-I", "-m", "venv", "--without-pip"]
        (Path(target) / "bin").mkdir(parents=True, exist_ok=True)
        (Path(target) / "lib").mkdir(exist_ok=True)
        (Path(target) / "bin/python").write_text("python\n", encoding="utf-8")
        return _done()

    def _pip(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        first_wheel = words.index("--no-compile") + 1
        options, wheels = words[:first_wheel], words[first_wheel:]
        for needed in ("--no-index", "--no-deps", "--no-cache-dir", "--isolated", "--no-input"):
            assert needed in options
        target = Path(options[options.index("--python") + 1]).parent
        assert self.environments["python3"]["PYTHONPATH"].endswith(".whl")
        assert (target / "python").exists() and wheels
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    (target.parent / "lib" / Path(name).name).write_bytes(archive.read(name))
            if "anbox" in wheel:
                for command in ("aar", "ams", "amc"):
                    (target / command).write_text(f"#!{target}/python\n", encoding="utf-8")
        return _done()

    def _compileall(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        folder = Path(words[-1])
        assert any(folder.iterdir())
        (folder / "compiled").write_text("compiled", encoding="utf-8")
        return _done()

    def _journalctl(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        if words == ["--sync"]:
            return _done()
        *options, match = words
        assert set(options) == {"--quiet", "--no-pager", "--output=json", "--lines=100"}
        field, _, invocation = match.partition("=")
        assert field == "_SYSTEMD_INVOCATION_ID"
        lines = self.state["journal"].get(invocation, [])
        return _done(stdout="".join(json.dumps(line) + "\n" for line in lines))

    # ---- systemd

    def _systemctl(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        verb, *rest = [word for word in words if word != "--quiet"]
        verbs: dict[str, Callable[..., subprocess.CompletedProcess[str]]] = {
            "show": self._show,
            "daemon-reload": self._daemon_reload,
            "enable": lambda unit: self._enable(unit, enabled=True),
            "disable": lambda unit: self._enable(unit, enabled=False),
            "stop": self._stop,
            "start": lambda unit: self._start(unit, again=False),
            "restart": lambda unit: self._start(unit, again=True),
            "reset-failed": self._reset_failed,
        }
        return verbs[verb](*rest)

    def _text(self, name: str) -> str | None:
        path = self.root / "etc/systemd/system" / name
        return path.read_text(encoding="utf-8") if path.exists() else None

    def _known(self, name: str) -> dict[str, Any]:
        """Return a unit as systemd knows it, reading its file when it is asked for first."""
        state = self.state
        unit = state["units"].setdefault(name, _new_unit())
        if unit["loaded"] is None and not unit["pid"]:
            unit["loaded"] = self._text(name)
        self._save(state)
        return unit

    def _show(self, option: str, name: str) -> subprocess.CompletedProcess[str]:
        unit, text = self._known(name), self._text(name)
        loaded = unit["loaded"]
        load = "masked" if unit["masked"] else "loaded" if loaded is not None else "not-found"
        shown = {
            "LoadState": load,
            "ActiveState": unit["active"],
            "MainPID": str(unit["pid"]),
            "UnitFileState": "enabled" if unit["enabled"] else "disabled" if loaded else "",
            "NeedDaemonReload": "yes" if loaded != text else "no",
            "Environment": unit["drop_in"] or " ".join(_environment(loaded)),
            "InvocationID": unit["invocation"],
            "Result": unit["result"],
        }
        asked = option.removeprefix("--property=").split(",")
        return _done(stdout="".join(f"{key}={shown[key]}\n" for key in asked))

    def _daemon_reload(self) -> subprocess.CompletedProcess[str]:
        state = self.state
        for name, unit in state["units"].items():
            unit["loaded"] = self._text(name)
        self._save(state)
        return _done()

    def _enable(self, name: str, *, enabled: bool) -> subprocess.CompletedProcess[str]:
        if self._text(name) is None:
            return _done(1, stderr=f"Unit file {name} does not exist.\n")
        self._daemon_reload()  # which systemctl does here too
        self._known(name)
        self.change_unit(name, enabled=enabled)
        return _done()

    def _stop(self, name: str) -> subprocess.CompletedProcess[str]:
        unit = self._known(name)
        if unit["loaded"] is None and not unit["pid"]:
            return _done(5, stderr=f"Failed to stop {name}: Unit {name} not loaded.\n")
        self._end(unit["pid"])
        active = "failed" if unit["active"] == "failed" else "inactive"
        self.change_unit(name, active=active, pid=0, runs=None)
        return _done()

    def _reset_failed(self, name: str) -> subprocess.CompletedProcess[str]:
        unit = self._known(name)
        if unit["loaded"] is None and unit["active"] != "failed":
            return _done(1, stderr=f"Unit {name} not loaded.\n")
        changes = {"active": "inactive"} if unit["active"] == "failed" else {}
        self.change_unit(name, failures=0, **changes)
        return _done()

    def _start(self, name: str, *, again: bool) -> subprocess.CompletedProcess[str]:
        unit = self._known(name)
        if unit["loaded"] is None or unit["masked"] or unit["failures"] > 1:
            return _done(1, stderr=f"Failed to start {name}.\n")
        if unit["pid"] and not again:
            self.change_unit(name, active="active")  # waits until it is ready
            return _done()
        self._end(unit["pid"])
        state = self.state
        state["starts"] += 1
        pid, invocation = 100 + state["starts"], f"{state['starts']:032x}"
        self._save(state)
        runs = {
            "release": str((self.root / "opt/aar/venv").readlink()),
            "settings": (self.root / "var/snap/aar/common/conf/main.yaml").read_text(),
            "unit": unit["loaded"],
        }
        if "fails" in runs["settings"]:
            state = self.state
            state["journal"][invocation] = json.loads(runs["settings"])["fails"]
            self._save(state)
            failed = {"active": "failed", "pid": 0, "result": "exit-code", "runs": None}
            failures = unit["failures"] + 1
            self.change_unit(name, **failed, invocation=invocation, failures=failures)
            return _done(1, stderr=f"Job for {name} failed.\n")
        process = self.root / "proc" / str(pid)
        process.mkdir()
        release = f"/opt/aar/{runs['release']}"
        environment = "\0".join([*_environment(unit["loaded"]), "LANG=C", ""])
        (process / "environ").write_text(environment, encoding="utf-8")
        (process / "cmdline").write_text(f"{release}/bin/python\0serve\0", encoding="utf-8")
        (process / "maps").write_text(f"7f00-7f01 r-xp {release}/lib/x.so\n", encoding="utf-8")
        self.change_unit(name, active="active", pid=pid, invocation=invocation, runs=runs)
        return _done()

    def _end(self, pid: int) -> None:
        if pid:
            process = self.root / "proc" / str(pid)
            for file in process.iterdir():
                file.unlink()
            process.rmdir()


def _new_unit() -> dict[str, Any]:
    return {
        "loaded": None,
        "active": "inactive",
        "enabled": False,
        "masked": False,
        "drop_in": "",
        "pid": 0,
        "runs": None,
        "invocation": "",
        "result": "success",
        "failures": 0,
    }


def _environment(text: str | None) -> list[str]:
    lines = (text or "").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith("Environment=")]


def _done(code: int = 0, stdout: str = "", stderr: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, stdout, stderr)


def check_config(arguments: list[str], stdin: str) -> tuple[int, str, str]:
    """A service's `check-config`: settings with `wrong` in them are."""
    assert arguments == ["check-config", "-"]
    if "wrong" in stdin:
        return 1, "", "Error: standard input: wrong: unknown key\n"
    return 0, "", ""


def write_wheels(folder: Path, version: str = "0.1.0", *, content: str = "x") -> Path:
    """Write a folder of wheels: pip's, ours, and one that ours needs."""
    folder.mkdir(parents=True, exist_ok=True)
    ours = f"anbox_registry-{version}"
    entry_points = "[console_scripts]\naar = aar.cli:main\nams = ams.cli:main\n"
    wheels = {
        f"{ours}-py3-none-any.whl": {f"{ours}.dist-info/entry_points.txt": entry_points},
        "pip-26.0-py3-none-any.whl": {"pip/__init__.py": ""},
        "click-8.0-py3-none-any.whl": {
            "click/__init__.py": content,
            "click-8.0.dist-info/entry_points.txt": "[other]\nx = y\n",
        },
    }
    for name, members in wheels.items():
        with zipfile.ZipFile(folder / name, "w") as archive:
            for member, text in members.items():
                archive.writestr(zipfile.ZipInfo(member), text)
    return folder

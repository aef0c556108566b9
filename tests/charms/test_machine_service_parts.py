"""What the verbs of MachineService stand on: files, processes, the unit's text."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine_service import (
    CommandFailed,
    InvalidConfiguration,
    MachineServiceError,
    Program,
    files,
    unit,
)
from machine_service.processes import execute
from machine_service.program import Layout

PROGRAM = Program(
    name="aar",
    commands=("aar",),
    home=Path("/var/snap/aar/common"),
    home_variable="AAR_HOME",
    description="100% a registry",
    serve=("aar", "serve", "--log format", "$x"),
)
LAYOUT = Layout(PROGRAM, Path("/"))
PYTHON = Path(sys.executable)


# ---- files


@pytest.fixture
def within(tmp_path: Path) -> Iterator[int]:
    with files.folder(tmp_path, 0o755) as descriptor:
        yield descriptor


def test_replace(tmp_path: Path, within: int) -> None:
    path = tmp_path / "x"
    assert files.replace("x", b"one", 0o640, within=within) is True
    inode = path.stat().st_ino
    assert files.replace("x", b"one", 0o640, within=within) is False
    assert path.stat().st_ino == inode
    assert files.replace("x", b"two", 0o640, within=within) is True
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert files.replace("x", b"two", 0o600, within=within) is False
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_replace_does_not_write_through_what_is_there(tmp_path: Path, within: int) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious", encoding="utf-8")
    (tmp_path / "x").symlink_to(victim)
    (tmp_path / ".x.new").symlink_to(victim)
    (tmp_path / "y").hardlink_to(victim)
    for name in ("x", "y"):
        assert files.replace(name, b"new", 0o644, within=within) is True
        assert (tmp_path / name).read_bytes() == b"new"
    assert victim.read_text(encoding="utf-8") == "precious"
    assert not (tmp_path / "x").is_symlink()


def test_a_pipe_is_not_waited_for(tmp_path: Path, within: int) -> None:
    os.mkfifo(tmp_path / "x")
    assert files.read("x", within) is None
    assert files.replace("x", b"new", 0o644, within=within) is True
    assert (tmp_path / "x").read_bytes() == b"new"


def test_what_a_crash_leaves_is_cleaned_up(tmp_path: Path, within: int) -> None:
    files.replace("x", b"one", 0o644, within=within)
    (tmp_path / ".x.new").write_bytes(b"half")
    assert files.replace("x", b"one", 0o644, within=within) is False
    (tmp_path / ".l.new").symlink_to("nowhere")
    (tmp_path / "l").symlink_to("x")
    assert files.link(tmp_path / "l", "x") is False
    assert sorted(p.name for p in tmp_path.iterdir()) == ["l", "x"]


def test_link(tmp_path: Path) -> None:
    path = tmp_path / "link"
    assert files.link(path, "a") is True
    assert files.link(path, "a") is False
    assert files.link(path, "b") is True
    assert str(path.readlink()) == "b"
    (tmp_path / "file").touch()
    with pytest.raises(MachineServiceError, match="is in the way: move it away"):
        files.link(tmp_path / "file", "a")


def test_folder(tmp_path: Path, within: int) -> None:
    with files.folder(tmp_path / "a/b", 0o751) as descriptor:
        assert os.path.samestat(os.fstat(descriptor), (tmp_path / "a/b").stat())
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o751
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("a")
    for name in ("file", "link"):
        opened = files.folder(name, 0o700, within=within)
        with pytest.raises(MachineServiceError, match=f"{name} is in the way"), opened:
            pass
    # Root's own places may be links: a state root on another disk.
    with files.folder(tmp_path / "link", 0o755):
        pass


def test_a_folder_that_is_there_is_the_operators(tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.mkdir(mode=0o700)
    files.create_folder(path, 0o750, os.getuid(), os.getgid())
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    files.create_folder(tmp_path / "new", 0o750, os.getuid(), os.getgid())
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o750


# ---- processes


def test_execute() -> None:
    done = execute(
        [PYTHON, "-c", "import sys; print(sys.stdin.read()); sys.exit(3)"],
        timeout=30,
        stdin="äh",
    )
    assert (done.code, done.stdout, done.reason) == (3, "äh\n", "")
    done = execute([PYTHON, "-c", "raise SystemExit('Error: no\\n\\n')"], timeout=30)
    assert (done.code, done.reason) == (1, "no")


def test_nothing_of_a_hook_reaches_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUJU_UNIT_NAME", "aar/0")
    code = "import json, os; print(json.dumps([[*os.environ], os.getcwd(), os.umask(0)]))"
    done = execute([PYTHON, "-I", "-c", code], timeout=30, environment={"X": "1"}, umask=0o027)
    environment, directory, umask = json.loads(done.stdout)
    assert {*environment} - {"LC_CTYPE"} == {"HOME", "LANG", "PATH", "X"}
    assert (directory, umask) == ("/", 0o027)


def test_a_program_without_input_waits_for_none() -> None:
    done = execute([PYTHON, "-c", "import sys; print(len(sys.stdin.read()))"], timeout=30)
    assert done.stdout == "0\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import time; time.sleep(60)", r"^python\S* didn't end within 0\.2 s and was stopped$"),
        ("import os; os.kill(os.getpid(), 9)", r"^python\S* was ended by SIGKILL$"),
    ],
)
def test_a_program_that_does_not_end_well(code: str, message: str) -> None:
    timeout = 0.2 if "sleep" in code else 30
    with pytest.raises(CommandFailed, match=message):
        execute([PYTHON, "-c", code], timeout=timeout)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="/x can't be run: No such file or directory"):
        execute([tmp_path / "x"], timeout=30)


def test_bytes_that_are_no_text() -> None:
    code = "import sys; sys.stdout.buffer.write(b'\\xff'); sys.exit(b'\\xfe'.decode('latin1'))"
    assert execute([PYTHON, "-c", code], timeout=30).stdout == "\ufffd"


# ---- the unit


def lines(*, low_port: bool = False, writable: tuple[str, ...] = ()) -> list[str]:
    paths = [Path(path) for path in writable]
    return unit.render(LAYOUT, paths, low_port=low_port).splitlines()


def test_the_unit() -> None:
    found = lines()
    assert found[0].startswith("# Made by the charm, which overwrites it")
    for line in (
        "Description=100%% a registry",
        'ExecStart=/opt/aar/venv/bin/aar serve "--log format" $$x',
        "Environment=AAR_HOME=/var/snap/aar/common",
        "User=aar",
        "Group=aar",
        "Type=notify",
        "Restart=on-failure",
        "LimitNOFILE=65536",
        "UMask=0027",
        "ProtectSystem=strict",
        "ReadWritePaths=/var/snap/aar/common",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "WantedBy=multi-user.target",
    ):
        assert line in found
    assert not [line for line in found if "{" in line]
    sections = [line for line in found if line.startswith("[")]
    assert sections == ["[Unit]", "[Service]", "[Install]"]
    assert len(found) == len(set(found) - {""}) + found.count("")


def test_a_low_port_takes_one_capability() -> None:
    differing = set(lines(low_port=True)) ^ set(lines())
    assert differing == {
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
    }


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/srv/x", "/srv/x"),
        ("/srv/a b", '"/srv/a b"'),
        ("/srv/100%", "/srv/100%%"),
        ('/srv/"q"', '"/srv/\\"q\\""'),
        ("/srv/back\\slash", '"/srv/back\\\\slash"'),
        ("/srv/$x", "/srv/$x"),
        ("/var/lib/aar", "/var/lib/aar"),
    ],
)
def test_paths_as_systemd_reads_them(path: str, written: str) -> None:
    assert f"ReadWritePaths=/var/snap/aar/common {written}" in lines(writable=(path,))


def test_the_order_of_paths_does_not_matter() -> None:
    assert lines(writable=("/srv/a", "/srv/b")) == lines(writable=("/srv/b", "/srv/a", "/srv/b"))


def test_a_path_cannot_add_a_line() -> None:
    with pytest.raises(InvalidConfiguration, match="is not an absolute path"):
        lines(writable=("/srv/x\nExecStartPre=/bin/sh",))


def test_the_generation_is_in_the_service_and_found_again() -> None:
    text = unit.stamp("\n".join(lines()) + "\n", PROGRAM, "0123abcd")
    before, _, after = text.partition("[Install]")
    assert "\nEnvironment=AAR_GENERATION=0123abcd\n" in before
    assert "WantedBy" in after
    assert unit.generation(text, PROGRAM) == "0123abcd"
    assert unit.generation("AAR_HOME=/x AAR_GENERATION=0123abcd LANG=C", PROGRAM) == "0123abcd"
    assert unit.generation("OTHER_AAR_GENERATIONS=0123abcd", PROGRAM) is None
    assert unit.generation_of_process(b"X=1\0AAR_GENERATION=0123abcd\0", PROGRAM) == "0123abcd"
    assert unit.generation_of_process(b"XAAR_GENERATION=1\0", PROGRAM) is None
    assert unit.is_ours(text, PROGRAM)
    assert not unit.is_ours("[Unit]\n", PROGRAM)

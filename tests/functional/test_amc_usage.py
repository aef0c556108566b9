"""`amc` and `ams` without a service: help, versions, completion, and what they say when alone."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ams.amc import cli as amc_cli
from ams.cli import cli as ams_cli
from support.ams import amc, environment


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Go over a command and everything below it."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None, name
            yield from commands(below, (*path, name))


ALL = [
    *[("ams.amc", path) for path in commands(amc_cli)],
    *[("ams", path) for path in commands(ams_cli)],
]


def run(home: Path, module: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(home, **env),
        check=False,
    )


@pytest.mark.parametrize(("module", "path"), ALL, ids=lambda value: " ".join(value) or "-")
def test_every_command_explains_itself_with_an_example(
    module: str, path: tuple[str, ...], tmp_path: Path
) -> None:
    from click.testing import CliRunner  # noqa: PLC0415

    root = amc_cli if module == "ams.amc" else ams_cli
    name = "amc" if module == "ams.amc" else "ams"
    shown = CliRunner().invoke(root, [*path, "--help"], prog_name=name)
    assert shown.exit_code == 0
    assert "Example:" in shown.output
    # What works on the state root itself is shown with sudo, as it is typed on a machine.
    typed = re.escape(" ".join((name, *path)))
    assert re.search(rf"^ +(sudo )?{typed}\b", shown.output, re.MULTILINE)


WAITING = "-t --timeout --no-wait"
FLAGS = {
    "application create": f"{WAITING} --vm",
    "application update": WAITING,
    "application delete": f"{WAITING} -a --all -f --force -v --version -y --yes",
    "application list": "-f --filter --format",
    "application show": "--format",
    "application publish": WAITING,
    "application revoke": WAITING,
    "application set": WAITING,
    "application unset": WAITING,
    "application export": "-o --output -f --force",
    "application wait": "-c --condition -s --selector -t --timeout",
    "wait": "-c --condition -s --selector -t --timeout",
    "config show": "--format",
    "config get": "",
    "config set": "-t --timeout",
    "config trust add": "",
    "config trust list": "--format",
    "config trust remove": "",
    "registry status": "--format",
    "registry list": "--format",
    "registry sync": f"{WAITING} --dry-run --allow-deletions --format",
    "registry push": f"{WAITING} --format",
    "registry pull": f"{WAITING} --format",
    "registry delete": f"{WAITING} -y --yes",
    "remote add": "--accept-certificate --password",
    "remote list": "--format",
    "remote remove": "",
    "remote set-default": "",
    "remote set-url": "--accept-certificate",
    "operation list": "--format",
    "operation show": "--format",
    "operation wait": "-t --timeout",
    "operation cancel": "",
    "info": "--format",
    "completion": "",
}
"""The commands of the reference that this service has, and ours, with the flags of each."""


def find(path: str) -> click.Command:
    command: click.Command = amc_cli
    for name in path.split():
        assert isinstance(command, click.Group)
        below = command.get_command(click.Context(command), name)
        assert below is not None, path
        command = below
    return command


@pytest.mark.parametrize(("path", "flags"), FLAGS.items())
def test_the_whole_command_list(path: str, flags: str) -> None:
    found = {
        name
        for parameter in find(path).params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }
    assert set(flags.split()) <= found


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("app", "application"),
        ("app ls", "application list"),
        ("app rm", "application delete"),
        ("config trust ls", "config trust list"),
        ("config trust rm", "config trust remove"),
        ("registry ls", "registry list"),
        ("registry rm", "registry delete"),
        ("remote ls", "remote list"),
        ("remote rm", "remote remove"),
        ("operation ls", "operation list"),
    ],
)
def test_short_names(short: str, long: str) -> None:
    assert find(short) is find(long)


@pytest.mark.parametrize("module", ["ams", "ams.amc"])
def test_version(module: str, tmp_path: Path) -> None:
    for flag in ("--version", "-v"):
        done = run(tmp_path, module, flag)
        assert done.returncode == 0
        assert done.stdout.split()[0] == ("ams" if module == "ams" else "amc")
        assert done.stdout.split()[1][0].isdigit()


@pytest.mark.parametrize("module", ["ams", "ams.amc"])
@pytest.mark.parametrize(
    ("shell", "words"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --no-")]
)
def test_completion_scripts(module: str, shell: str, words: str, tmp_path: Path) -> None:
    done = run(tmp_path, module, "completion", shell)
    assert done.returncode == 0
    assert words in done.stdout
    assert run(tmp_path, module, "completion", "tcsh").returncode == 2


def test_completion_completes(tmp_path: Path) -> None:
    asked = {
        "_AMC_COMPLETE": "bash_complete",
        "COMP_WORDS": "amc application cr",
        "COMP_CWORD": "2",
    }
    done = run(tmp_path, "ams.amc", **asked)
    assert done.stdout.split(",")[-1].strip() == "create"
    # Without a service there is nothing to complete, and nothing to say.
    asked = {"_AMC_COMPLETE": "bash_complete", "COMP_WORDS": "amc app show ", "COMP_CWORD": "3"}
    done = run(tmp_path, "ams.amc", **asked)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


EVERY_CALL = [
    ("config", "show"),
    ("config", "trust", "list"),
    ("application", "list"),
    ("app", "ls"),
    ("application", "show", "x"),
    ("registry", "status"),
    ("operation", "list"),
    ("wait", "x", "-c", "status=ready"),
    ("info",),
]


@pytest.mark.parametrize("arguments", EVERY_CALL, ids=" ".join)
def test_without_a_service_one_line_says_how_to_start_it(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done = amc(tmp_path, *arguments)
    assert done.code == 1
    assert not done.out
    assert done.err.count("\n") == 1
    assert done.err.startswith("Error: the management service is not running")
    assert "ams serve" in done.err
    assert str(tmp_path / "server" / "unix.socket") in done.err


def test_a_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "server" / "unix.socket"))
    done = amc(tmp_path, "config", "show")
    assert done.code == 1
    assert "ams serve" in done.err


def test_a_socket_path_too_long_for_the_system(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 120)
    home.mkdir()
    done = amc(home, "config", "show")
    assert done.code == 1
    assert "shorter $AMS_HOME" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("application", "nonsense"),
        ("application", "list", "--filter", "colour=red"),
        ("application", "list", "--filter", "published"),
        ("application", "list", "-f", "name=a", "-f", "name=b"),
        ("application", "list", "--format", "xml"),
        ("application", "delete"),
        ("application", "delete", "x", "--all"),
        ("application", "delete", "--all", "--version", "0"),
        ("application", "publish", "x", "first"),
        ("application", "publish", "x", "-1"),
        ("application", "create", "x", "--timeout", "long"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told_in_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = amc(tmp_path, *arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert done.err.startswith("Error: ")
    assert "--help'" in done.err

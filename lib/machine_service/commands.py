"""The commands as people and hooks call them.

`/usr/local/bin/<command>` is a link to a launcher in `/opt/<name>/bin`, which says where the state
root is: without it an ordinary user's command would look for one in that user's home.
"""

from __future__ import annotations

from machine_service import files
from machine_service.errors import CommandFailed, MachineServiceError
from machine_service.processes import execute
from machine_service.program import Layout

UMASK = 0o027
"""As the service's: what root makes in the state root is nobody else's business either."""

_LAUNCHER = """#!/bin/sh
: "${{{variable}:={home}}}"
export {variable}
exec {program} "$@"
"""


def refuse_foreign(layout: Layout) -> None:
    """Raise MachineServiceError that names what stands where a link of ours belongs."""
    for command in layout.program.commands:
        path = layout.links / command
        if (path.is_symlink() or path.exists()) and not _ours(layout, command):
            raise MachineServiceError(
                f"{layout.seen(path)} is somebody else's: move it away, since {command} is "
                f"to be {layout.program.name}'s command"
            )


def link(layout: Layout) -> None:
    """Make the launchers and the links to them, where `refuse_foreign` found nobody else's."""
    program = layout.program
    with files.folder(layout.launchers, 0o755) as descriptor:
        for command in program.commands:
            text = _LAUNCHER.format(
                variable=program.home_variable,
                home=program.home,
                program=layout.seen(layout.venv / "bin" / command),
            )
            files.replace(command, text.encode(), 0o755, within=descriptor)
    for command in _known(layout) - {*program.commands}:  # an older release's
        _remove_link(layout, command)
        (layout.launchers / command).unlink()
    layout.links.mkdir(mode=0o755, parents=True, exist_ok=True)
    for command in program.commands:
        files.link(layout.links / command, _target(layout, command))


def unlink(layout: Layout) -> None:
    """Remove the links that are ours."""
    for command in _known(layout):
        _remove_link(layout, command)


def run(
    layout: Layout, command: str, *arguments: str, stdin: str | None = None, timeout: float
) -> str:
    """Run a command of the release in use as root; return its stdout. Raises CommandFailed."""
    code, stdout, reason = attempt(layout, command, *arguments, stdin=stdin, timeout=timeout)
    if code:
        # Arguments aren't repeated: they may hold a secret.
        raise CommandFailed(reason or f"{command} failed with exit code {code} and said nothing")
    return stdout


def attempt(
    layout: Layout, command: str, *arguments: str, stdin: str | None = None, timeout: float
) -> tuple[int, str, str]:
    """Run a command; return its exit code, its stdout, and its last line on stderr."""
    program = layout.program
    if command not in program.commands:
        raise ValueError(f"{command} is no command of {program.name}")
    done = execute(
        [layout.venv / "bin" / command, *arguments],
        timeout=timeout,
        environment={program.home_variable: str(program.home)},
        stdin=stdin,
        umask=UMASK,
    )
    return done.code, done.stdout, done.reason


def _known(layout: Layout) -> set[str]:
    """Return the commands that may have a link of ours."""
    made = layout.launchers.iterdir() if layout.launchers.is_dir() else ()
    return {*layout.program.commands, *(path.name for path in made)}


def _remove_link(layout: Layout, command: str) -> None:
    if _ours(layout, command):
        (layout.links / command).unlink()


def _target(layout: Layout, command: str) -> str:
    return str(layout.seen(layout.launchers / command))


def _ours(layout: Layout, command: str) -> bool:
    path = layout.links / command
    return path.is_symlink() and str(path.readlink()) == _target(layout, command)

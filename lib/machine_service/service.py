"""The service on its machine, as one object with verbs and predicates."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

from machine_service import account, commands, files, release, unit
from machine_service.errors import InvalidConfiguration, MachineServiceError, NotRunning
from machine_service.program import Layout, Program
from machine_service.systemd import State, Systemd

CONFIGURATION = "main.yaml"
CHECK_SECONDS = 60
INVALID = 1
"""Exit code of `check-config` for settings that can't be used."""

P = ParamSpec("P")
R = TypeVar("R")


def _explained(verb: Callable[P, R]) -> Callable[P, R]:
    """Turn what the file system refuses into a MachineServiceError."""

    @functools.wraps(verb)
    def explained(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise MachineServiceError(f"{where}{error.strerror or error}") from error

    return explained


class MachineService:
    """A program of bundled wheels that runs as a systemd service of its own user.

    Args:
        program: what to run, and how it is called.
        root: the file system it is installed in; another than `/` is for tests.

    Every verb may raise MachineServiceError, may be killed, and does the rest when called again.
    """

    def __init__(self, program: Program, root: Path = Path("/")) -> None:
        self.program = program
        self.root = root
        self._layout = Layout(program, root)
        self._systemd = Systemd(self._layout)

    @_explained
    def install(self, wheels: Path) -> bool:
        """Install the wheels in this folder, offline; return whether the release is another one.

        Makes the user, its state root and the links to the commands too. A running service goes
        on as it is until `ensure_running`.
        """
        commands.refuse_foreign(self._layout)
        account.ensure(self._layout)
        changed = release.install(self._layout, wheels)
        commands.link(self._layout)
        return changed

    @property
    def installed(self) -> bool:
        """Whether a complete release is in place."""
        return release.current(self._layout) is not None

    def version(self) -> str:
        """Return the version of the release that is in place, such as `0.1.0`."""
        return self._release().version

    @_explained
    def configure(
        self,
        content: str,
        *,
        beside: Mapping[str, str] | None = None,
        writable: Iterable[Path] = (),
        low_port: bool = False,
    ) -> bool:
        """Write `conf/main.yaml` and the unit; return whether either changed.

        The service itself checks the content first. `beside` are files, by name, that it refers
        to, put beside `main.yaml`; one with other content needs another name. `writable` are
        directories beside the state root that the service may write to, made when they aren't
        there; `low_port` lets it listen below port 1024. Takes effect with `ensure_running`.
        Raises InvalidConfiguration, and then
        changes nothing.
        """
        layout, program = self._layout, self.program
        in_use, owner = self._release(), account.find(layout)
        if owner is None:
            raise self._not_installed()
        writable = [*writable]
        text = unit.render(layout, writable, low_port=low_port)
        generation = hashlib.sha256("\0".join((in_use.name, content, text)).encode())
        text = unit.stamp(text, program, generation.hexdigest()[: release.DIGITS])
        before = self._unit_text()
        if before is not None and not unit.is_ours(before, program):
            raise MachineServiceError(
                f"{layout.seen(layout.unit)} is somebody else's: move it away, since this service "
                "needs the name"
            )
        # The unit on disk says that these settings were checked on this release before.
        if before != text:
            self._check(content)
        for path in writable:
            files.create_folder(layout.there(path), 0o750, owner.user, owner.group)
        with (
            account.home(layout, owner) as home,
            files.folder("conf", 0o750, os.geteuid(), owner.group, within=home) as folder,
        ):
            # Root's: the service reads its settings and can't change them.
            changed = False
            for name, text_of in (*(beside or {}).items(), (CONFIGURATION, content)):
                changed |= files.replace(
                    name, text_of.encode(), 0o640, os.geteuid(), owner.group, within=folder
                )
        with files.folder(layout.unit.parent, 0o755) as folder:
            rewritten = files.replace(layout.unit.name, text.encode(), 0o644, within=folder)
        return changed or rewritten

    @_explained
    def ensure_running(self) -> bool:
        """Start the service, or restart it when it runs on anything but what is on disk.

        Returns whether it did either. Raises NotRunning with the last line of its journal.
        """
        wanted = self._wanted()
        state = self._current(wanted)
        running = self._generation_of(state)
        changed = not (state.is_up and running == wanted)
        if changed:
            # Whoever starts it already, with what is wanted, is waited for.
            waiting = state.active == "activating" and running == wanted
            self._run(self._systemd.start if waiting else self._systemd.restart)
        release.prune(self._layout)
        return changed

    @property
    def is_running(self) -> bool:
        """Whether the service has said that it is ready, and hasn't ended since."""
        return self._systemd.state().is_up

    def stop(self) -> None:
        """Stop the service until it is started again, by a boot too."""
        if self._systemd.state().load != "not-found":
            self._systemd.stop()

    @_explained
    def restart(self) -> None:
        """Stop and start the service in any case. Raises NotRunning."""
        self._current(self._wanted())
        self._run(self._systemd.restart)
        release.prune(self._layout)

    def run(
        self, command: str, *arguments: str, input: str | None = None, timeout: float = 120
    ) -> str:
        """Run one of the program's commands as root; return what it wrote to stdout.

        `timeout` is in seconds. Raises CommandFailed with the command's own last line.
        """
        self._release()
        return commands.run(self._layout, command, *arguments, stdin=input, timeout=timeout)

    @_explained
    def remove(self, *, keep_data: bool = True) -> None:
        """Remove what was made here; the state root and the user only without `keep_data`.

        Directories that `configure` made writable stay in any case.
        """
        layout = self._layout
        text = self._unit_text()
        if text is not None and unit.is_ours(text, self.program):
            self._systemd.stop()
            self._systemd.disable()
            layout.unit.unlink()
        state = self._systemd.state()
        if state.stale:
            self._systemd.reload_files()
            state = self._systemd.state()
        if state.load == "not-found" and state.active == "failed":
            self._systemd.forget_failures()
        commands.unlink(layout)
        layout.venv.unlink(missing_ok=True)
        for folder in (layout.releases, layout.launchers):
            if folder.is_dir():
                shutil.rmtree(folder)
        if layout.base.is_dir() and not any(layout.base.iterdir()):
            layout.base.rmdir()
        if not keep_data:
            account.remove(layout)

    # ---- what is on disk

    def _not_installed(self) -> MachineServiceError:
        return MachineServiceError(f"{self.program.name} isn't installed: install it first")

    def _release(self) -> release.Release:
        found = release.current(self._layout)
        if found is None:
            raise self._not_installed()
        return found

    def _unit_text(self) -> str | None:
        try:
            return self._layout.unit.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def _wanted(self) -> str:
        """Return the generation on disk."""
        found = unit.generation(self._unit_text() or "", self.program)
        if found is None:
            raise NotRunning(f"{self.program.name} isn't configured yet: configure it first")
        return found

    def _check(self, content: str) -> None:
        name = self.program.name
        arguments = ("check-config", "-")
        code, _, reason = commands.attempt(
            self._layout, name, *arguments, stdin=content, timeout=CHECK_SECONDS
        )
        if code == INVALID:
            what = reason.removeprefix("standard input: ")
            raise InvalidConfiguration(what or f"{name} refuses the settings and says not why")
        if code:
            raise MachineServiceError(f"{name} check-config: {reason or f'exit code {code}'}")

    # ---- what runs

    def _current(self, wanted: str) -> State:
        """Return the unit's state once systemd has read what is on disk and starts it at boot."""
        state = self._systemd.state()
        if state.stale or unit.generation(state.environment, self.program) != wanted:
            self._systemd.reload_files()
            state = self._systemd.state()
        name = self._systemd.unit
        if state.load == "masked":
            raise NotRunning(f"{name} is masked: allow it with systemctl unmask {name}")
        if unit.generation(state.environment, self.program) != wanted:
            # Restarting wouldn't change it, so it would be restarted at every event.
            raise MachineServiceError(
                f"{name} is not started as its file says: see systemctl cat {name}, and remove "
                "what replaces its Environment="
            )
        if not state.enabled:
            self._systemd.enable()
        return state

    def _generation_of(self, state: State) -> str | None:
        """Return the generation that the main process was started with; None: there is none."""
        if not state.pid:
            return None
        try:
            environ = (self._layout.processes / str(state.pid) / "environ").read_bytes()
        except OSError:  # it has just ended
            return None
        return unit.generation_of_process(environ, self.program)

    def _run(self, job: Callable[[], bool]) -> None:
        self._systemd.forget_failures()  # or the limit on starts may keep it down
        if not job():
            raise NotRunning(self._systemd.last_words(self._systemd.state()))

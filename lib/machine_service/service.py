"""The service on its machine, as one object with verbs and predicates."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from machine_service.program import Program


class MachineService:
    """A program of bundled wheels that runs as a systemd service of its own user.

    Args:
        program: what to run, and how it is called.
        root: the file system it is installed in; another than `/` is for tests.

    Every verb may raise MachineServiceError.
    """

    def __init__(self, program: Program, root: Path = Path("/")) -> None:
        self.program = program
        self.root = root

    def install(self, wheels: Path) -> bool:
        """Install the wheels in this folder, offline; return whether the release is another one.

        Makes the user, its state root and the links to the commands too. A running service goes
        on as it is until `ensure_running`.
        """
        raise NotImplementedError

    @property
    def installed(self) -> bool:
        """Whether a complete release is in place."""
        raise NotImplementedError

    def version(self) -> str:
        """Return the version of the release that is in place, such as `0.1.0`."""
        raise NotImplementedError

    def configure(
        self, content: str, *, writable: Iterable[Path] = (), low_port: bool = False
    ) -> bool:
        """Write `conf/main.yaml` and the unit; return whether either changed.

        The service itself checks the content first. `writable` are directories beside the state
        root that the service may write to, `low_port` lets it listen below port 1024. Takes
        effect with `ensure_running`. Raises InvalidConfiguration, and then changes nothing.
        """
        raise NotImplementedError

    def ensure_running(self) -> bool:
        """Start the service, or restart it when it runs on anything but what is on disk.

        Returns whether it did either. Raises NotRunning with the last line of its journal.
        """
        raise NotImplementedError

    @property
    def is_running(self) -> bool:
        """Whether the service is up and answers."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop the service until it is started again; nothing to do when it is down."""
        raise NotImplementedError

    def restart(self) -> None:
        """Stop and start the service in any case. Raises NotRunning."""
        raise NotImplementedError

    def run(
        self, command: str, *arguments: str, input: str | None = None, timeout: float = 120
    ) -> str:
        """Run one of the program's commands as root; return what it wrote to stdout.

        `timeout` is in seconds. Raises CommandFailed with the command's own last line.
        """
        raise NotImplementedError

    def remove(self, *, keep_data: bool = True) -> None:
        """Remove all that was made here; the state root and the user only without `keep_data`."""
        raise NotImplementedError

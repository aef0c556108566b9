"""One really booted machine: systemd-nspawn on an overlay of the base file system.

Runs inside the rig's namespaces (daemon.py), where everything it makes lives in memory. Knows
nothing of the model; hosts.py says what the model wants of it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
import signal
import stat
import subprocess
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from rig import isolation
from rig.charms import Charm
from rig.errors import RigError
from rig.hookcontext import AGENTS, SOCKET, TOOLS
from rig.hooktools import TOOLS as HOOK_TOOLS
from rig.hosts import Outcome
from rig.network import Network

BOOT_SECONDS, OFF_SECONDS = 60.0, 20.0
POWER_OFF = signal.SIGRTMIN + 4  # systemd's own signal for it
LOGIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"
CLIENT = Path(__file__).parent / "bin" / "hooktool"
HOOK_UNITS = itertools.count(1)


class NspawnMachine:
    """A machine. `folder` is an empty directory on a file system that overlays can live on.

    Args:
        base: the file system all machines share, read-only.
        sockets: directory with the agent's socket, seen by the machine at /run/juju-rig.
        group: prefix for its control group.
    """

    def __init__(
        self, name: str, folder: Path, base: Path, sockets: Path, network: Network, group: str
    ):
        self.name, self.folder, self.base, self.sockets = name, folder, base, sockets
        self.network, self.group = network, f"{group}-{name}"
        self.address = network.free_address()
        self.root = folder / "root"
        self._process: subprocess.Popen[bytes] | None = None
        self._link = ""
        self._hooks: dict[str, str] = {}
        self._up = threading.Event()

    # ---- power

    def start(self) -> None:
        """Make the overlay and the network, and boot."""
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir(parents=True)
        layers = f"lowerdir={self.base},upperdir={self.folder}/upper,workdir={self.folder}/work"
        _sh("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        self._write_hosts()
        self._link = self.network.attach(self.name, self.address)
        self._boot()

    def _write_hosts(self) -> None:
        hosts = f"127.0.0.1 localhost\n{self.address} {self.name}\n"
        (self.root / "etc/hosts").write_text(hosts)

    def _boot(self) -> None:
        environment = {
            **os.environ,
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
            "SYSTEMD_NSPAWN_LOCK": "0",
        }
        command = [
            "systemd-nspawn",
            "--quiet",
            "--boot",
            f"--directory={self.root}",
            f"--machine={self.name}",
            "--register=no",
            "--keep-unit",
            f"--network-namespace-path=/run/netns/{self.name}",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=pipe",
            f"--bind={self.sockets}:{Path(SOCKET).parent}",
        ]
        groups = [h / self.group for h in isolation.hierarchies()]
        for group in groups:
            group.mkdir(exist_ok=True)
        # A shell enters the control groups and becomes nspawn: no Python between fork and exec.
        enter = "".join(f"echo 0 >{shlex.quote(str(g / 'cgroup.procs'))}; " for g in groups)
        with (self.folder / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", f'{enter}exec "$@"', "nspawn", *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_for_boot()

    def _wait_for_boot(self) -> None:
        deadline, state = time.monotonic() + BOOT_SECONDS, "no process"
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if self._leader():
                check = ["systemctl", "is-system-running"]
                state = self._enter(check).stdout.decode().strip() or "no systemd"
                if state in ("running", "degraded"):
                    self._up.set()
                    return
            time.sleep(0.05)
        console = (self.folder / "console.log").read_text(errors="replace")[-1500:]
        raise RigError(f"{self.name} did not boot ({state}):\n{console}")

    def reboot(self, hard: bool = False) -> None:
        """Restart; `hard` is a power failure."""
        self._off(hard)
        self._boot()

    def _off(self, hard: bool) -> None:
        process, leader = self._process, self._leader()
        if process is None:
            return
        self._up.clear()
        if leader and not hard:
            with contextlib.suppress(ProcessLookupError):
                os.kill(leader, POWER_OFF)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(OFF_SECONDS)
        if process.poll() is None:
            for victim in filter(None, (leader, process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
        process.wait(OFF_SECONDS)
        self._process = None

    def stop(self) -> None:
        """Power off and remove the machine's disk, network and control groups."""
        self._off(hard=False)
        self.network.detach(self.name)
        _sh("umount", "--lazy", str(self.root))
        shutil.rmtree(self.folder, ignore_errors=True)
        isolation.remove_groups(self.group)

    def _leader(self) -> int | None:
        """The machine's PID 1, as seen from here."""
        if self._process is None:
            return None
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None

    # ---- commands

    def _enter(
        self, command: Sequence[str], stdin: bytes = b"", timeout: float | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        leader = self._leader()
        if leader is None:
            return subprocess.CompletedProcess([], 255, b"", b"the machine is off\n")
        enter = ["nsenter", "-t", str(leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        return subprocess.run(
            [*enter, *command],
            env={"PATH": LOGIN_PATH, "LANG": "C.UTF-8"},
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )

    @staticmethod
    def _outcome(done: subprocess.CompletedProcess[bytes]) -> Outcome:
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return Outcome(
            code, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def run(
        self,
        command: Sequence[str],
        *,
        user: str = "root",
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> Outcome:
        """Run a command as `user`, with a login's variables."""
        home = "/root" if user == "root" else f"/home/{user}"
        variables = [f"HOME={home}", f"USER={user}", f"LOGNAME={user}", f"PATH={LOGIN_PATH}"]
        become = ["runuser", "-u", user, "--", "env", f"--chdir={home}", *variables]
        return self._outcome(self._enter([*become, *command], stdin, timeout))

    def run_hook(self, tag: str, environment: dict[str, str], command: Sequence[str]) -> Outcome:
        """Run a hook as a transient unit of the machine's systemd; what it starts may survive.

        While the machine reboots, there is no agent to run hooks: the hook waits for the boot.
        """
        self._up.wait(BOOT_SECONDS)
        unit = self._hooks[tag] = f"rig-hook-{next(HOOK_UNITS)}.service"
        transient = [
            "systemd-run",
            "--quiet",
            "--pipe",
            "--wait",
            "--collect",
            "--service-type=exec",
            f"--unit={unit}",
            "--property=KillMode=process",
            f"--working-directory={AGENTS}/{tag}/charm",
            "--",
            "/usr/bin/env",
            "-i",
            *(f"{name}={value}" for name, value in environment.items()),
        ]
        return self._outcome(self._enter([*transient, *command]))

    def kill_hook(self, tag: str) -> None:
        """Kill the hook that runs now, with every process that it started."""
        self._enter(["systemctl", "kill", "--signal=KILL", self._hooks[tag]])

    # ---- files

    def install_charm(self, tag: str, charm: Charm) -> None:
        """Unpack a charm over the one that is there, as Juju does, and link the hook tools.

        What the older charm's archive held goes; files that it made while running stay.
        """
        if charm.path is None:
            raise RigError(f"charm {charm.name} has no file to unpack")
        directory = self.root / AGENTS.lstrip("/") / tag / "charm"
        directory.mkdir(parents=True, exist_ok=True)
        listing = directory.with_name("charm.manifest")
        with zipfile.ZipFile(charm.path) as archive:
            for name in listing.read_text().splitlines() if listing.exists() else []:
                if name not in charm.files and not name.endswith("/"):
                    (directory / name).unlink(missing_ok=True)
            for entry in archive.infolist():
                _extract(archive, entry, directory)
        listing.write_text("\n".join(sorted(charm.files)))
        tools = self.root / TOOLS.lstrip("/") / tag
        if not tools.exists():
            tools.mkdir(parents=True)
            shutil.copy2(CLIENT, tools / "jujuc")
            for name in HOOK_TOOLS:
                (tools / name).symlink_to("jujuc")

    def remove_charm(self, tag: str) -> None:
        """Remove the unit's agent directory and tools."""
        for place in (AGENTS, TOOLS):
            shutil.rmtree(self.root / place.lstrip("/") / tag, ignore_errors=True)

    def read(self, path: str, user: str) -> bytes:
        """Content of a file, read as `user` within the machine's own mounts."""
        done = self._enter(["runuser", "-u", user, "--", "cat", "--", _below_home(path, user)])
        if done.returncode:
            raise RigError(done.stderr.decode(errors="replace").strip())
        return done.stdout

    def write(self, path: str, content: bytes, user: str) -> None:
        """Write a file as `user` within the machine's own mounts."""
        script = 'cat >"$1"'
        command = ["runuser", "-u", user, "--", "sh", "-c", script, "sh", _below_home(path, user)]
        done = self._enter(command, content)
        if done.returncode:
            raise RigError(done.stderr.decode(errors="replace").strip())

    # ---- faults

    def set_address(self, address: str) -> None:
        """Move the machine to another address."""
        self.network.set_address(self.name, address)
        self.address = address
        self._write_hosts()

    def connect(self, connected: bool) -> None:
        """Plug the network cable in or out."""
        self.network.connect(self._link, connected)

    def journal(self) -> str:
        """The whole journal, for the artifacts of a failure; the console when it is off."""
        text = self._enter(["journalctl", "--no-pager", "-o", "short-precise"], timeout=60)
        console = (self.folder / "console.log").read_text(errors="replace")
        return text.stdout.decode(errors="replace") + "\n---- console\n" + console


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, directory: Path) -> None:
    """One entry with its mode; zipfile itself knows neither links nor modes."""
    target, mode = directory / entry.filename, entry.external_attr >> 16
    if target.is_symlink() or target.is_file():
        target.unlink()
    if stat.S_ISLNK(mode):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(archive.read(entry).decode())
        return
    archive.extract(entry, directory)
    if stat.S_IMODE(mode):
        target.chmod(stat.S_IMODE(mode))


def _below_home(path: str, user: str) -> str:
    home = "/root" if user == "root" else f"/home/{user}"
    return path if path.startswith("/") else f"{home}/{path}"


def _sh(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RigError(f"{' '.join(command)}: {done.stderr.strip()}")

"""The unit file as text. No I/O: what systemd makes of it is `systemd.py`'s business."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from machine_service.errors import InvalidConfiguration
from machine_service.program import Layout, Program

START_SECONDS = 120
"""The first start makes a key and tables; a later one may bring the tables up to date."""
STOP_SECONDS = 30
"""Longer than the services give their transfers."""

_SIGN = "# Made by the charm, which overwrites it: to change something, systemctl edit {name}\n"

_HIDDEN = ("/home", "/root", "/run", "/tmp", "/var/tmp")  # noqa: S108 - they're refused
_SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr")
_SHARED = ("/", "/opt", "/var", "/var/lib", "/var/snap")

_TEMPLATE = """\
[Unit]
Description={description}
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=120
StartLimitBurst=10

[Service]
Type=notify
User={name}
Group={name}
ExecStart={serve}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=3
TimeoutStartSec={start_seconds}
TimeoutStopSec={stop_seconds}
KillMode=mixed
LimitNOFILE=65536
UMask=0027
WorkingDirectory={home}
Environment={home_variable}={home}

# What it may touch: its state root, the network, and nothing else.
ProtectSystem=strict
ReadWritePaths={writable}
ReadOnlyPaths=-{home}/conf
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RemoveIPC=yes
KeyringMode=private

# What it may do. AF_NETLINK tells it the machine's own addresses.
NoNewPrivileges=yes
CapabilityBoundingSet={capability}
AmbientCapabilities={capability}
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources

[Install]
WantedBy=multi-user.target
"""
"""systemd.exec(5), systemd.service(5). `systemd-analyze security` judges it.

Without MemoryDenyWriteExecute: pyOpenSSL asks about client certificates through a callback of
cffi, which needs memory that is both (https://cffi.readthedocs.io/en/latest/using.html#callbacks).
Without PrivateUsers, which some containers can't give and which would make CAP_NET_BIND_SERVICE
worthless; without capabilities it takes nothing away.
"""


def render(layout: Layout, writable: Iterable[Path], *, low_port: bool) -> str:
    """Return the unit, without the generation that `stamp` adds.

    Raises InvalidConfiguration for a directory that no service should write to.
    """
    program = layout.program
    places = sorted({_storage(layout, path) for path in writable})
    command = layout.seen(layout.venv / "bin" / program.serve[0])
    body = _TEMPLATE.format(
        description=program.description.replace("%", "%%"),
        name=program.name,
        serve=" ".join(
            _quoted(word).replace("$", "$$") for word in (str(command), *program.serve[1:])
        ),
        start_seconds=START_SECONDS,
        stop_seconds=STOP_SECONDS,
        home=program.home,
        home_variable=program.home_variable,
        writable=" ".join(_quoted(place) for place in (str(program.home), *places)),
        capability="CAP_NET_BIND_SERVICE" if low_port else "",
    )
    return _SIGN.format(name=program.name) + body


def stamp(text: str, program: Program, generation: str) -> str:
    """Return the unit with what tells a process which release and settings it was started on."""
    line = f"Environment={_variable(program)}={generation}\n"
    return text.replace("\n[Install]\n", f"{line}\n[Install]\n")


def generation(text: str, program: Program) -> str | None:
    """Return what `stamp` put into a unit file or `systemctl show`; None: nothing."""
    found = re.search(rf"\b{_variable(program)}=([0-9a-f]+)", text)
    return found[1] if found else None


def generation_of_process(environ: bytes, program: Program) -> str | None:
    """Return the same of a process, from proc(5)'s environ."""
    prefix = f"{_variable(program)}=".encode()
    for entry in environ.split(b"\0"):
        if entry.startswith(prefix):
            return entry.removeprefix(prefix).decode(errors="replace")
    return None


def is_ours(text: str, program: Program) -> bool:
    """Say whether a unit file was made here."""
    return text.startswith(_SIGN.format(name=program.name))


def _variable(program: Program) -> str:
    return f"{program.name.upper().replace('-', '_')}_GENERATION"


def _storage(layout: Layout, path: Path) -> str:
    """Return a directory that the service may write to, as text."""
    text = str(path)
    if not path.is_absolute() or ".." in path.parts or not text.isprintable():
        raise InvalidConfiguration(f"{text[:200]!r} is not an absolute path: name one like /srv/x")
    taken = (*_HIDDEN, *_SYSTEM, str(layout.seen(layout.base)))
    inside = any(path == Path(place) or Path(place) in path.parents for place in taken)
    if inside or text in _SHARED:
        raise InvalidConfiguration(
            f"{text} is not for services to write to: name a directory of its own, such as "
            f"/srv/{layout.program.name}"
        )
    return text


def _quoted(word: str) -> str:
    """Return a word as systemd.syntax(7) reads it back."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if re.search(r"[\s\"'\\;]", word) else escaped

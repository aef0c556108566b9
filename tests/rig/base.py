"""The base file system of every machine, from this machine's own distribution's packages.

Made once by mmdebstrap and cached; machines are overlays on it and never write to it. Not
responsible for booting (machine.py) or for packing charms in it (pack.py).
"""

from __future__ import annotations

import inspect
import platform
import subprocess
from pathlib import Path

from rig import cache, isolation
from rig.errors import RigError

PACKAGES = (
    "apt,systemd,systemd-sysv,dbus,python3,python3-venv,iproute2,ca-certificates,netbase,"
    "procps,sudo,curl,openssl,libpam-systemd,tzdata,kmod"
)

# Charm libraries and charmcraft only accept Ubuntu; on a Debian the machine calls itself 24.04.
UBUNTU = {
    "PRETTY_NAME": '"Ubuntu 24.04 LTS (rig)"',
    "NAME": '"Ubuntu"',
    "ID": "ubuntu",
    "ID_LIKE": "debian",
    "VERSION_ID": '"24.04"',
    "VERSION": '"24.04 LTS (Noble Numbat)"',
    "VERSION_CODENAME": "noble",
    "UBUNTU_CODENAME": "noble",
}


def host_release() -> dict[str, str]:
    """Fields of this machine's os-release, without quotes."""
    return platform.freedesktop_os_release()


def apt_sources() -> list[str]:
    """This machine's own apt sources for its distribution, as mmdebstrap takes them."""
    folder = Path("/etc/apt/sources.list.d")
    names = [Path("/etc/apt/sources.list"), folder / "debian.sources", folder / "ubuntu.sources"]
    return [str(p) for p in names if p.is_file() and p.stat().st_size]


def path() -> Path:
    """The cached base file system, built first when it is not there (about half a minute)."""
    release = host_release()
    codename = release.get("VERSION_CODENAME", "")
    if release.get("ID") not in ("debian", "ubuntu") or not codename:
        raise RigError(f"the rig builds on Debian or Ubuntu, not on {release.get('ID')}")
    sources = apt_sources()
    steps = inspect.getsource(_prepare)
    inputs = (PACKAGES, codename, platform.machine(), str(UBUNTU), steps)
    target = cache.directory() / f"base-{cache.key(*inputs)}"
    with cache.building(target) as scratch:
        if scratch is None:
            return target
        root = scratch / "root"
        command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={PACKAGES}"]
        command += [codename, str(root), *sources]
        done = subprocess.run(
            isolation.quick(command), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RigError(f"mmdebstrap failed: {done.stderr[-2000:]}")
        _prepare(root, release["ID"])
    return target


def _prepare(root: Path, host_id: str) -> None:
    etc = root / "etc"
    (etc / "machine-id").write_text("")
    (etc / "hostname").unlink(missing_ok=True)
    if host_id != "ubuntu":
        release = etc / "os-release"
        release.unlink(missing_ok=True)  # a link into /usr/lib, which stays what it was
        release.write_text("".join(f"{k}={v}\n" for k, v in UBUNTU.items()))
    useradd = ["chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", "ubuntu"]
    if "ubuntu:" not in (etc / "passwd").read_text():
        subprocess.run(useradd, check=True, capture_output=True)
    # No name server: look-ups fail at once instead of after a time-out.
    (etc / "resolv.conf").unlink(missing_ok=True)
    (etc / "resolv.conf").write_text("")
    sudoers = etc / "sudoers.d" / "90-ubuntu"
    sudoers.write_text("ubuntu ALL=(ALL) NOPASSWD:ALL\n")
    sudoers.chmod(0o440)
    # Nothing of a machine's is worth fetching or waiting for on a network without a way out.
    for name in (
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "systemd-networkd-wait-online.service",
    ):
        (etc / "systemd/system" / name).symlink_to("/dev/null")
    journal = etc / "systemd/journald.conf.d"
    journal.mkdir(parents=True, exist_ok=True)
    (journal / "rig.conf").write_text("[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n")

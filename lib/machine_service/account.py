"""The system user that the service runs as, its group, and its state root."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from machine_service import files
from machine_service.errors import MachineServiceError
from machine_service.processes import demand, execute
from machine_service.program import Layout

NO_SHELL = "/usr/sbin/nologin"
OPERATOR = "ubuntu"
"""Who `juju ssh` logs in as."""

HOME_MODE = 0o751
"""Others may reach a certificate at its documented path, if its own mode lets them."""
SHARED_MODE = 0o750
SECONDS = 30


@dataclass(frozen=True)
class Account:
    """The numbers of the user and its group."""

    user: int
    group: int


def find(layout: Layout) -> Account | None:
    """Return the service's account; None when there is none.

    Raises MachineServiceError for a user of that name who is somebody else: one whose home isn't
    the state root.
    """
    program = layout.program
    try:
        entry = pwd.getpwnam(program.name)
    except KeyError:
        return None
    if Path(entry.pw_dir) != program.home:
        raise MachineServiceError(
            f"this machine has another user {program.name}, whose home is {entry.pw_dir}: "
            "the service needs the name, so rename or delete that user"
        )
    return Account(entry.pw_uid, entry.pw_gid)


def ensure(layout: Layout) -> Account:
    """Make user, group and state root."""
    program = layout.program
    account = find(layout)
    if account is None:
        with _charmhelpers() as host:
            host.add_group(program.name, system_group=True)
            host.adduser(
                program.name,
                system_user=True,
                primary_group=program.name,
                home_dir=str(program.home),
            )
        account = find(layout)
    if account is None:
        raise MachineServiceError(f"the user {program.name} was made, and isn't there")
    if pwd.getpwnam(program.name).pw_shell != NO_SHELL:
        # charmhelpers gives system users the machine's default shell.
        done = execute(["/usr/sbin/usermod", "--shell", NO_SHELL, program.name], timeout=SECONDS)
        demand(done, f"can't take the login of {program.name} away")
    _ensure_home(layout, account)
    if program.shared:
        _admit_operator(program.name)
    return account


@contextmanager
def home(layout: Layout, account: Account) -> Iterator[int]:
    """Yield a descriptor of the state root, made and owned as it should be."""
    with files.folder(layout.home, HOME_MODE, account.user, account.group) as descriptor:
        yield descriptor


def remove(layout: Layout) -> None:
    """Delete the state root, the user and its group."""
    program = layout.program
    if find(layout):
        if layout.home.exists():
            shutil.rmtree(layout.home)
        with contextlib.suppress(OSError):  # somebody else's files are in there
            layout.home.parent.rmdir()
        _delete("/usr/sbin/userdel", program.name)
    with contextlib.suppress(KeyError):
        # userdel(8) leaves a group that has members.
        if set(grp.getgrnam(program.name).gr_mem) <= {OPERATOR}:
            _delete("/usr/sbin/groupdel", program.name)


def _delete(tool: str, name: str) -> None:
    demand(execute([tool, name], timeout=SECONDS), f"can't delete {name}")


def _ensure_home(layout: Layout, account: Account) -> None:
    home_path = layout.home
    if home_path.is_dir() and home_path.stat().st_uid != account.user:
        _take_over(home_path, account)
    with home(layout, account) as descriptor:
        for name in layout.program.shared:
            with files.folder(name, SHARED_MODE, account.user, account.group, within=descriptor):
                pass


def _take_over(home_path: Path, account: Account) -> None:
    """Give the service what was there before: a restored backup, or what root's trials made.

    The root itself comes last, in `home`, so that this is finished after a crash.
    """
    for _, folders, names, descriptor in os.fwalk(home_path.resolve(), follow_symlinks=False):
        for name in (*folders, *names):
            os.chown(name, account.user, account.group, dir_fd=descriptor, follow_symlinks=False)


def _admit_operator(group: str) -> None:
    """Let the machine's operator use what is shared with the group, without sudo."""
    try:
        pwd.getpwnam(OPERATOR)
    except KeyError:
        return
    if OPERATOR not in grp.getgrnam(group).gr_mem:
        with _charmhelpers() as host:
            host.add_user_to_group(OPERATOR, group)


@contextmanager
def _charmhelpers() -> Iterator[ModuleType]:
    """Yield charmhelpers' `core.host`, imported only when there is something to make.

    It needs distutils, which setuptools gives back to Python 3.12, and warns about it before.
    Outside a hook it logs to stderr. Its failures become MachineServiceError.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if sys.version_info >= (3, 12):
            import setuptools  # noqa: F401, PLC0415 # pyright: ignore
        from charmhelpers.core import host  # noqa: PLC0415 # pyright: ignore
    try:
        yield host
    except subprocess.CalledProcessError as error:
        raise MachineServiceError(
            f"{' '.join(error.cmd)} failed with exit code {error.returncode}: see the log"
        ) from error

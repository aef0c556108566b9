"""The charm's manager against the real `amc` and a running `ams`."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine_service import CommandFailed
from manager import PROGRAM, Manager
from support.ams import Service, environment, running, write_package
from support.commands import Commands
from support.databags import certificate


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Manager]]:
    root = tmp_path_factory.mktemp("machine")
    home = root / PROGRAM.home.relative_to("/")
    home.mkdir(parents=True)
    with running(home) as started:
        commands = Commands(PROGRAM, root, environment(home))
        yield started, Manager(commands)  # type: ignore[arg-type]


REGISTRY = certificate("registry")
WANTED = {
    "registry.url": "https://127.0.0.1:1",
    "registry.fingerprint": str(REGISTRY.fingerprint),
    "registry.mode": "manual",
}


def shown(service: Service) -> dict[str, object]:
    return service.api("GET", "/1.0/config").json()["metadata"]["config"]


def trusted(service: Service) -> list[str]:
    found = service.api("GET", "/1.0/certificates?recursion=1").json()["metadata"]
    return [entry["fingerprint"] for entry in found]


def test_a_relation_is_followed_and_undone(service: tuple[Service, Manager]) -> None:
    running_service, manager = service
    running_service.ok("config", "set", "registry.url", "https://by-hand:3000")
    before = shown(running_service)
    manager.follow(WANTED, REGISTRY)
    assert shown(running_service) == before | WANTED
    assert trusted(running_service) == [str(REGISTRY.fingerprint)]
    assert manager.registry_status()["url"] == WANTED["registry.url"]
    manager.follow({}, None)
    assert shown(running_service) == before
    assert trusted(running_service) == []
    running_service.ok("config", "set", "registry.url", "")


def test_the_operators_options_are_another_owners(service: tuple[Service, Manager]) -> None:
    running_service, manager = service
    manager.follow(WANTED, REGISTRY)
    manager.set_options({"registry.filter": "kiosk", "registry.update_interval": "5m"})
    assert shown(running_service)["registry.filter"] == "kiosk"
    with pytest.raises(CommandFailed, match="managed by juju-relation"):
        manager.set_options({"registry.mode": "push"})
    with pytest.raises(CommandFailed, match=r"registry\.update_interval"):
        manager.set_options({"registry.update_interval": "soon"})
    assert shown(running_service)["registry.filter"] == "kiosk"
    manager.set_options({})
    assert shown(running_service)["registry.filter"] == ""
    manager.follow({}, None)


def test_amc_talks_to_this_machine_whatever_root_has_chosen(
    service: tuple[Service, Manager],
) -> None:
    running_service, manager = service
    with pytest.raises(CommandFailed, match=r"registry\.url"):
        manager.sync(dry_run=True, allow_deletions=False)
    assert manager.applications() == []
    running_service.ok("remote", "add", "other", "unix:///nowhere/unix.socket")
    running_service.ok("remote", "set-default", "other")
    try:
        assert "/nowhere" in running_service.fails("registry", "status")
        assert manager.registry_status()["url"] == ""
    finally:
        running_service.ok("remote", "set-default", "local")


def test_the_certificate_towards_the_registry(service: tuple[Service, Manager]) -> None:
    running_service, manager = service
    content = (running_service.home / "registry" / "client.crt").read_text()
    assert manager.certificate().pem.strip() == content.strip()


def test_a_new_certificate_needs_no_restart(service: tuple[Service, Manager]) -> None:
    running_service, manager = service
    former, process = manager.certificate(), running_service.process.pid
    made = manager.rotate_certificate()
    assert manager.certificate() == made != former
    assert (running_service.process.poll(), running_service.process.pid) == (None, process)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as a hook is")
def test_where_the_services_user_put_a_link_nothing_of_roots_is_touched() -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: only its owner may enter that
        root = Path(folder)
        root.chmod(0o755)
        home = root / PROGRAM.home.relative_to("/")
        home.mkdir(parents=True)
        victim = root / "roots"
        victim.mkdir(mode=0o700)
        for name in ("client.crt", "client.key"):
            (victim / name).write_text(f"root's {name}")
        (home / "registry").symlink_to(victim)
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        commands = Commands(PROGRAM, root, environment(home))
        with pytest.raises(CommandFailed):
            Manager(commands).rotate_certificate()  # type: ignore[arg-type]
        assert sorted(path.name for path in victim.iterdir()) == ["client.crt", "client.key"]
        assert (victim / "client.key").read_text() == "root's client.key"


def test_what_would_be_missed(service: tuple[Service, Manager], tmp_path: Path) -> None:
    running_service, manager = service
    assert not manager.is_shared
    assert not manager.has_data()
    running_service.ok("application", "create", write_package(tmp_path / "own", "own"))
    assert manager.has_data()
    running_service.ok("application", "delete", "own", "--yes")
    assert not manager.has_data()

"""Kills each operation once at each of its failpoints, and lets its disk be full there.

Run as a program, `python -m faults.steps SCENARIO FOLDER`, since it forks: a JSON object on stdout
says what was tried and what went wrong. After each fault what is visible must be what was before
or what comes after, and the same operation again must come to its end, leaving nothing over.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from aar.registry import Registry
from aar.verify import RegistryBooks
from ams.catalogue import Catalogue
from regkit import failpoints
from regkit.errors import Conflict, NotFound, ServiceError
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from regkit.upkeep import archive, swap
from regkit.upkeep.scrub import scrub
from support.certificates import certify
from support.feeds import RegistrySimulator
from support.images import content_of, push
from support.site import Site

STORING = ("blob.write", "blob.fsync", "blob.rename", "blob.folder-fsync", "database.commit")
LATER = timedelta(days=2)
APK = b"apk " * 5000


@dataclass(frozen=True)
class Scenario:
    """An operation. `visible` must be old or new at any time, `final` new in the end."""

    steps: tuple[str, ...]
    prepare: Callable[[Path], None]
    work: Callable[[Path], None]
    visible: Callable[[Path], Any]
    final: Callable[[Path], Any]


# The registry


def versions(root: Path) -> Any:
    """What the registry has, each file of it read, and what its feed says."""
    swap.complete(root)
    with Registry(root) as registry:
        live = [v for a in registry.applications.list() for v in a.versions]
        page = registry.feed.read()
        for version in live:
            manifest = registry.repositories.manifest(version.key.name, version.key.tag)
            for blob in json.loads(manifest.content)["layers"]:
                digest = Digest.parse(blob["digest"])
                read = content_of(registry, version.key.name, digest)
                assert Digest.of(read) == digest
        assert [change.seq for change in page.changes] == list(range(1, page.head.seq + 1))
        feed = [(change.kind, str(change.key)) for change in page.changes]
        return [str(version.key) for version in live], feed


def cleared(root: Path) -> Any:
    """The same, and what is left when everything that isn't needed has gone."""
    with Registry(root) as registry:
        assert registry.janitor.run(datetime.now(timezone.utc) + LATER).ran
        assert registry.blobs.staged() == []
        blobs = sorted(str(info.digest) for info in registry.blobs.blobs())
        left = [path.name for path in (root / "data").iterdir() if path.name.startswith(".")]
    return versions(root), blobs, left


def with_versions(root: Path, count: int = 1) -> None:
    with Registry(root) as registry:
        for number in range(count):
            push(registry, Key("candy", number, "amd64"), {"app.apk": b"%d" % number})


def push_one(root: Path) -> None:
    with Registry(root) as registry:
        push(registry, Key("candy", 7, "amd64"), {"app.apk": APK})


def delete_one(root: Path) -> None:
    with Registry(root) as registry, suppress(NotFound):
        registry.applications.remove("candy", 1, actor=None)


def prepare_gc(root: Path) -> None:
    with_versions(root, 2)
    delete_one(root)


def collect(root: Path) -> None:
    with Registry(root) as registry:
        registry.janitor.run(datetime.now(timezone.utc) + LATER)


CERTIFICATE = certify(
    start=datetime.now(timezone.utc) - LATER, end=datetime.now(timezone.utc) + LATER
)


def prepare_revoke(root: Path) -> None:
    with Registry(root) as registry:
        registry.trust.add(CERTIFICATE, "client")  # type: ignore[arg-type]


def revoke(root: Path) -> None:
    with Registry(root) as registry, suppress(Conflict):
        registry.trust.revoke(CERTIFICATE.fingerprint)


def trusted(root: Path) -> Any:
    with Registry(root) as registry:
        entry = registry.trust.get(CERTIFICATE.fingerprint)
        assert entry is not None
        told = [item.record.action for item in registry.audit.read()]
        return entry.revoked is not None, told


def prepare_damage(root: Path) -> None:
    with_versions(root)
    digest = Digest.of(b"0")
    (root / "data/blobs/sha256" / digest.hex[:2] / digest.hex).write_bytes(b"1")


def check(root: Path) -> None:
    with Registry(root) as registry:
        scrub(registry.blobs, RegistryBooks(registry.database))


def aside(root: Path) -> Any:
    """Whether the damaged blob is out of the way, and its row says so."""
    with Registry(root) as registry:
        size = registry.blobs.size(Digest.of(b"0"))
        states = [item.sound for item in RegistryBooks(registry.database).wanted()]
    return size is None, sorted(states)


def command(root: Path, *arguments: str) -> None:
    from aar.cli import cli  # noqa: PLC0415 - as the command line does it

    os.environ["AAR_HOME"] = str(root)
    sys.stdout = sys.stderr
    cli.main([*arguments], standalone_mode=False)


def backup(root: Path) -> None:
    command(root, "backup", "--force", str(root / "saved.tar"))


def saved(root: Path) -> Any:
    """Whether there is a backup, which is whole then."""
    path = root / "saved.tar"
    if not path.exists():
        return None
    with path.open("rb") as file:
        found = []
        for member in archive.members(file):
            content = b"".join(member.chunks())
            assert member.digest is None or Digest.of(content) == member.digest
            found.append(member.name)
    return len(found)


def saved_alone(root: Path) -> Any:
    """The same, and no half of another one."""
    return saved(root), [path.name for path in root.iterdir() if path.name.startswith(".")]


def prepare_restore(root: Path) -> None:
    with_versions(root)
    backup(root)
    push_one(root)


def restore(root: Path) -> None:
    command(root, "restore", "--force", str(root / "saved.tar"))


# A site


def simulator(*names: str, removed: str = "") -> RegistrySimulator:
    """Make the registry that a site syncs with: always the same one."""
    registry = RegistrySimulator(epoch="e" * 32)
    for name in names:
        key = registry.publish(name, files={"app.apk": APK, "b.bin": name.encode()})
        if name == removed:
            registry.remove(key)
    return registry


def sync(root: Path, *names: str, removed: str = "") -> None:
    site = Site(root, simulator(*names, removed=removed).connect)
    try:
        report = site.engine.sync_now()
        if report.failed:
            raise ServiceError("; ".join(report.failed))
    finally:
        site.close()


def site_versions(root: Path) -> Any:
    """What a site has, each file of it read."""
    site = Site(root, simulator().connect)
    try:
        found = []
        for application in site.catalogue.list():
            for version in application.versions:
                assert b"".join(site.catalogue.export(application.id, version.number).chunks)
                found.append((application.name, version.number, version.published))
        return sorted(found), sorted(map(str, site.engine._ledger.withdrawals()))
    finally:
        site.close()


def site_cleared(root: Path) -> Any:
    site = Site(root, simulator().connect)
    try:
        site.catalogue.collect_garbage(timedelta(0), timedelta(0))
        assert site.blobs.staged() == []
        cursor = site.engine._view.cursor()
        blobs = sorted(str(info.digest) for info in site.blobs.blobs())
        pushed = sorted(map(str, site.engine._ledger.pushed()))
    finally:
        site.close()
    return site_versions(root), blobs, str(cursor), pushed


def local(root: Path, action: Callable[[Site, Catalogue], object], mode: str = "push") -> None:
    registry = RegistrySimulator(epoch="e" * 32)
    site = Site(root, registry.connect, mode=mode)
    try:
        action(site, site.catalogue)
    finally:
        site.close()


def create(root: Path) -> None:
    with suppress(Conflict):
        local(root, lambda site, _: site.create("toffee", {"app.apk": APK}))


def site_revoke(root: Path) -> None:
    local(root, lambda _, catalogue: catalogue.revoke("toffee", 0))


SCENARIOS = {
    "push": Scenario((*STORING, "feed.append"), with_versions, push_one, versions, cleared),
    "delete": Scenario(
        ("version.tombstone", "feed.append", "database.commit"),
        lambda root: with_versions(root, 2),
        delete_one,
        versions,
        cleared,
    ),
    "gc": Scenario(
        ("janitor.mark", "blob.delete", "database.commit"), prepare_gc, collect, versions, cleared
    ),
    "trust revoke": Scenario(
        ("trust.revoke", "database.commit"), prepare_revoke, revoke, trusted, trusted
    ),
    "verify": Scenario(
        ("blob.set-aside", "database.commit"), prepare_damage, check, lambda _: None, aside
    ),
    "backup": Scenario(
        ("backup.snapshot", "backup.rename"), with_versions, backup, saved, saved_alone
    ),
    "restore": Scenario(
        ("restore.commit", "restore.move"),
        prepare_restore,
        restore,
        lambda root: versions(root)[0],
        lambda root: (versions(root)[0], saved_alone(root)),
    ),
    "import": Scenario(
        (*STORING, "import.commit", "ledger.write"),
        lambda _: None,
        lambda root: sync(root, "candy"),
        site_versions,
        site_cleared,
    ),
    "import of a removal": Scenario(
        ("import.remove", "sync.feed-step", "database.commit"),
        lambda root: sync(root, "candy", "fudge"),
        lambda root: sync(root, "candy", "fudge", removed="fudge"),
        site_versions,
        site_cleared,
    ),
    "create": Scenario(STORING, lambda _: None, create, site_versions, site_cleared),
    "revoke at a site": Scenario(
        ("withdrawal.tombstone", "database.commit"),
        create,
        site_revoke,
        site_versions,
        site_cleared,
    ),
}


def forked(folder: Path, point: str, action: str, child: Callable[[], None]) -> int:
    """Do something in a process with a point armed; returns its exit code."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    (folder / point).write_text(f"1 {action}")
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            failpoints.reach = failpoints._Armed(folder)
            child()
            code = 0
        except BaseException as error:
            print(f"{point} {action}: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main(name: str, folder: Path) -> dict[str, Any]:
    """Try every point of a scenario; returns what was tried and what went wrong."""
    # The kernel survives kill -9, and so does what was written; waiting for disks proves nothing.
    os.fsync = lambda *_: None  # type: ignore[assignment]
    scenario = SCENARIOS[name]
    template, reference, root = folder / "template", folder / "reference", folder / "root"
    template.mkdir()
    scenario.prepare(template)
    shutil.copytree(template, reference)
    old = scenario.visible(reference)
    scenario.work(reference)
    new, last = scenario.visible(reference), scenario.final(reference)
    tried, wrong = [], []

    def copy() -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(template, root)

    def compare(what: str) -> None:
        seen = scenario.visible(root)
        if seen not in (old, new):
            wrong.append(f"{what}: {seen} is visible, which is neither {old} nor {new}")
        scenario.work(root)
        if (found := scenario.final(root)) != last:
            wrong.append(f"{what}: done again it is {found} instead of {last}")

    for step in scenario.steps:
        for side in ("before", "after"):
            point = f"{step}:{side}"
            copy()
            code = forked(folder / "points", point, "kill", lambda: scenario.work(root))
            tried.append(f"{point} kill")
            if code != -signal.SIGKILL:
                wrong.append(f"{point}: it wasn't killed there, but ended with {code}")
            compare(f"{point} kill")
        point = f"{step}:before"
        copy()

        def refused_then_done(point: str = point) -> None:
            try:
                scenario.work(root)
            except (ServiceError, OSError):
                scenario.work(root)
            assert (folder / "points" / f"{point}.fired").exists()
            if (found := scenario.final(root)) != last:
                raise AssertionError(f"in the same process it is {found} instead of {last}")

        code = forked(folder / "points", point, "ENOSPC", refused_then_done)
        tried.append(f"{point} ENOSPC")
        if code:
            wrong.append(f"{point} ENOSPC: ended with {code}")
        compare(f"{point} ENOSPC")
    return {"tried": tried, "wrong": wrong}


if __name__ == "__main__":
    out = sys.stdout
    result = main(sys.argv[1], Path(sys.argv[2]))
    print(json.dumps(result), file=out)

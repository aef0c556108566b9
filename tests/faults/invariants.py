"""What must hold whenever everything has healed, looked at from outside and on the disks.

Each check returns what is wrong, in words; none changes anything but the janitor's, which runs it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from aar.registry import Registry
from aar.settings import CONFIGURATION, Settings
from ams.service import Service as Ams
from faults.services import ManagementService, Service, settled
from faults.world import Saved, World
from regkit.oci.names import repository_of
from regkit.settings import load

MAX_DESCRIPTORS = 250
"""Of one service, all processes together; idle ones have some 60 to 120."""
LONG_AFTER = timedelta(hours=50)
"""What is left over is so for longer than its period, even if it came with a clock ahead."""


class Invariants:
    """The checks, with what they remember from one time to the next."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._epoch = ""
        self._history: list[dict[str, Any]] = []
        self._kept: int | None = None
        """How much of the feed a restore had to keep; None: there was none since the last look."""
        self.looks = 0

    def check(self) -> list[str]:
        """Check everything; settles the model's doubts on the way."""
        self.looks += 1
        world = self._world
        live = self._live()
        wrong = world.model.settle("site", self._published())
        direct = {sha: name for sha, name in live.items() if name.startswith("direct-")}
        wrong += world.model.settle("direct", direct)
        wrong += differences("the registry", live, self._promised())
        wrong += self._served(live)
        wrong += self._feed(live)
        for site in world.clients:
            wrong += self._imported(site, live)
        wrong += self._refused()
        for service in world.services:
            idle = world.flipped - set(world.model.promised)
            wrong += blobs_on_disk(service, idle)
        wrong += self._left_over()
        return wrong

    def restored(self, saved: Saved) -> list[str]:
        """Take notice of a restore: once, a new epoch and a shorter history are right.

        What it brought back although it was removed since is removed again.
        """
        self._kept = saved.seq
        world = self._world
        wrong = world.model.settle("site", self._published())
        self._live()
        return wrong + world.remove_returned(self._tags, saved)

    def _promised(self) -> dict[str, str]:
        return {sha: item.name for sha, item in self._world.model.promised.items()}

    # The publisher and the registry

    def _published(self) -> dict[str, str]:
        """Name by content of what the publisher says that it has published."""
        return {sha: name for sha, name, published in rows(self._world.publisher) if published}

    def _live(self) -> dict[str, str]:
        """Name by content of what the registry lists; reads every manifest."""
        found = {}
        self._tags: dict[str, tuple[str, str]] = {}
        self._files: set[str] = set()
        answer = self._world.reader.get("/1.0/applications?recursion=1")
        answer.raise_for_status()
        for application in answer.json()["metadata"]:
            name = application["name"]
            for version in application["versions"]:
                tag = f"{version['number']}-{version['architecture']}"
                sha = self._apk(name, tag, version["digest"])
                found[sha] = name
                self._tags[sha] = (name, tag)
        return found

    def _apk(self, name: str, tag: str, digest: str) -> str:
        answer = self._world.reader.get(f"/v2/{repository_of(name)}/manifests/{tag}")
        answer.raise_for_status()
        if f"sha256:{hashlib.sha256(answer.content).hexdigest()}" != digest:
            return f"not the manifest {digest} of {name} {tag}"
        layers = answer.json()["layers"]
        self._files.update(layer["digest"].partition(":")[2] for layer in layers)
        for layer in layers:
            if layer["annotations"]["org.opencontainers.image.title"] == "app.apk":
                return layer["digest"].partition(":")[2]
        return f"no app.apk in {name} {tag}"

    def _served(self, live: dict[str, str]) -> Iterator[str]:
        """Every file of every version is served; some are read whole, all lie on the disk."""
        world = self._world
        for sha, name in live.items():
            if sha not in world.model.promised:
                continue
            path = f"/v2/{repository_of(name)}/blobs/sha256:{sha}"
            answer = world.reader.head(path)
            wanted = len(world.model.promised[sha].content)
            if answer.status_code != 200 or int(answer.headers["Content-Length"]) != wanted:
                yield f"partial: {name} has {sha[:12]} as {answer.status_code}"
        for sha in world.rng.sample(sorted(live), min(5, len(live))):
            path = f"/v2/{repository_of(live[sha])}/blobs/sha256:{sha}"
            if hashlib.sha256(world.reader.get(path).content).hexdigest() != sha:
                yield f"the registry serves {sha[:12]} of {live[sha]} with other bytes"
        for sha, item in world.rng.sample(
            sorted(world.model.gone.items()), min(3, len(world.model.gone))
        ):
            path = f"/1.0/applications/{item.name}"
            if sha not in live and item.name not in live.values():
                status = world.reader.get(path).status_code
                if status != 404:
                    yield f"{item.name} was removed, and answers {status}"

    def _feed(self, live: dict[str, str]) -> list[str]:
        """The feed is dense, only grows, stays in its epoch, and says what is there."""
        wrong: list[str] = []
        changes: list[dict[str, Any]] = []
        since = ""
        while True:
            more = f"?since={since}" if since else ""
            answer = self._world.reader.get(f"/1.0/changes{more}")
            answer.raise_for_status()
            page = answer.json()["metadata"]
            changes += page["changes"]
            epoch, since = page["epoch"], page["cursor"]
            if since == f"{epoch}:{page['seq']}":
                break
        if self._kept is None and self._epoch not in ("", epoch):
            wrong.append("the feed's epoch has changed")
        if self._kept is not None and self._epoch == epoch:
            wrong.append("the feed's epoch is the same after a restore")
        if [change["seq"] for change in changes] != list(range(1, len(changes) + 1)):
            wrong.append("the feed isn't dense")
        former = self._history[: self._kept]
        if changes[: len(former)] != former:
            wrong.append("the feed's history has changed")
        self._epoch, self._history, self._kept = epoch, changes, None
        told: set[tuple[str, str]] = set()
        for change in changes:
            key = change["name"], f"{change['number']}-{change['architecture']}"
            if change["kind"] == "published":
                told.add(key)
            else:
                told.discard(key)
        if told != set(self._tags.values()):
            wrong.append(f"the feed tells another state: {told ^ set(self._tags.values())}")
        return wrong

    def _refused(self) -> list[str]:
        """Nothing is served to whoever was revoked."""
        world = self._world
        wrong = []
        for fingerprint in world.model.revoked:
            if (entry := next(iter(self._entries(fingerprint)), None)) is None:
                wrong.append(f"the revocation of {fingerprint[:12]} is lost")
            elif entry.revoked is None:
                wrong.append(f"{fingerprint[:12]} was revoked, and is trusted")
        for session in world.revoked_sessions[-4:]:
            for path in ("/v2/", "/1.0/changes", "/1.0/applications"):
                status = session.get(path).status_code
                if status != 403:
                    wrong.append(f"a revoked certificate gets {path} with {status}")
        return wrong

    def _entries(self, fingerprint: str) -> list[Any]:
        found = self._world.trust.list(revoked=True) + self._world.trust.list()
        return [entry for entry in found if str(entry.fingerprint) == fingerprint]

    # Clients

    def _imported(self, site: ManagementService, live: dict[str, str]) -> list[str]:
        """A client has what the registry has, all of it, and nothing else."""
        wrong = differences(site.name, {sha: name for sha, name, _ in rows(site)}, live)
        with site.api() as client:
            for application in client.applications():
                states = {version["status"] for version in application.versions}
                if application.status != "ready" or states != {"active"}:
                    wrong.append(
                        f"{site.name} has {application.name} {application.status} {states}"
                    )
        with closing(opened(site)) as database:
            epoch, seq = database.execute("SELECT epoch, seq FROM registry_state").fetchone()
        if (epoch, seq) != (self._epoch, len(self._history)):
            wrong.append(f"{site.name} is at {seq} of {len(self._history)} of the feed")
        return wrong

    # Resources

    def _left_over(self) -> list[str]:
        """What was held by who died is free: sessions, files, locks, descriptors."""
        world = self._world
        wrong = []
        home = world.registry.home
        with Registry(home, load(home / CONFIGURATION, Settings)) as registry:
            ran = registry.janitor.run(datetime.now(timezone.utc) + LONG_AFTER, patience=5)
            if not ran.ran:
                wrong.append("the janitor's lock is held, with nobody at work")
            with registry.database.read() as connection:
                query = "SELECT digest FROM reference UNION SELECT digest FROM manifest"
                used = {row[0] for row in connection.exec_driver_sql(query)}
                known = {row[0] for row in connection.exec_driver_sql("SELECT digest FROM blob")}
            kept = {str(info.digest) for info in registry.blobs.blobs()}
        if kept != known:
            wrong.append(f"the registry's blobs differ from its rows: {len(kept ^ known)}")
        if kept - used:
            wrong.append(f"the registry keeps {len(kept - used)} blobs that nothing uses")
        wrong += [
            f"left in the registry's uploads: {name}" for name in names(home / "data/uploads")
        ]
        for service in world.services:
            opened_files = service.descriptors()
            if len(opened_files) > MAX_DESCRIPTORS:
                wrong.append(f"{service.name} has {len(opened_files)} descriptors open")
            if not settled(lambda service=service: not uploads_open(service), 5):
                wrong.append(f"{service.name} holds {uploads_open(service)}")
        for site in world.clients:
            wrong += self._staged(site)
        return wrong

    def _staged(self, site: ManagementService) -> Iterator[str]:
        """What is staged there by a download is resumed; settled, nothing is under way.

        But the rest of a version that has left the registry meanwhile: that goes after its period.
        """
        folder = site.home / "data/uploads"
        for name in names(folder):
            if name.rpartition("-")[2] in self._files:
                yield f"left in {site.name}'s uploads: {name}"
        if names(folder):
            with Ams(site.home) as service:
                service.catalogue.collect_garbage(staged_grace=timedelta(0))
            yield from (f"never leaves {site.name}'s uploads: {name}" for name in names(folder))


def uploads_open(service: Service) -> list[str]:
    """Return what a service has open that it shouldn't while it is idle."""
    return [
        name
        for name in service.descriptors()
        if "/uploads/" in name or (name.startswith(str(service.home)) and "(deleted)" in name)
    ]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def blobs_on_disk(service: Service, but: set[str]) -> list[str]:
    """Every blob is what its name says, `but` those."""
    wrong = []
    for path in (service.home / "data" / "blobs" / "sha256").rglob("*"):
        try:
            if (
                path.is_file()
                and path.name not in but
                and hashlib.sha256(path.read_bytes()).hexdigest() != path.name
            ):
                wrong.append(f"{service.name} has a blob that isn't {path.name[:12]}")
        except FileNotFoundError:
            continue  # its janitor is at work
    return wrong


def opened(site: ManagementService) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{site.home / 'data' / 'ams.db'}?mode=ro", uri=True)


def rows(site: ManagementService) -> list[tuple[str, str, bool]]:
    """Content, name and whether it is published of each version that a site has."""
    query = """SELECT version_file.digest, application.name, version.published
        FROM version_file JOIN application ON application.id = version_file.application_id
        JOIN version ON version.application_id = application.id
            AND version.number = version_file.number
        WHERE path = 'app.apk'"""
    with closing(opened(site)) as database:
        found = database.execute(query).fetchall()
    return [(digest.partition(":")[2], name, bool(flag)) for digest, name, flag in found]


def contents(site: ManagementService) -> set[str]:
    """Return the content of each version that a site has."""
    return {sha for sha, _, _ in rows(site)}


def differences(who: str, found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    lost = [f"lost: {who} lacks {wanted[sha]} ({sha[:12]})" for sha in wanted if sha not in found]
    return lost + [
        f"{who} has {found[sha]} ({sha[:12]}), which it shouldn't"
        for sha in found
        if sha not in wanted
    ]

"""The world of a campaign: a registry, a publisher and two clients on loopback, with real TLS.

It starts, connects and heals them, and does what operators and publishers do, telling the model
what was acknowledged. What is checked is in `invariants`, what goes wrong in `injection`.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import signal
import subprocess
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests

from aar import schema
from aar_interface import Certificate, Role
from e2e.site import Result
from faults.model import Item, Mark, Model, Source
from faults.proxy import FaultProxy
from faults.services import Filler, ManagementService, Service, settled
from regkit.database import Database
from regkit.errors import NotFound, ServiceError
from regkit.oci.names import repository_of
from regkit.trust import TrustStore
from support.distribution import application_parts
from support.registry import ClientIdentity, RegistrySession, make_identity

ADDRESS = "http:\n  addr: 127.0.0.1:0\n"
OPERATION = 20.0
"""Seconds that a publisher waits for one operation, faults or not."""
SETTLE = 300.0
"""Seconds within which everything must have healed."""
VALID = timedelta(days=-5), timedelta(days=5)
"""How long the campaign's own certificates are valid; clocks move by a day."""
DISKS = {"registry": 96, "client-b": 160}
"""Sizes in MiB of the small file systems. A site keeps 64 MiB free beside its downloads."""


@dataclass(frozen=True)
class Saved:
    """A backup of the registry, what the model held when it was begun, and where the feed was."""

    path: Path
    mark: Mark
    seq: int


class World:
    """Everything that runs. Use it as a context manager."""

    def __init__(self, root: Path, rng: random.Random, *, small_disks: bool) -> None:
        self.root = root
        self.rng = rng
        self._rngs = {name: random.Random(rng.random()) for name in ("site", "direct")}
        self.model = Model()
        workers = "  workers: 2\n"
        self.registry = Service(root, "registry", "aar", ADDRESS + workers)
        site = f"{ADDRESS}architecture: amd64\n"
        self.publisher = ManagementService(root, "publisher", site)
        self.clients = [ManagementService(root, f"client-{x}", site) for x in "ab"]
        self.sites = [self.publisher, *self.clients]
        self.services: list[Service] = [self.registry, *self.sites]
        self.fillers: dict[str, Filler] = {}
        if small_disks:
            for service in self.services:
                if service.name in DISKS:
                    self._small_disk(service, DISKS[service.name])
        self.proxies: dict[str, FaultProxy] = {}
        self.flipped: set[str] = set()
        """Blobs that were damaged somewhere; those of removed versions may stay so until gc."""
        self.damaged: set[str] = set()
        """Services some of whose blobs were damaged since the last heal."""
        self.backups: list[Path] = []
        """Backups that were acknowledged; the newest is the only one that is still there."""
        self.revoked_sessions: list[RegistrySession] = []
        self.faults_at_end: list[str] = []
        self._restored = False
        """Whether the registry was put back since the last heal."""
        self._made: Counter[str] = Counter()
        self._shared = [rng.randbytes(30_000) for _ in range(3)]

    def _small_disk(self, service: Service, megabytes: int) -> None:
        folder = service.home / "data"
        folder.mkdir()
        options = f"size={megabytes}m,mode=700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "faults", folder], check=True)
        self.fillers[service.name] = Filler(folder)

    def __enter__(self) -> World:
        for service in self.services:
            service.start()
        for service in self.services:
            service.port = service.wait_ready()
        self._open_trust()
        self.direct = self.admitted("direct", Role.PUBLISHER)
        self.reader = self.admitted("reader", Role.CLIENT)
        for site in self.sites:
            self._join(site)
        return self

    def _open_trust(self) -> None:
        self._database = Database(f"sqlite:///{self.registry.home / 'data' / 'aar.db'}")
        self.trust = TrustStore(self._database, schema.trust)

    def _join(self, site: ManagementService) -> None:
        server = (
            self.registry.home / "certs" / "server.crt",
            self.registry.home / "certs/server.key",
        )
        proxy = self.proxies[site.name] = FaultProxy(server, site.certificate())
        proxy.target_port = self.registry.port
        own = Certificate.parse(site.certificate()[0].read_bytes())
        publishes = site is self.publisher
        self.trust.add(own, Role.PUBLISHER if publishes else Role.CLIENT)
        with site.api() as client:
            client.add_certificate(server[0].read_text())
        site.configure(
            application__max_published_versions="100000",
            registry__url=f"https://127.0.0.1:{proxy.port}",
            registry__fingerprint=str(self.certificate.fingerprint),
            registry__mode="push" if publishes else "pull",
        )

    def __exit__(self, *_: object) -> None:
        for filler in self.fillers.values():
            filler.delete()
        for proxy in self.proxies.values():
            proxy.close()
        self._database.close()
        for service in self.services:
            service.request_stop()
        for service in self.services:
            try:
                service.wait_stopped()
            except subprocess.TimeoutExpired:
                self.faults_at_end.append(f"{service.name} had to be killed")
        for name in self.fillers:
            subprocess.run(["umount", self.root / name / "state" / "data"], check=True)

    # As `support.registry.RegistrySession` asks

    @property
    def certificate(self) -> Certificate:
        return Certificate.parse((self.registry.home / "certs" / "server.crt").read_bytes())

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.registry.port}"

    def identity(self, name: str) -> ClientIdentity:
        return make_identity(self.root / "identities", name, valid=VALID)

    def session(self, identity: ClientIdentity | None) -> RegistrySession:
        return RegistrySession(self, identity)  # type: ignore[arg-type]

    def admitted(self, name: str, role: Role) -> RegistrySession:
        identity = self.identity(name)
        self.trust.add(identity.certificate, role)
        return self.session(identity)

    # What publishers do; each tells whether it was acknowledged

    def publish(self, *, update: bool = False, size: int | None = None, name: str = "") -> str:
        """Create an application at the publisher, or a version of one.

        Returns the SHA-256 of its content when it was acknowledged, else nothing.
        """
        names = self.model.names("site")
        rng = self._rngs["site"]
        if not name:
            name = rng.choice(names) if update and names else self.new_name("site")
        content = self._content(rng, size)
        sha = hashlib.sha256(content).hexdigest()
        package = self._package(name, content)
        digest = hashlib.sha256(package).hexdigest()
        acknowledged = False
        with self._faults(), self.publisher.api() as client:
            if name in names:
                begun = client.update_application(name, [package], len(package), digest)
            else:
                begun = client.create_application([package], len(package), digest)
            client.wait(begun, OPERATION)
            acknowledged = True
        self.model.published(sha, Item(name, "site", content), acknowledged=acknowledged)
        return sha if acknowledged else ""

    def delete(self) -> bool:
        """Delete an application of the publisher; its versions leave the registry."""
        if len(names := self.model.names("site")) < 4:
            return False
        name, acknowledged = self._rngs["site"].choice(names), False
        shas = [sha for sha, item in self.model.of("site").items() if item.name == name]
        with self._faults(), self.publisher.api() as client:
            try:
                client.wait(client.delete_application(name), OPERATION)
            except NotFound:
                self.model.missing(shas)
                raise
            acknowledged = True
        self.model.removed(shas, acknowledged=acknowledged)
        # A version of it that may have come about goes with it.
        with self.model.lock:
            for sha, item in list(self.model.maybe_there.items()):
                if acknowledged and item.name == name:
                    self.model.gone[sha] = self.model.maybe_there.pop(sha)
        return acknowledged

    def push(
        self,
        size: int | None = None,
        name: str = "",
        before_manifest: Callable[[str], object] = lambda _: None,
    ) -> str:
        """Push a version to the registry, as any OCI client does; returns as `publish` does.

        `before_manifest` is called with the SHA-256 of its content when the registry has that.
        """
        name = name or self.new_name("direct")
        content = self._content(self._rngs["direct"], size)
        item = Item(name, "direct", content)
        sha, acknowledged = hashlib.sha256(content).hexdigest(), False
        with self._faults():
            self.push_parts(item, lambda: before_manifest(sha))
            acknowledged = True
        self.model.published(sha, item, acknowledged=acknowledged)
        return sha if acknowledged else ""

    def push_parts(self, item: Item, before_manifest: Callable[[], object] = bool) -> None:
        key, manifest, config, files = application_parts(
            item.name, item.number, files={"app.apk": item.content}
        )
        repository = repository_of(item.name)
        for blob in (config, *files.values()):
            digest = "sha256:" + hashlib.sha256(blob).hexdigest()
            path = f"/v2/{repository}/blobs/"
            if self.direct.head(path + digest, timeout=OPERATION).status_code == 200:
                continue
            answer = self.direct.post(
                f"{path}uploads/?digest={digest}", data=blob, timeout=OPERATION
            )
            answer.raise_for_status()
        before_manifest()
        answer = self.direct.put(
            f"/v2/{repository}/manifests/{key.tag}",
            data=manifest,
            headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"},
            timeout=OPERATION,
        )
        answer.raise_for_status()

    def unpush(self) -> bool:
        """Remove a version from the registry that was pushed directly."""
        found = sorted(self.model.of("direct"))
        if len(found) < 4:
            return False
        sha = self._rngs["direct"].choice(found)
        item, acknowledged = self.model.promised[sha], False
        with self._faults():
            path = f"/1.0/applications/{item.name}/{item.number}"
            answer = self.direct.delete(path, timeout=OPERATION)
            if answer.status_code == 404:
                self.model.missing([sha])
            answer.raise_for_status()
            acknowledged = True
        self.model.removed([sha], acknowledged=acknowledged)
        return acknowledged

    # What the registry's operator does

    def command(self, kind: str, point: str = "") -> bool:
        """Run `aar backup`, `gc` or `trust revoke`, killed at `point`; whether it was killed."""
        return {"backup": self._backup, "gc": self._gc, "revoke": self._revoke}[kind](point)

    def _backup(self, point: str) -> bool:
        path = self.root / "backup.tar"
        code = self._killed("backup", "--force", str(path), point=point)
        if code == 0:
            self.backups.append(path)
        return code == -signal.SIGKILL

    def _gc(self, point: str) -> bool:
        # Two days on, so that what nobody uses now has been so for long enough.
        return self._killed("gc", point=point, days=2) == -signal.SIGKILL

    def _revoke(self, point: str) -> bool:
        try:
            role = self.rng.choice([Role.CLIENT, Role.PUBLISHER])
            session = self.admitted("to-be-revoked", role)
        except ServiceError:  # such as for a full disk: there is nobody to be revoked then
            return False
        fingerprint = str(session.certificate.fingerprint)
        code = self._killed("trust", "revoke", fingerprint, point=point)
        entry = self.trust.get(session.certificate.fingerprint)
        # Killed, it may have come through or not; then it is asked for again.
        done = code == 0 or (entry is not None and entry.revoked is not None)
        if done or self.registry.run("aar", "trust", "revoke", fingerprint).code == 0:
            self.model.revoked.append(fingerprint)
            self.revoked_sessions.append(session)
        return code == -signal.SIGKILL

    def save(self) -> Saved:
        """Make a backup of the registry that is kept, with nobody at work meanwhile."""
        path = self.root / "older.tar"
        mark = self.model.mark()
        seq = self.reader.get("/1.0/changes").json()["metadata"]["seq"]
        done = self.registry.run("aar", "backup", "--force", str(path))
        assert done.code == 0, done.err
        return Saved(path, mark, seq)

    def restore(self, saved: Saved, point: str = "") -> list[str]:
        """Put the registry back to an older backup, as its operator does; returns what failed.

        Killed at `point` first, if given, and done again. Nobody may be at work.
        """
        self.registry.stop()
        self._database.close()
        arguments = ("restore", "--force", str(saved.path))
        wrong = []
        if point and (code := self._killed(*arguments, point=point)) != -signal.SIGKILL:
            wrong.append(f"aar restore wasn't killed at {point}, but ended with {code}")
        done = self.registry.run("aar", *arguments)
        if done.code:
            wrong.append(f"aar restore: {done.code} {done.err[-200:]}")
        self.awaken()
        self._open_trust()
        self.model.put_back(saved.mark)
        self._restored = True
        return wrong

    def remove_returned(self, found: Mapping[str, tuple[str, str]], saved: Saved) -> list[str]:
        """Remove again what a restore has brought back, as an operator does; tells what is wrong.

        `found`: name and tag by content of what the registry lists.
        """
        wrong = []
        for sha in sorted(self.model.gone.keys() & found.keys()):
            name, tag = found[sha]
            if sha in saved.mark.gone:
                wrong.append(f"came back: {name} ({sha[:12]}), removed before the backup")
            number = tag.partition("-")[0]
            self.direct.delete(f"/1.0/applications/{name}/{number}").raise_for_status()
        return wrong

    def blob_of(self, service: Service, sha: str) -> Path:
        """Where a service keeps a blob."""
        return service.home / "data" / "blobs" / "sha256" / sha[:2] / sha

    def _killed(self, *arguments: str, point: str, days: int = 0) -> int:
        """Run `aar` beside the server, with a failpoint of its own; returns its exit code."""
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            if point:
                (Path(folder) / point).write_text("1 kill")
            return self.registry.command(arguments, Path(folder), days)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """What a fault does to an operation: it fails, and nobody was told that it is done."""
        with suppress(ServiceError, requests.RequestException, OSError):
            yield

    def new_name(self, kind: Source) -> str:
        """Return a name that no application has had."""
        self._made[kind] += 1
        return f"{kind}-{self._made[kind]}"

    def _content(self, rng: random.Random, size: int | None) -> bytes:
        size = size or rng.choice([2_000, 2_000, 20_000, 20_000, 60_000, 400_000])
        return b"PK\x03\x04" + rng.randbytes(size)

    def _package(self, name: str, content: bytes) -> bytes:
        manifest = (
            f"name: {name}\nversion: '1'\ninstance-type: a4.3\n"
            "extra-data: {shared.bin: {target: /data/shared.bin}}\n"
        )
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
            for path, data in (
                ("manifest.yaml", manifest.encode()),
                ("app.apk", content),
                ("extra-data/shared.bin", self._rngs["site"].choice(self._shared)),
            ):
                info = tarfile.TarInfo(path)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return out.getvalue()

    # Healing

    def awaken(self) -> None:
        """Start what has died, all at the same time."""
        dead = [service for service in self.services if service.ended]
        for service in dead:
            service.begin_again()
        for service in dead:
            self._wait_ready(service)

    def _wait_ready(self, service: Service) -> None:
        """Wait until it serves; what killed it may strike again while it starts."""
        for left in reversed(range(5)):
            try:
                service.port = service.wait_ready()
                break
            except AssertionError:
                if not left or not service.ended:
                    raise
                service.begin_again()
        if service is self.registry:
            for proxy in self.proxies.values():
                proxy.target_port = service.port

    def heal(self) -> list[str]:
        """End every fault and let everything settle; returns what didn't."""
        for service in self.services:
            service.disarm()
            service.set_clock(0)
        for filler in self.fillers.values():
            filler.delete()
        for proxy in self.proxies.values():
            proxy.end()
        self.awaken()
        wrong = self._mend()
        deadline = time.monotonic() + SETTLE
        for site in self.sites:
            last: Any = "it was never reached"
            while True:
                last = self._synced(site)
                if not last:
                    break
                if time.monotonic() > deadline:
                    wrong.append(f"{site.name} didn't settle: {last}")
                    break
                time.sleep(0.1)
        self._restored = False
        return wrong

    def _synced(self, site: ManagementService) -> str:
        """Sync once; returns why it isn't settled, "" when it is."""
        try:
            with site.api() as client:
                # What a restored registry no longer has goes only on the operator's word.
                begun = client.registry_sync(allow_deletions=self._restored)
                report = client.wait(begun, SETTLE).metadata
                status = client.registry_status()
        except (ServiceError, requests.RequestException) as error:
            return str(error)
        left = [*report["failed"], *report["held"], *report["conflicts"]]
        left += [*status["pending"], *map(str, status["quarantined"])]
        return "; ".join(left)

    def _mend(self) -> list[str]:
        """Have damaged blobs found, and give them again as the documentation says."""
        if not self.damaged:
            return []
        wrong = []
        if "registry" in self.damaged:
            there = self._damaged_in(self.registry)
            found = self.registry.run("aar", "verify", "--format", "json")
            if there and found.code != 3:
                wrong.append(f"aar verify overlooked {there[0]}: {found.code} {found.err[-200:]}")
            names = {name.rpartition(" ")[0] for name in _needing(found)}
            for item in self.model.of("direct").values():
                if item.name in names:
                    self.push_parts(item)
            if not settled(lambda: self._push_again(names), SETTLE):
                wrong.append("the publisher couldn't push again")
            again = self.registry.run("aar", "verify", "--format", "json")
            # What is about to be withdrawn nobody pushes again.
            published = self._published() | {i.name for i in self.model.of("direct").values()}
            needed = [key for key in _needing(again) if key.rpartition(" ")[0] in published]
            if needed:
                wrong.append(f"damaged after it was pushed again: {', '.join(needed)}")
        for site in self.clients:
            if site.name in self.damaged:
                repair = ("verify", "--repair", "--from", "registry", "--format", "json")
                done = site.ams(*repair)
                if done.code:
                    wrong.append(f"ams verify --repair: {done.code} {done.err[-200:]}")
        self.damaged = set()
        return wrong

    def _damaged_in(self, service: Service) -> list[str]:
        """Name blobs that are damaged now: the janitor may have taken what was of no use."""
        paths = {sha: self.blob_of(service, sha) for sha in sorted(self.flipped)}
        return [
            sha
            for sha, path in paths.items()
            if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() != sha
        ]

    def _push_again(self, names: Collection[str]) -> bool:
        try:
            with self.publisher.api() as client:
                for name in sorted(self._published().intersection(names)):
                    client.wait(client.registry_push(name), SETTLE)
        except (ServiceError, requests.RequestException):
            return False
        return True

    def _published(self) -> set[str]:
        """Name what the publisher has published; raises what its API does."""
        with self.publisher.api() as client:
            return {app.name for app in client.applications() if app.published}


def _needing(verified: Result) -> list[str]:
    """Name the versions that lack a blob, by what `aar verify` has printed.

    What was removed meanwhile nobody can push; its link goes after its period.
    """
    return [
        user["name"]
        for damage in json.loads(verified.out)["damaged"]
        for user in damage["needed-by"]
        if not user["name"].startswith("an upload to ")
    ]

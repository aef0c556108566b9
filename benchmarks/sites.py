"""Management services as a site runs them: `ams serve`, told what to do over its REST interface.

`stock` fills a site's database as if it had imported a whole catalogue, the counterpart of
`catalogue.fill`. What a figure means is the measurements' business.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

from aar.feed import Cursor
from aar.registry import Registry
from aar_interface import Certificate, Role
from ams import schema
from ams.catalogue.records import new_id
from ams.client import Client
from ams.service import Service
from benchmarks.catalogue import BATCH, PER_APPLICATION, Entry, entries, store_blob
from benchmarks.driver import CIPHER, GROUP
from benchmarks.processes import Group
from benchmarks.servers import Aar
from regkit.oci.digest import Digest

OPENSSL = f"""\
openssl_conf = base
[base]
ssl_conf = modules
[modules]
system_default = settings
[settings]
Ciphersuites = {CIPHER}
Groups = {GROUP}
"""
"""Python's `ssl` has no call for either (config(5ssl), SSL_CONF_cmd(3ssl))."""
WAIT_SECONDS = 1800.0


class Site:
    """One site that pulls from, or pushes to, a registry of ours. A context manager."""

    def __init__(self, home: Path, registry: Aar, mode: str = "pull") -> None:
        """Make its state, and let the registry trust it. Nothing runs yet."""
        self.home = home
        self._registry = registry
        self._mode = mode
        (home / "conf").mkdir(parents=True)
        settings = {"http": {"addr": "127.0.0.1:0"}, "architecture": "amd64"}
        (home / "conf" / "main.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        (home / "openssl.cnf").write_text(OPENSSL, encoding="utf-8")
        Service(home).stop()  # makes the identity and the database
        certificate = Certificate.parse((home / "registry" / "client.crt").read_bytes())
        role = Role.PUBLISHER if mode == "push" else Role.CLIENT
        with Registry(registry.folder) as trusting:
            trusting.trust.add(certificate, role)
        self._group: Group | None = None

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def group(self) -> Group:
        assert self._group is not None, "the site is not started"
        return self._group

    @property
    def environment(self) -> dict[str, str]:
        return {"AMS_HOME": str(self.home), "OPENSSL_CONF": str(self.home / "openssl.cnf")}

    def start(self) -> None:
        """Start it; on return its REST interface answers."""
        command = [sys.executable, "-m", "ams", "serve", "--log-format", "json"]
        self._group = Group(command, self.home / "ams.log", self.environment)
        self._group.expect(lambda text: '"ready"' in text)

    def stop(self) -> None:
        """End it."""
        if self._group is not None:
            self._group.stop()
            self._group = None

    def configure(self) -> None:
        """Trust the registry and say everything about it but where it is."""
        identity = self._registry.identity.certificate
        with self.client() as client:
            client.add_certificate(identity.pem)
            for name, value in (
                ("registry.fingerprint", str(identity.fingerprint)),
                ("registry.update_interval", "24h"),
                ("registry.mode", self._mode),
            ):
                client.wait(client.set_config(name, value))

    def connect(self) -> None:
        """Say where the registry is: the first sync begins now."""
        with self.client() as client:
            client.wait(client.set_config("registry.url", self._registry.url))

    def client(self) -> Client:
        """Return a client of the REST interface."""
        return Client.local(self.home / "server" / "unix.socket")

    def sync(self) -> Mapping[str, Any]:
        """Sync now; return the report."""
        with self.client() as client:
            return client.wait(client.registry_sync()).metadata

    def imported(self, versions: int, since: int, seconds: float = WAIT_SECONDS) -> float:
        """Wait until `versions` were imported after the mark `since`; return the moment.

        A sync that fails meanwhile is a fault: RuntimeError.
        """
        done = 0

        def fits(text: str) -> bool:
            nonlocal done
            event = _event(text)
            if event.get("event") in ("sync-failed", "sync-broke", "sync-step-failed"):
                raise RuntimeError(f"the site could not sync: {text}")
            if event.get("event") == "synced":
                done += int(event["done"])
            return done >= versions

        return self.group.expect(fits, since, seconds).at

    def amc(self, *arguments: str | Path) -> str:
        """Run `amc` on the site; return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "ams.amc", *map(str, arguments)],
            env=_clean() | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"amc {' '.join(map(str, arguments))}: {done.stderr}")
        return done.stdout


def stock(site: Site, made: Iterable[Entry], registry: Aar) -> int:
    """Let a site that isn't running have imported `made`, up to the registry's present head.

    Returns how many versions; the site's own catalogue must then find as many.
    """
    with Registry(registry.folder) as source:
        head = source.feed.head()
    moment = datetime.now(timezone.utc)
    rest, ids, total = iter(made), dict[str, str](), 0
    service = Service(site.home)
    try:
        with service.database.write() as connection:
            _insert(connection, schema.registry_state, [_state(registry, head, moment)])
        while batch := list(islice(rest, BATCH)):
            for entry in batch:
                for content in entry.files:
                    store_blob(site.home / "data" / "blobs", content, registry.folder)
            with service.database.write() as connection:
                _insert_batch(connection, batch, ids, head.seq, moment)
            total += len(batch)
        assert len(service.catalogue.versions()) == total
    finally:
        service.stop()
    return total


def _insert_batch(
    connection: sa.Connection, batch: list[Entry], ids: dict[str, str], seq: int, now: datetime
) -> None:
    """Write what `ams.catalogue.imports.add` and `ams.sync.view` write, many at a time."""
    fresh = {entry.key.name: new_id() for entry in batch if entry.key.name not in ids}
    ids |= fresh
    applications = [
        {
            "id": id_,
            "name": name,
            "origin": "registry",
            "vm": False,
            "next_number": PER_APPLICATION,
            "created": now,
            "updated": now,
        }
        for name, id_ in fresh.items()
    ]
    versions, files = [], []
    for entry in batch:
        id_, number = ids[entry.key.name], entry.key.number
        versions.append(
            {
                "application_id": id_,
                "number": number,
                "architecture": entry.key.architecture,
                "digest": str(entry.digest),
                "size": entry.image.size,
                "published": True,
                "manifest": dict(entry.image.manifest),
                "oci_manifest": entry.manifest,
                "oci_config": entry.config,
                "created": entry.image.created,
            }
        )
        files += [
            {
                "application_id": id_,
                "number": number,
                "path": file.path,
                "digest": str(file.digest),
                "size": file.size,
                "mode": file.mode,
            }
            for file in entry.image.files
        ]
    _insert(connection, schema.application, applications)
    _insert(connection, schema.version, versions)
    _insert(connection, schema.version_file, files)
    _insert(connection, schema.registry_version, [_mirrored(entry, seq) for entry in batch])


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(table.insert(), rows)


def _state(registry: Aar, head: Cursor, now: datetime) -> dict[str, Any]:
    return {
        "id": 1,
        "fingerprint": str(registry.identity.certificate.fingerprint),
        "epoch": head.epoch,
        "seq": head.seq,
        "checked_at": now,
        "succeeded_at": now,
        "error": "",
    }


def stocked(home: Path, registry: Aar, versions: int) -> Site:
    """Make a site that has what `Lab.stocked(versions)` holds."""
    site = Site(home, registry)
    stock(site, entries(versions), registry)
    return site


def _mirrored(entry: Entry, seq: int) -> dict[str, Any]:
    return {
        "name": entry.key.name,
        "number": entry.key.number,
        "architecture": entry.key.architecture,
        "digest": str(Digest.of(entry.manifest)),
        "size": entry.image.size,
        "tags": list(entry.image.tags),
        "seq": seq,
    }


def _event(text: str) -> dict[str, Any]:
    return json.loads(text) if text.startswith("{") else {}


def _clean() -> dict[str, str]:
    """Return the environment without what an operator's own shell may set for amc and ams."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AM")}

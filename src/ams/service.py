"""The management service put together over one state root. It holds no rule, and speaks no HTTP.

Its parts are usable at once; `start_background` adds what a serving process does by itself: the
sync, garbage collection, forgetting old operations, noticing options set by another process.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import requests

from aar_interface import Fingerprint
from ams import schema, shared_storage
from ams import settings as config
from ams.catalogue import Catalogue
from ams.events import Events
from ams.operations import Operations, Spawn, in_thread
from ams.options import Options
from ams.packages.staging import PREFIX
from ams.settings import REGISTRY_CERTIFICATE, REGISTRY_KEY, Settings
from ams.sync.engine import Engine
from ams.sync.registry import Connect, Door, connector
from ams.sync.turns import Turns
from regkit import identity, logs, pinned
from regkit.blobs import BlobStore
from regkit.database import Database
from regkit.errors import Conflict, Invalid, Unavailable
from regkit.leases import Lease
from regkit.storage import open_blobs
from regkit.trust import TrustStore
from regkit.upkeep import locks

log = logs.get("ams.service")

COMMON_NAME = "ams"

MIGRATIONS = "ams:migrations"

STATE_PATIENCE = 2.0
"""Seconds to wait for a restore that is about to end."""
TICK = 1.0
"""Seconds between looks at what other processes have set; one costs microseconds."""
CLEAN_EVERY = 600.0
CLEAN_BUCKET_EVERY = 3600.0
"""Seconds between garbage collections, which go over all blobs; in a bucket that costs."""
STOP_WITHIN = 5.0
"""Seconds that `stop` waits for each background thread."""


class Service:
    """Opens the state root `home`, makes what is missing, and migrates the database.

    Attributes: home, settings, database, blobs, trust, options, catalogue, operations, sync,
    events.
    """

    def __init__(
        self,
        home: Path,
        settings: Settings | None = None,
        *,
        spawn: Spawn = in_thread,
        connect: Connect | None = None,
        check_storage: Callable[[Database, BlobStore], None] = shared_storage.require_same,
    ) -> None:
        """Read `conf/main.yaml` unless `settings` are given.

        `spawn` runs operations beside the caller; `connect` opens the registry (a pinned session
        with this service's identity, unless a test brings its own); `check_storage` sees to the
        blobs where several services share the database. Raises Invalid for settings or an
        identity that can't be used, Unavailable for a state root, database or bucket that can't.
        """
        self.home = home
        self.settings = settings or config.load(home)
        root = self.settings.blob_root(home)
        try:
            (home / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
            self.blobs: BlobStore = open_blobs(self.settings.storage, root)
            self._lock = locks.take(home / locks.STATE, shared=True, seconds=STATE_PATIENCE)
            if self._lock is None:
                raise Unavailable("the state is being restored: try again when that is done")
            self.database = Database(self.settings.database_url(home))
        except OSError as error:
            raise Unavailable(
                f"{error.filename or root} can't be used ({error.strerror}): check its owner and "
                "storage.fs.root-directory"
            ) from error
        try:
            self.database.migrate(MIGRATIONS)
            if self.blobs.owner() is not None:  # its blobs would be garbage to us
                raise Invalid(
                    "this storage is a registry's: give the service a storage.s3.prefix or a "
                    "storage.fs.root-directory of its own"
                )
            if self.database.shared:
                check_storage(self.database, self.blobs)
            else:
                self.blobs.check()
            self.identity = identity.ensure(
                home / REGISTRY_CERTIFICATE, home / REGISTRY_KEY, COMMON_NAME, (), usage="client"
            )
        except BaseException:
            self._close()
            raise
        self.trust = TrustStore(self.database, schema.trust)
        self.options = Options(self.database, self.trust)
        self.catalogue = Catalogue(
            self.database, self.blobs, self.settings.architecture, self.options
        )
        self.operations = Operations(self.database, spawn, unit=self._unit())
        self.events = Events()
        self.sync = Engine(
            self.database,
            self.blobs,
            self.catalogue,
            self.options,
            self._trusted(connect or connector(self._open_session, self._own_fingerprint)),
            turns=Turns(self.database) if self.database.shared else None,
            own_fingerprint=self._own_fingerprint,
        )
        self.catalogue.listen(self.sync.wake)
        self.options.listen(self.sync.wake)
        self.operations.listen(self.events.operation)
        self.catalogue.listen(self.events.change)
        self.options.listen(self.events.option)
        self.sync.listen(self.events.synced)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start_background(self) -> None:
        """Begin what the one serving process does by itself. Call it after any fork."""
        if self._threads:
            return
        if failed := self.operations.recover():
            log.warning("operations-interrupted", count=failed)
        self._drop_abandoned_packages()
        for name, run in (("ams-sync", self.sync.run_forever), ("ams-keep", self._keep)):
            thread = threading.Thread(target=run, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the background work and close the database; idempotent."""
        self._stopping.set()
        self.sync.stop()
        for thread in self._threads:
            thread.join(STOP_WITHIN)
        self._threads.clear()
        self._close()

    def _close(self) -> None:
        self.database.close()
        self.blobs.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def clean(self) -> None:
        """Remove garbage and old operations now; no blobs while a backup reads them."""
        descriptor = locks.take(self.home / locks.JANITOR)
        if descriptor is not None:
            try:
                if not self.database.shared:
                    self.catalogue.collect_garbage()
                else:
                    lease = Lease(self.database, schema.lease, "garbage")
                    with lease.kept(every=self._clean_every * 0.9) as due:
                        if due:
                            self.catalogue.collect_garbage()
            finally:
                os.close(descriptor)
        self.operations.prune()

    @property
    def _clean_every(self) -> float:
        return CLEAN_BUCKET_EVERY if self.blobs.remote else CLEAN_EVERY

    def _unit(self) -> str:
        """Return what tells this service from others on the same database; kept in its root."""
        if not self.database.shared:
            return ""
        path = self.home / "data" / "unit"
        if not path.exists():
            made = path.with_name(f"unit.{os.getpid()}")
            made.write_text(secrets.token_hex(16), encoding="ascii")
            made.replace(path)
        return path.read_text(encoding="ascii").strip()[:64]

    def _keep(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(TICK):
            try:
                self.options.poll()
                if time.monotonic() >= due:
                    due = time.monotonic() + self._clean_every
                    self.clean()
            except Exception:  # a fault of one round must not end the housekeeping for good
                log.exception("housekeeping-failed")

    def _drop_abandoned_packages(self) -> None:
        # Nobody can resume reading a package, so what a killed process has staged is of no use.
        if self.database.shared:
            return  # it may be another service's, alive: what is none goes as garbage
        for info in self.blobs.staged():
            if info.name.startswith(PREFIX):
                try:
                    self.blobs.discard(info.name)
                except Conflict:
                    log.info("staged-in-use", name=info.name)

    def _own_fingerprint(self) -> str:
        """Return that of the certificate as it is on disk, where it may have been replaced."""
        files = self.home / REGISTRY_CERTIFICATE, self.home / REGISTRY_KEY
        return str(identity.load(*files).certificate.fingerprint)

    def _open_session(self, fingerprint: str) -> requests.Session:
        return pinned.session(Fingerprint.parse(fingerprint), self.identity)

    def _trusted(self, connect: Connect) -> Connect:
        """Let the registry be reached only while its certificate is in the trust store."""

        def connect_if_trusted(urls: Sequence[str], fingerprint: str) -> Door:
            if urls:
                self._require_trusted(fingerprint)
            return connect(urls, fingerprint)

        return connect_if_trusted

    def _require_trusted(self, fingerprint: str) -> None:
        if not fingerprint:
            raise Invalid(
                "registry.fingerprint is not set: 'amc config set registry.fingerprint "
                "<fingerprint>' ('amc config trust list' shows it)"
            )
        entry = self.trust.get(Fingerprint.parse(fingerprint))
        if entry is None or entry.revoked:
            raise Invalid(
                f"the registry's certificate {fingerprint[:12]} is not trusted any more: "
                "import it again with 'amc config trust add', or set registry.fingerprint"
            )

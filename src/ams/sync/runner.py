"""Executes the steps of a plan: a few at a time, each whole or not at all.

A step that fails for a reason of its own is set aside and the rest goes on; when the registry is
gone, refuses us, or the disk is full, the rest is left for the next sync. Threads are the one way
of doing several things at once: under `ams serve` they are greenlets. What to do is decided by
`ams.sync.plan`, when by `ams.sync.engine`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from ams.catalogue import Catalogue, Doomed
from ams.sync.door import Door
from ams.sync.ledger import UNDER_WAY, Ledger
from ams.sync.plan import Import, Push, RemoveImported, Step, Withdraw
from ams.sync.report import Moved, Progress
from ams.sync.transfer import Transfer
from regkit import logs
from regkit.blobs import BlobStore, StorageDown
from regkit.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NoSpace,
    NotFound,
    ServiceError,
    Unavailable,
)
from regkit.oci import application as oci
from regkit.oci.application import ApplicationImage, Key
from regkit.oci.digest import Digest
from regkit.oci.manifests import MANIFEST, parse_manifest

log = logs.get("ams.sync")

WORKERS = 4
BATCH_STEPS = 256
BATCH_BYTES = 64 * 1024 * 1024
"""Manifests and configs that are kept in memory at a time; beyond, imports go on in batches."""
MARGIN = 64 * 1024 * 1024
"""Bytes that stay free on the disk beside the downloads: the database grows too."""
PROGRESS_EVERY = 0.2
"""Seconds between two calls of the progress callback."""

_T = TypeVar("_T")
_R = TypeVar("_R")


class Cancelled(ServiceError):  # noqa: N818 - the name states what happened
    """The sync was asked to stop; what was staged goes on the next time."""

    status = 503


@dataclass
class Outcome:
    """What came of the steps. `blocked`: why the rest was left for the next time, if it was."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    blocked: ServiceError | None = None
    moved: Moved = field(default_factory=Moved)


@dataclass(frozen=True)
class _Package:
    step: Import
    manifest: bytes
    config: bytes
    image: ApplicationImage

    @property
    def blobs(self) -> dict[Digest, int]:
        return {file.digest: file.size for file in self.image.files}


class Runner:
    """Executes steps of one sync; made anew for each."""

    def __init__(
        self,
        registry: Door,
        blobs: BlobStore,
        catalogue: Catalogue,
        ledger: Ledger,
        *,
        clock: Callable[[], datetime],
        cancelled: Callable[[], bool] = lambda: False,
        progress: Progress | None = None,
        pause: Callable[[float], None] = time.sleep,
        workers: int = WORKERS,
    ) -> None:
        self._registry = registry
        self._blobs = blobs
        self._catalogue = catalogue
        self._ledger = ledger
        self._clock = clock
        self._workers = workers
        self._transfer = Transfer(registry, blobs, pause)
        self._meter = _Meter(progress, cancelled)
        self._outcome = Outcome()
        self._lock = threading.Lock()
        self._blob_locks: dict[Digest, threading.Lock] = {}
        self._proven: set[Digest] = set()
        """What was looked at; whatever comes later is compared with its digest as it comes."""
        self._renewed: set[tuple[Digest, str]] = set()
        """Doomed blobs that were fetched anew, and what had doomed them."""

    def run(self, steps: Sequence[Step], epoch: str) -> Outcome:
        """Execute `steps`, planned against `epoch` of the registry.

        Raises Cancelled, or what the progress callback raised to stop it."""
        for step in steps:
            if isinstance(step, RemoveImported):
                self._attempt(step, lambda step=step: self._catalogue.remove_imported(step.key))
        imports = [step for step in steps if isinstance(step, Import)]
        for batch in self._batches(imports):
            self._import_batch(batch)
        for step in steps:
            if isinstance(step, Withdraw):
                self._attempt(step, lambda step=step: self._withdraw(step))
        pushes = [step for step in steps if isinstance(step, Push)]
        self._each(pushes, lambda step: self._push_or_check(step, epoch))
        if fault := self._meter.stopped():
            raise fault
        self._outcome.moved = self._meter.moved()
        return self._outcome

    # Imports

    def _batches(self, imports: Sequence[Import]) -> Iterator[list[_Package]]:
        """Fetch manifests, a few at a time, until a batch is large enough."""
        batch: list[_Package] = []
        size = 0
        for at in range(0, len(imports), self._workers):
            for package in self._each(imports[at : at + self._workers], self._describe):
                if package is not None:
                    batch.append(package)
                    size += len(package.manifest) + len(package.config)
            if len(batch) >= BATCH_STEPS or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _describe(self, step: Import) -> _Package | None:
        def fetch() -> _Package:
            content = self._registry.manifest(step.key, step.digest)
            manifest = parse_manifest(content, MANIFEST)
            described = manifest.config
            if described is None or described.size > oci.MAX_CONFIG:
                raise Invalid("its manifest describes no application")
            config = self._registry.small_blob(step.key, described.digest, described.size)
            image = oci.read(manifest, config)
            if image.key != step.key:
                raise Invalid(f"the registry's content is that of {image.key}")
            sizes: dict[Digest, int] = {}
            for file in image.files:
                if sizes.setdefault(file.digest, file.size) != file.size:
                    raise Invalid("its manifest gives one blob two sizes")
            self._prove(sizes)
            for file in image.files:
                if self._blobs.size(file.digest) not in (None, file.size):
                    raise Invalid(f"its manifest gives {file.path!r} a wrong size")
            return _Package(step, content, config, image)

        return self._attempt(step, fetch, final=False)

    def _prove(self, digests: Iterable[Digest]) -> None:
        """Make sure that what an import would find here already is what it says; once each."""
        new = {digest for digest in digests if digest not in self._proven}
        self._catalogue.prove(new)
        self._proven |= new

    def _import_batch(self, batch: Sequence[_Package]) -> None:
        wanted = {digest: size for package in batch for digest, size in package.blobs.items()}
        doomed = self._catalogue.claim(wanted)
        needed = sum(
            self._transfer.missing(digest, size, anew=digest in doomed)
            for digest, size in wanted.items()
        )
        free = self._blobs.free()
        if needed and needed + MARGIN > free:
            fault = NoSpace(
                f"{len(batch)} versions need {needed} bytes and {MARGIN} to spare, but {free} are "
                "free: free some space, or set registry.filter"
            )
            with self._lock:
                self._outcome.failed.extend(f"{package.step}: {fault}" for package in batch)
                self._outcome.blocked = fault
            return
        self._meter.expect(needed)
        self._each(
            batch,
            lambda package: self._attempt(package.step, lambda: self._import(package, doomed)),
        )

    def _import(self, package: _Package, doomed: Doomed) -> None:
        step = package.step
        for digest, size in package.blobs.items():
            with self._blob_lock(digest):
                self._transfer.download(
                    step.key,
                    digest,
                    size,
                    lambda n: self._meter.received(str(step), n),
                    anew=digest in doomed and (digest, doomed[digest]) not in self._renewed,
                )
                if digest in doomed:
                    self._renewed.add((digest, doomed[digest]))
            # A claim lasts an hour, a large blob may take longer.
            self._catalogue.keep(package.blobs, doomed)
        self._catalogue.import_version(
            package.image, package.manifest, package.config, replace=step.replace
        )

    def _blob_lock(self, digest: Digest) -> threading.Lock:
        with self._lock:
            return self._blob_locks.setdefault(digest, threading.Lock())

    # Pushes

    def _push_or_check(self, step: Push, epoch: str) -> None:
        """Push; a version that was there already counts as done only if something was missing."""
        sent = self._attempt(step, lambda: self._push(step, epoch), final=not step.again)
        if sent and step.again:
            self._finished(step)

    def _push(self, step: Push, epoch: str) -> bool:
        """Upload what the registry lacks of a version; return whether it was anything."""
        sent = False
        manifest, config, image = self._catalogue.image(step.key)
        if Digest.of(manifest) != step.digest:
            raise Conflict("it has changed since the plan was made: the next sync looks again")
        self._ledger.record_push(step.key, step.digest, UNDER_WAY, self._clock())
        for digest, size in {file.digest: file.size for file in image.files}.items():
            with self._blob_lock(digest):
                sent |= self._transfer.upload(
                    step.key, digest, size, lambda n: self._meter.sent(str(step), n)
                )
        if not self._registry.has_blob(step.key, Digest.of(config)):
            sent = True
            self._registry.put_small_blob(step.key, Digest.of(config), config)
            self._meter.sent(str(step), len(config))
        self._require_published(step.key)
        self._registry.put_manifest(step.key, manifest)
        self._ledger.record_push(step.key, step.digest, epoch, self._clock())
        return sent

    def _require_published(self, key: Key) -> None:
        version = self._catalogue.get(key.name).version(key.number)
        if version is None or not version.published:
            raise NotFound("it was revoked or deleted meanwhile")

    def _withdraw(self, step: Withdraw) -> None:
        try:
            self._registry.delete(step.key.name, step.key.number, step.key.architecture)
        except NotFound:
            log.info("already-withdrawn", version=str(step.key))
        self._ledger.withdrawn(step.key, step.digest)

    # One step

    def _attempt(self, step: Step, action: Callable[[], _R], *, final: bool = True) -> _R | None:
        """Do one thing for `step` and note how it went; None when it failed or was left.

        `final`: the step is done with it.
        """
        if self._outcome.blocked is not None or self._meter.stopped():
            return None
        try:
            result = action()
        except Cancelled:
            return None
        except ServiceError as fault:
            self._failed(step, fault)
            return None
        except Exception as fault:  # what one hostile item provokes mustn't block the rest
            log.exception("sync-step-broke", step=str(step))
            self._failed(step, Invalid(f"internal error ({type(fault).__name__})"))
            return None
        if final:
            self._finished(step)
        return result

    def _finished(self, step: Step) -> None:
        self._ledger.release([step.key])
        with self._lock:
            self._outcome.done.append(str(step))
        log.info("sync-step-done", step=str(step), digest=str(step.digest))

    def _failed(self, step: Step, fault: ServiceError) -> None:
        blocks = isinstance(fault, (NoSpace, Forbidden, StorageDown)) or (
            isinstance(fault, Unavailable) and not self._reachable()
        )
        if not blocks:
            retry_at = self._ledger.set_aside(step.key, step.digest, str(fault), self._clock())
            log.warning("sync-step-failed", step=str(step), error=str(fault), retry_at=retry_at)
        with self._lock:
            self._outcome.failed.append(f"{step}: {fault}")
            if blocks and self._outcome.blocked is None:
                self._outcome.blocked = fault

    def _reachable(self) -> bool:
        try:
            return self._registry.hello().trusted
        except ServiceError:
            return False

    def _each(self, items: Sequence[_T], action: Callable[[_T], _R]) -> list[_R]:
        if len(items) <= 1:
            return [action(item) for item in items]
        with ThreadPoolExecutor(min(self._workers, len(items)), "ams-sync") as pool:
            return list(pool.map(action, items))


class _Meter:
    """Counts bytes for the report, and tells the progress callback now and then."""

    def __init__(self, progress: Progress | None, cancelled: Callable[[], bool]) -> None:
        self._progress = progress
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._received = self._sent = self._total = 0
        self._told = float("-inf")
        self._given_up: Exception | None = None

    def stopped(self) -> Exception | None:
        """Return why the sync is to stop, or None: asked to, or the callback raised something."""
        if self._given_up is None and self._cancelled():
            self._given_up = Cancelled("the sync was stopped: it goes on where it was")
        return self._given_up

    def expect(self, size: int) -> None:
        """Add to the bytes that are to be moved."""
        with self._lock:
            self._total += size

    def received(self, what: str, size: int) -> None:
        """Count bytes that came. Raises Cancelled."""
        self._count(what, size, 0)

    def sent(self, what: str, size: int) -> None:
        """Count bytes that went. Raises Cancelled."""
        self._count(what, 0, size)

    def moved(self) -> Moved:
        """Return the bytes so far."""
        with self._lock:
            return Moved(self._received, self._sent)

    def _count(self, what: str, received: int, sent: int) -> None:
        if self.stopped() is not None:
            raise Cancelled("the sync was stopped")
        with self._lock:
            self._received += received
            self._sent += sent
            done, total = self._received + self._sent, self._total
            due = time.monotonic() - self._told >= PROGRESS_EVERY
            if due:
                self._told = time.monotonic()
        if due and self._progress is not None:
            try:
                self._progress(what, done, max(total, done))
            except Exception as fault:
                # An operation that was cancelled says so here; `run` raises it again.
                self._given_up = fault
                raise Cancelled("the sync was stopped") from fault


def describe(steps: Iterable[Step]) -> tuple[str, ...]:
    """Return steps in words, without those that may turn out to need nothing."""
    return tuple(str(step) for step in steps if not (isinstance(step, Push) and step.again))

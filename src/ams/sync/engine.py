"""When to sync, and the one way in for whoever wants it now.

One sync runs at a time. In the background a long-poll tells of the registry's changes within about
a second, `wake` of local ones; the interval is the upper bound, and failures back off. The rules
are in `ams.sync.plan`, the work in `ams.sync.runner`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from ams.catalogue import Catalogue
from ams.options import Options
from ams.sync.door import Connect, Door, Hello
from ams.sync.ledger import Ledger
from ams.sync.listener import Listener
from ams.sync.plan import Mode, Plan
from ams.sync.registry import check_hello, refusal
from ams.sync.report import Moved, Progress, Report, applications, moment_text, set_aside
from ams.sync.runner import Cancelled, Outcome, Runner, describe
from ams.sync.survey import Question, Survey, Surveyor
from ams.sync.turns import Alone
from ams.sync.view import View
from regkit import logs
from regkit.blobs import BlobStore
from regkit.database import Database
from regkit.errors import Conflict, Forbidden, Invalid, NotFound, ServiceError
from regkit.oci.application import Key
from regkit.oci.digest import Digest

log = logs.get("ams.sync")

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 300.0
LONGEST_REFUSED = 30.0
"""Seconds to wait after the first failure, and at most; never longer than the interval.

A refusal ends when somebody adds trust: of several units the leader may do so after the others
have told the site of themselves, so it is asked again soon."""
JITTER = 0.1
"""Part of the interval by which sites differ, so that they don't all ask at once."""
FOLLOW = 1.0
"""Seconds between two looks of a service that doesn't lead, whether it may."""
IDLE = 3600.0
"""Seconds until the next look while no registry is set; setting one wakes the engine."""


@dataclass(frozen=True)
class _Request:
    mode: Mode
    only: str | None = None
    dry_run: bool = False
    allow_deletions: bool = False
    retry: bool = False
    """Whether what is set aside is tried again at once."""
    progress: Progress | None = None
    cancelled: Callable[[], bool] = lambda: False


class Engine:
    """The sync of one site with one registry."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        catalogue: Catalogue,
        options: Options,
        connect: Connect,
        *,
        turns: Alone | None = None,
        own_fingerprint: Callable[[], str] = lambda: "",
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        chance: Callable[[], float] = random.random,
        pause: Callable[[float], None] = time.sleep,
        workers: int = 4,
    ) -> None:
        """Put the parts together; nothing is contacted.

        `connect` opens a registry from `registry.url` and `registry.fingerprint`;
        `turns` tells when it is this service's turn, where several share the database;
        `own_fingerprint` tells this service's identity towards it, for messages. `clock` (aware),
        `chance` (0 to 1) and `pause` (seconds, between tries of one blob) are for tests.
        """
        self._turns = turns or Alone()
        self._blobs = blobs
        self._catalogue = catalogue
        self._options = options
        self._connect = connect
        self._own_fingerprint = own_fingerprint
        self._clock = clock
        self._chance = chance
        self._pause = pause
        self._workers = workers
        self._view = View(database)
        self._ledger = Ledger(database)
        self._surveyor = Surveyor(database, catalogue.architecture)
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._listener = Listener(self._open, self._view.cursor, self.wake, self._spread)
        self._failures = 0
        self._next_check: datetime | None = None
        self._hello: Hello | None = None
        self._connected = False

    # In the background

    def run_forever(self) -> None:
        """Sync whenever there is reason to, until `stop`; for a thread or greenlet of its own."""
        while not self._stopping.is_set():
            try:
                with self._turns.leading() as leads:
                    if leads:
                        self._rounds()
            except ServiceError as fault:
                log.warning("sync-leader-unknown", error=str(fault))
            self._listener.pause()
            self._stopping.wait(FOLLOW)
        self._listener.stop()

    def _rounds(self) -> None:
        """Sync whenever there is reason to, for as long as this service leads."""
        while not self._stopping.is_set() and self._turns.leads:
            self._woken.clear()
            self._turns.news()  # what came before this round is in it
            due = time.monotonic() + self.round()
            while self._turns.leads and not self._stopping.is_set():
                left = due - time.monotonic()
                if left <= 0 or self._woken.wait(min(left, self._turns.slice or left)):
                    break
                if self._turns.news():
                    break

    def round(self) -> float:
        """Sync once if a registry is set; return the seconds until the next time at the latest."""
        interval = self._interval()
        if not self._configured():
            self._listener.pause()
            self._next_check = None
            self._connected = False
            return IDLE
        try:
            mode = self._mode()
            report = self._sync(_Request(mode, cancelled=self._stopping.is_set))
        except Cancelled:
            return 0.0
        except ServiceError as fault:
            log.warning("sync-failed", error=str(fault))
            refused = isinstance(fault, Forbidden)
            delay = self._backoff(interval, LONGEST_REFUSED if refused else LONGEST_BACKOFF)
        except Exception:  # a fault of ours must not end the sync for good
            log.exception("sync-broke")
            delay = self._backoff(interval)
        else:
            self._failures = 0
            delay = interval * (1 - JITTER * self._chance())
            if report.done:
                log.info("synced", done=len(report.done), bytes=report.bytes)
            delay = min(delay, self._next_retry(delay))
            if self._hello is not None and self._hello.waits:
                self._listener.listen()
        self._next_check = self._clock() + timedelta(seconds=delay)
        return delay

    def wake(self, *_about: object) -> None:
        """Look at once, since something has changed; fits any listener's signature."""
        self._woken.set()

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call `listener` after each sync, with its error or an empty text."""
        self._view.listen(listener)

    def stop(self) -> None:
        """End `run_forever` soon, a running transfer included; what it staged is kept."""
        self._stopping.set()
        self._listener.stop()
        self._woken.set()

    # On demand

    def sync_now(
        self,
        dry_run: bool = False,
        allow_deletions: bool = False,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Report:
        """Sync now, what is set aside included; waits for a sync that is under way.

        `allow_deletions` carries out what is held, and accepts a registry that went back in time.
        `dry_run` reads the registry but executes no step. Raises Invalid when no registry is set,
        Unavailable, Forbidden, FeedRefused, NoSpace.
        """
        request = _Request(
            self._mode(),
            dry_run=dry_run,
            allow_deletions=allow_deletions,
            retry=True,
            progress=progress,
            cancelled=cancelled,
        )
        return self._sync(request)

    def push(
        self,
        app: str,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Report:
        """Push an application's published versions, those the registry removed included.

        `app` is an id or a name. Raises NotFound, Forbidden for an imported application, Conflict
        when nothing of it is published or the registry holds other content.
        """
        application = self._catalogue.get(app)
        if application.immutable:
            raise Forbidden(
                f"application {application.name} was imported from the registry, which owns it: "
                "only its publisher can push it"
            )
        withdrawn = any(key.name == application.name for key in self._ledger.withdrawals())
        if not application.published and not withdrawn:
            raise Conflict(
                f"application {application.name} has no published version: publish one with 'amc "
                f"application publish {application.id} <version>'"
            )
        return self._explicit("push", application.name, progress, cancelled)

    def pull(
        self,
        app: str,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Report:
        """Pull the versions of one application for this architecture, whatever the filter.

        Raises NotFound when the registry holds none, Conflict when a local one has the name.
        """
        return self._explicit("pull", app, progress, cancelled)

    def delete(self, name: str, number: int | None = None) -> None:
        """Remove an application, or one version, from the registry. NotFound, Forbidden."""
        registry, fingerprint = self._open(), self._own_fingerprint()
        try:
            check_hello(registry.hello(), "push")
            registry.delete(name, number)
        except Forbidden as fault:
            raise refusal(fault, fingerprint, "push") from fault
        finally:
            registry.close()
        self.wake()

    def list(self) -> list[dict[str, Any]]:
        """Return what the registry holds as of the last check, one row per application.

        Keys: name, versions (numbers), architectures, tags (of the newest), size (bytes).
        """
        snapshot = self._view.snapshot()
        return applications(snapshot) if snapshot else []

    def status(self) -> dict[str, Any]:
        """Return how the sync stands, as plain values; contacts nobody."""
        cursor = self._view.cursor()
        checked, succeeded, error = self._view.last()
        survey = self._surveyor.survey(self._question(_Request(self._mode())), self._clock())
        planned = survey.plan if survey else Plan()
        return {
            "url": ",".join(self._options.get("registry.url")),
            "fingerprint": self._options.get("registry.fingerprint"),
            "mode": self._mode(),
            "connected": self._connected,
            "role": self._hello.role if self._hello else "",
            "epoch": cursor.epoch if cursor else "",
            "seq": cursor.seq if cursor else 0,
            "last_check": moment_text(checked),
            "last_success": moment_text(succeeded),
            "last_error": error,
            "next_check": moment_text(self._next_check),
            "syncing": self._lock.locked(),
            "pending": list(describe(planned.steps)),
            "held": list(planned.held),
            "conflicts": list(planned.conflicts),
            "notes": list(planned.notes),
            "quarantined": set_aside(self._ledger.quarantine()),
            "counts": asdict(self._surveyor.counts()),
        }

    # One sync

    def _explicit(
        self, mode: Mode, name: str, progress: Progress | None, cancelled: Callable[[], bool]
    ) -> Report:
        request = _Request(mode, only=name, retry=True, progress=progress, cancelled=cancelled)
        report = self._sync(request)
        if (faults := report.conflicts or report.failed) and not report.done:
            raise Conflict("; ".join(faults))
        return report

    def _sync(self, request: _Request) -> Report:
        with self._lock, self._turns.turn() as lost:
            asked = request.cancelled
            request = replace(request, cancelled=lambda: asked() or lost())
            try:
                registry = self._open()
                try:
                    report, outcome = self._exchange(registry, request)
                finally:
                    registry.close()
            except Cancelled:
                raise
            except ServiceError as error:
                self._connected = False
                fault = self._explained(error, request.mode)
                self._view.record(self._clock(), str(fault), succeeded=False)
                if fault is error:
                    raise
                raise fault from error
            blocked = outcome.blocked
            self._view.record(
                self._clock(), str(blocked) if blocked else "", succeeded=blocked is None
            )
            if blocked is not None:
                raise self._explained(blocked, request.mode)
            return report

    def _exchange(self, registry: Door, request: _Request) -> tuple[Report, Outcome]:
        hello = registry.hello()
        self._hello = hello
        check_hello(hello, request.mode)
        self._connected = True
        changes = self._read(registry, accept=request.allow_deletions and not request.dry_run)
        if request.mode == "pull" and request.only is not None:
            self._require_offered(request.only)
        survey = self._surveyor.survey(self._question(request), self._clock())
        if survey is None:
            raise Conflict("the registry's view is gone: try again")
        planned = survey.plan
        outcome = Outcome()
        if not request.dry_run:
            self._keep_books(survey)
        if planned.steps and not request.dry_run:
            runner = Runner(
                registry,
                self._blobs,
                self._catalogue,
                self._ledger,
                clock=self._clock,
                cancelled=request.cancelled,
                progress=request.progress,
                pause=self._pause,
                workers=self._workers,
            )
            outcome = runner.run(planned.steps, survey.epoch)
            if request.mode == "push" and outcome.done and outcome.blocked is None:
                # Our own pushes are changes too: with them read, the long-poll stays quiet.
                changes += self._read(registry, accept=False)
        report = Report(
            planned=describe(planned.steps),
            done=tuple(outcome.done),
            failed=tuple(outcome.failed),
            held=planned.held,
            conflicts=planned.conflicts,
            notes=planned.notes,
            moved=outcome.moved if outcome.done or outcome.failed else Moved(),
            changes=changes,
            dry_run=request.dry_run,
        )
        return report, outcome

    def _read(self, registry: Door, *, accept: bool) -> int:
        fingerprint = self._options.get("registry.fingerprint")
        return self._view.update(registry, fingerprint, self._imported, accept=accept)

    def _imported(self) -> dict[Key, Digest]:
        return {v.key: v.digest for v in self._catalogue.versions() if v.origin == "registry"}

    def _question(self, request: _Request) -> Question:
        return Question(
            mode=request.mode,
            filter=frozenset(self._options.get("registry.filter")),
            only=request.only,
            allow_deletions=request.allow_deletions,
            retry=request.retry,
        )

    def _keep_books(self, survey: Survey) -> None:
        planned, withdrawals = survey.plan, survey.withdrawals
        for key, digest in planned.found:
            self._ledger.record_push(key, digest, survey.epoch, self._clock())
        settled = [(key, withdrawals[key]) for key in planned.settled if key in withdrawals]
        if settled or planned.forgotten:
            self._ledger.settle(settled, planned.forgotten)
        self._ledger.release(survey.stale)

    def _require_offered(self, name: str) -> None:
        architecture = self._catalogue.architecture
        if not self._view.offers(name, architecture):
            raise NotFound(
                f"the registry holds no application {name[:80]!r} for {architecture}: "
                "'amc registry list' shows what it holds"
            )

    # Parts

    def _open(self) -> Door:
        urls = self._options.get("registry.url")
        if not urls:
            raise Invalid(
                "no registry is set: 'amc config set registry.url https://<host>:3000' sets it"
            )
        fingerprint = self._options.get("registry.fingerprint")
        if not fingerprint:
            raise Invalid(
                "registry.fingerprint is not set: import the registry's certificate with 'amc "
                "config trust add' and set its fingerprint, which 'amc config trust list' shows"
            )
        return self._connect(urls, fingerprint)

    def _explained(self, fault: ServiceError, mode: Mode) -> ServiceError:
        if isinstance(fault, Forbidden):
            return refusal(fault, self._own_fingerprint(), mode)
        return fault

    def _configured(self) -> bool:
        return (
            bool(self._options.get("registry.url"))
            and bool(self._options.get("registry.fingerprint"))
            and self._mode() != "manual"
        )

    def _mode(self) -> Mode:
        return self._options.get("registry.mode")

    def _spread(self) -> float:
        """Return how long this site lets others go first, once it knows of something new."""
        return self._options.get("registry.spread").total_seconds() * self._chance()

    def _interval(self) -> float:
        return self._options.get("registry.update_interval").total_seconds()

    def _backoff(self, interval: float, longest: float = LONGEST_BACKOFF) -> float:
        """Wait longer after each failure, and not all sites at the same time."""
        self._failures += 1
        delay = min(FIRST_BACKOFF * 2 ** min(self._failures - 1, 20), longest, interval)
        return delay * (0.5 + self._chance() / 2)

    def _next_retry(self, longest: float) -> float:
        """Return the seconds until something set aside is to be tried again."""
        now = self._clock()
        waits = [
            (entry.retry_at - now).total_seconds() for entry in self._ledger.quarantine().values()
        ]
        return max(min(waits, default=longest), FIRST_BACKOFF)

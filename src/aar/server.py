"""The registry, its certificate, its doors and its janitor in one server.

It puts parts together and holds no rule; the command line is `aar.cli`'s business, workers and
connections are `regkit.serving`'s. Imported by `aar.serve`, after gevent's patching.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import gevent

from aar.refusals import Refusals
from aar.registry import Registry
from aar.settings import CERTIFICATE, CONFIGURATION, KEY, Settings
from regkit import identity, logs, serving
from regkit.errors import ServiceError, Unavailable
from regkit.serving.server import serve
from regkit.settings import load
from regkit.upkeep import swap

log = logs.get("aar.serve")

FLUSH_SECONDS = 1.0
"""How long a refusal waits until it is written to the audit log."""

REMEMBER_SECONDS = 5.0
"""How soon the state root remembers a registry that begins to be used."""

COMMON_NAME = "aar"


def run(home: Path, log_format: logs.Format = "text") -> None:
    """Serve the registry in the state root `home`, in the foreground, until told to stop.

    Raises ServiceError, with one line for the operator, when it can't start.
    """
    swap.complete(home)
    settings = _settings(home, log_format)
    server_identity = _identity(home, settings)
    # Migrate once, and find a bad state root or wrong keys before any worker does.
    with Registry(home, settings) as registry:
        try:
            registry.blobs.check()
            registry.check_storage()
            _ = registry.storage_authorities
        except Unavailable as error:
            # What needs no blob is answered all the same, and the rest as soon as it is back.
            log.warning("storage-unavailable", reason=str(error))
    workers = settings.http.workers or default_workers()
    address = settings.http.addr
    with _metrics_folder(home):
        serve(
            lambda: _make_app(home, settings),
            [serving.TcpListener(address.host, address.port)],
            identity=server_identity,
            workers=workers,
            minimum_tls=settings.http.minimum_tls,
            connections_per_client=settings.limits.connections_per_client,
            reload=lambda: _reload(home, log_format),
        )


def default_workers() -> int:
    """Return how many processes serve when the settings name no number.

    One per processor, up to four: SQLite has one writer, whatever their number.
    """
    return max(1, min(4, len(os.sched_getaffinity(0))))


def _settings(home: Path, log_format: logs.Format) -> Settings:
    settings = load(home / CONFIGURATION, Settings)
    logs.configure(settings.log.level, log_format)
    return settings


def _identity(home: Path, settings: Settings) -> identity.Identity:
    names = (*identity.local_names(), *settings.http.names)
    return identity.ensure(home / CERTIFICATE, home / KEY, COMMON_NAME, names, usage="server")


def _reload(home: Path, log_format: logs.Format) -> identity.Identity:
    """Read log level and certificate anew; what else the settings hold needs a restart."""
    return _identity(home, _settings(home, log_format))


def _make_app(home: Path, settings: Settings) -> Callable[..., object]:
    """Make the application of one worker, with a connection to the database of its own."""
    from aar.web import create_app  # noqa: PLC0415 - reads where the metrics go

    registry = Registry(home, settings)
    refusals = Refusals(registry.audit.write)
    gevent.spawn(_keep_clean, registry)
    gevent.spawn(_remember, registry)
    gevent.spawn(_write_down, refusals)
    atexit.register(refusals.flush, final=True)
    return create_app(registry, refusals, serving.stopping)


def _write_down(refusals: Refusals) -> None:
    """Write refusals to the audit log for as long as the worker lives; the last ones at its end.

    Not where they happen: a stranger must not make a request that costs a transaction.
    """
    while True:
        gevent.sleep(FLUSH_SECONDS)
        refusals.flush()


def _remember(registry: Registry) -> None:
    """Let the state root remember which registry it served, as soon as that is used."""
    while True:
        try:
            if registry.remember():
                return
        except (ServiceError, OSError) as error:
            log.warning("not-remembered", reason=str(error))
        gevent.sleep(REMEMBER_SECONDS)


def _keep_clean(registry: Registry) -> None:
    """Run the janitor now and then, in whichever worker gets the lock, for as long as it lives."""
    interval = registry.settings.janitor.interval.total_seconds()
    lock = os.open(registry.home / "data" / "janitor-worker.lock", os.O_RDWR | os.O_CREAT, 0o600)
    while not _locked(lock):
        gevent.sleep(min(interval, 60))
    while True:
        try:
            # Of several machines on one database, the first for which it is due.
            due = registry.settings.janitor.interval * 0.9
            registry.check_storage()  # it may have been away when the server was started
            done = registry.janitor.run(datetime.now(timezone.utc), every=due)
        except (ServiceError, OSError) as error:
            log.warning("janitor-failed", reason=str(error))
        else:
            log.debug("janitor-ran", uploads=done.uploads, blobs=done.blobs, bytes=done.bytes)
        gevent.sleep(interval)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _metrics_folder(home: Path) -> Iterator[None]:
    """Give the workers a folder for their counters; it holds nothing that outlives the server."""
    variable = "PROMETHEUS_MULTIPROC_DIR"  # read when prometheus-client is imported, in a worker
    parent = home / "run"
    _forget_former(parent)
    folder = parent / f"metrics-{os.getpid()}"
    folder.mkdir(parents=True, mode=0o700)
    before = os.environ.get(variable)
    os.environ[variable] = str(folder)
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == process:  # not in a worker that leaves by the same way
            shutil.rmtree(folder, ignore_errors=True)
            if before is None:
                del os.environ[variable]
            else:
                os.environ[variable] = before


def _forget_former(parent: Path) -> None:
    """Drop what servers left that were killed."""
    for folder in parent.glob("metrics-*"):
        process = folder.name.removeprefix("metrics-")
        if not (process.isdigit() and Path("/proc", process).exists()):
            shutil.rmtree(folder, ignore_errors=True)

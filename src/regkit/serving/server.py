"""One call that serves in the foreground: listeners, gunicorn's master and its workers."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger

from regkit import logs
from regkit.errors import ServiceError, Unavailable
from regkit.identity import Identity
from regkit.serving.certificate import ServedCertificate
from regkit.serving.listeners import Listener, describe
from regkit.serving.notify import notify, reloading
from regkit.serving.requests import announcing_close
from regkit.serving.waiting import HOPELESS, Waiting
from regkit.serving.worker import STOP_SIGNALS

log = logs.get("regkit.serving")

KEEP_ALIVE_SECONDS = 30
"""How long a connection may wait for a request, and a request for the end of its headers."""

WORKER_SECONDS = 120
"""A worker that gives no sign for so long is replaced."""

STOP_SECONDS = 12
"""After so long the master ends a worker that doesn't stop. Longer than a worker's own grace."""

STARTING_SECONDS = 0.02
"""How often the master looks for a worker that is ready, while it starts or reloads."""

CONNECTIONS = 10_000
"""The most connections of a worker."""


class StartFailed(ServiceError):  # noqa: N818 - the name states the fault
    """The server didn't start, or its workers can't; the log has said why."""


def serve(
    make_app: Callable[[], Any],
    listeners: Sequence[Listener],
    *,
    identity: Identity | None,
    workers: int = 1,
    minimum_tls: str = "1.3",
    reload: Callable[[], Identity] | None = None,
    connections_per_client: int = 0,
) -> None:
    """Serve until SIGTERM or SIGINT, then return. Workers leave by SystemExit, through the caller.

    `make_app` makes the WSGI application, in each worker; where it raises Unavailable, the worker
    answers 503 and tries again. TCP listeners speak TLS as `identity`,
    unix sockets plain HTTP; once its files hold another pair, new connections are shown that.
    SIGHUP calls `reload` for a new identity and replaces the workers; the listeners stay.
    `connections_per_client`: that one address may have open with a worker; 0: any. Raises
    ServiceError when it can't start. Port 0, the readiness line (`ready`, `address`) and
    sd_notify: the addresses are those really bound, and readiness is told when a worker can
    answer.
    """
    bound: list[socket.socket] = []
    try:
        for listener in listeners:
            bound.append(listener.bind())
    except ServiceError:
        for opened in bound:
            if opened.family == socket.AF_UNIX:
                Path(opened.getsockname()).unlink(missing_ok=True)
            opened.close()
        raise
    application = _Application(make_app, bound, identity, workers, minimum_tls, reload)
    application.connections_per_client = connections_per_client
    master = os.getpid()
    try:
        _Master(application).run()
    except SystemExit as end:
        if os.getpid() != master:
            raise  # the exit code tells the master whether another try makes sense
        if end.code:
            raise StartFailed("the server ended: its log says why") from None


class _Master(Arbiter):
    """gunicorn's master, which treats SIGINT as SIGTERM and speaks to systemd."""

    app: Any  # the _Application below

    def handle_int(self) -> None:
        self.handle_term()

    handle_quit = handle_int

    def handle_hup(self) -> None:
        self.app.starting = True
        self.app.tell(reloading())
        super().handle_hup()

    def spawn_worker(self) -> Any:
        # A signal between the fork and the worker's own handlers would be lost; see Worker.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def wait_for_signals(self, timeout: float | None = 1.0) -> Any:
        """Wait for signals; only for a moment while a worker's readiness is to be passed on.

        A signal in the midst of the wait doesn't always end it: under gevent its handler runs at
        the loop's next turn.
        """
        return super().wait_for_signals(STARTING_SECONDS if self.app.starting else timeout)

    def manage_workers(self) -> None:
        super().manage_workers()
        self.app.pass_on_readiness()

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """End with every worker; what failed has been logged where it failed."""
        self.app.tell("STOPPING=1")
        while True:
            try:
                self.stop()
            except HaltServer:  # another worker that couldn't start either
                continue
            sys.exit(exit_status)


class _Application(BaseApplication):
    """What gunicorn serves. The workers ask it for `tls` and tell it when they are `ready`."""

    def __init__(  # noqa: PLR0917 - made in one place only
        self,
        make_app: Callable[[], Any],
        bound: list[socket.socket],
        identity: Identity | None,
        workers: int,
        minimum_tls: str,
        reload: Callable[[], Identity] | None,
    ) -> None:
        self._make_app = make_app
        self._addresses = [describe(listener) for listener in bound]
        # gunicorn duplicates the descriptors and closes the ones it is given.
        self._binds = [f"fd://{listener.detach()}" for listener in bound]
        self._workers = workers
        self._reload = reload
        self._certificate = ServedCertificate(identity, minimum_tls) if identity else None
        # gunicorn would tell systemd that it is ready before a worker is.
        self._notify_socket = os.environ.pop("NOTIFY_SOCKET", None)
        self._readiness, self._answering = os.pipe()
        os.set_blocking(self._readiness, False)
        self._announced = False
        self.starting = True
        """Whether the next worker that is ready is to be told of."""
        self._waiting: Waiting | None = None
        self.connections_per_client = 0
        super().__init__()

    @property
    def tls(self) -> Any:
        """What the next TLS connection begins with."""
        return self._certificate.context if self._certificate else None

    def load_config(self) -> None:
        settings = {
            "bind": self._binds,
            "worker_class": "regkit.serving.worker.Worker",
            "workers": self._workers,
            "worker_connections": CONNECTIONS,
            "keepalive": KEEP_ALIVE_SECONDS,
            "timeout": WORKER_SECONDS,
            "graceful_timeout": STOP_SECONDS,
            "logger_class": _Log,
            "control_socket_disable": True,
            "proc_name": "regkit",
            "forwarded_allow_ips": "",
        }
        for name, value in settings.items():
            self.cfg.set(name, value)  # type: ignore[union-attr] - made by the base class

    def load(self) -> Any:
        """Make the application, in a worker; what stands for it while that must wait."""
        try:
            return self._made()
        except Unavailable as error:
            log.warning("start-waits", reason=str(error))
            self._waiting = Waiting(self._made, error, self.ready)
            return self._waiting
        except ServiceError as error:
            log.error("start-failed", reason=str(error))  # noqa: TRY400 - one line for the operator
            raise SystemExit(HOPELESS) from None

    def _made(self) -> Any:
        return announcing_close(self._make_app())

    def reload(self) -> None:
        """SIGHUP: read settings and certificate anew, keep the former ones if they are bad."""
        if self._reload is None or self._certificate is None:
            return
        try:
            self._certificate.use(self._reload())
        except ServiceError as error:
            log.error("reload-failed", reason=str(error))  # noqa: TRY400 - the same
        else:
            log.info("reloaded")

    def ready(self) -> None:
        """Tell the master, from a worker, that requests are answered by the application."""
        if self._waiting is not None and not self._waiting.over:
            return  # it calls this again
        os.write(self._answering, b".")

    def pass_on_readiness(self) -> None:
        """Tell the log, once, and systemd, after each reload too, when a worker answers."""
        try:
            os.read(self._readiness, 4096)
        except BlockingIOError:
            return
        self.starting = False
        if not self._announced:
            self._announced = True
            log.info("ready", address=self._addresses[-1], addresses=",".join(self._addresses))
        self.tell("READY=1")

    def tell(self, state: str) -> None:
        """Tell systemd how the service is doing."""
        notify(self._notify_socket, state)


class _Log(Logger):
    """gunicorn's logger without handlers of its own: `regkit.logs` has the format."""

    def setup(self, cfg: Any) -> None:
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)
        self.access_log.disabled = True

    def access(self, *_args: Any, **_kwargs: Any) -> None:
        """The applications log what matters."""

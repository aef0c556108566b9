"""The gunicorn worker: gevent's, with our TLS, prompt stopping and closed unread bodies."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.workers.ggevent import GeventWorker

from regkit import logs
from regkit.serving.clients import Clients, Place, turn_away
from regkit.serving.conversation import Shortcut, requests_of
from regkit.serving.requests import ClientGone, drain, unread
from regkit.serving.state import announce_stop
from regkit.tls import TlsSocket

log = logs.get("regkit.serving")

LINGER_SECONDS = 2
LINGER_BYTES = 8 * 1024 * 1024
"""How much of a refused body is read: a client that sends first must get to see its answer."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""What ends a worker; held back from the fork until its handlers are there."""

GRACE_SECONDS = 5
"""How long running requests may go on after SIGTERM."""

ARRIVAL_SECONDS = 1
"""How long a connection that was just accepted may take to its first request after SIGTERM."""


@dataclass(frozen=True)
class _Door:
    """What gunicorn asks of a listener while it answers: also after the listener is closed."""

    address: Any

    def getsockname(self) -> Any:
        return self.address


class Worker(GeventWorker):
    """One process that answers connections, each in a greenlet."""

    _stop: Event | None = None  # until the worker runs
    app: Any  # regkit.serving.server's application: `tls`, `ready()`, `connections_per_client`

    def init_signals(self) -> None:
        """Take signals from here on, those that came since the fork included."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def run(self) -> None:
        """Serve until told to stop; then give running requests a bounded grace."""
        self._stop = stop = Event()
        self._active = 0
        self._arriving: set[Any] = set()  # greenlets whose first request isn't there yet
        self._clients = Clients(self.app.connections_per_client)
        servers = []
        for listener in self.sockets:
            listener.setblocking(True)
            pool = Pool(self.worker_connections)
            door = _Door(listener.getsockname())
            server = StreamServer(listener, handle=partial(self.handle, door), spawn=pool)
            if self.cfg.workers > 1:
                server.max_accept = 1
            server.start()
            servers.append(server)
        if self.alive:
            self.app.ready()
        while self.alive:
            self.notify()
            stop.wait(1.0)
        announce_stop()
        for server in servers:
            server.close()
        since = time.monotonic()
        while self._is_busy(time.monotonic() - since):
            self.notify()
            gevent.sleep(0.05)
        for server in servers:
            server.stop(timeout=0)  # what is left is idle, or has had its time

    def _is_busy(self, stopping_for: float) -> bool:
        if self._active:
            return stopping_for < GRACE_SECONDS
        return bool(self._arriving) and stopping_for < ARRIVAL_SECONDS

    def handle_exit(self, sig: Any, frame: Any) -> None:
        """SIGTERM: leave the loop now rather than at its next second."""
        super().handle_exit(sig, frame)
        if self._stop is not None:
            self._stop.set()

    def handle_quit(self, sig: Any, frame: Any) -> None:
        """SIGINT, SIGQUIT: the same as SIGTERM."""
        self.handle_exit(sig, frame)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Shake hands where TLS is spoken, then answer requests."""
        self._arriving.add(gevent.getcurrent())
        try:
            self._handle(listener, client, addr)
        finally:
            self._arriving.discard(gevent.getcurrent())

    def _handle(self, listener: Any, client: Any, addr: Any) -> None:
        if client.family == socket.AF_UNIX:
            super().handle(listener, client, addr)
            return
        with self._clients.entered(addr[0]) as place:
            if place is Place.BEYOND:
                client.close()
                return
            connection: Any = TlsSocket(client, self.app.tls)
            try:
                connection.handshake()
            except OSError as error:
                log.debug("handshake-failed", peer=addr[0], reason=str(error))
                client.close()
                return
            if place is Place.FULL:
                turn_away(connection)
                return
            self._converse(listener, connection, addr)

    def _converse(self, listener: Any, connection: Any, addr: Any) -> None:
        """Answer requests until the connection is over. Only faults of ours are worth a line."""
        request = None
        try:
            for request in requests_of(
                connection, addr, self.cfg, self.timeout_ctx, self._shortcut()
            ):
                self.handle_request(listener.getsockname(), request, connection, addr)
        except (NoMoreData, StopIteration) as end:
            log.debug("connection-ended", peer=addr[0], reason=str(end))
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                log.exception("connection-failed", peer=addr[0])
        except BaseException as error:
            self.handle_error(request, connection, addr, error)
        finally:
            with contextlib.suppress(OSError):
                connection.close()

    def _shortcut(self) -> Shortcut | None:
        answer = getattr(self.wsgi, "shortcut", None)
        if answer is None:
            return None

        def shortcut(asked: bytes, connection: Any) -> bytes | None:
            if not self.alive:
                return None
            self._arriving.discard(gevent.getcurrent())
            return answer(asked, connection)

        return shortcut

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        """Answer one request; a connection with much unread body isn't used again."""
        # gunicorn doesn't know that TLS is spoken here.
        req.scheme = "http" if sock.family == socket.AF_UNIX else "https"
        self._arriving.discard(gevent.getcurrent())
        self._active += 1
        try:
            super().handle_request(listener_name, req, sock, addr)
        finally:
            self._active -= 1
            if unread(req.body):
                self._linger(req.body)
        if unread(req.body) or not self.alive:
            raise StopIteration
        return True

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:
        """Answer what isn't HTTP with one line that repeats nothing of it, and log faults of ours.

        The connection is closed afterwards: where a next request would start is unknown.
        """
        if isinstance(exc, (gevent.GreenletExit, SystemExit)):
            return  # the server is stopping
        if isinstance(exc, ParseException):
            log.info("bad-request", peer=addr[0] if addr else "unix", kind=type(exc).__name__)
            status = "400 Bad Request"
        else:
            logging.getLogger("regkit.serving").error("request-failed", exc_info=exc)
            status = "500 Internal Server Error"
        text = f"{status[4:].lower()}\n".encode()
        head = (
            f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(text)}\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            client.sendall(head.encode() + text)

    def _linger(self, body: Any) -> None:
        with contextlib.suppress(ClientGone, gevent.Timeout), gevent.Timeout(LINGER_SECONDS):
            drain(body, LINGER_BYTES)

    def notify(self) -> None:
        """Tell the master that the worker lives; leave when there is no master any more."""
        try:
            super().notify()
        except SystemExit:
            announce_stop()
            sys.exit(0)

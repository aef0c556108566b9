"""The gunicorn worker: gevent's, with our TLS, prompt stopping and closed unread bodies."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import time
from functools import partial
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.http.errors import ParseException
from gunicorn.workers.ggevent import GeventWorker

from regkit import logs
from regkit.serving.requests import ClientGone, drain, unread
from regkit.serving.state import announce_stop
from regkit.tls import TlsSocket

log = logs.get("regkit.serving")

LINGER_SECONDS = 2
LINGER_BYTES = 8 * 1024 * 1024
"""How much of a refused body is read: a client that sends first must get to see its answer."""

GRACE_SECONDS = 5
"""How long running requests may go on after SIGTERM."""


class Worker(GeventWorker):
    """One process that answers connections, each in a greenlet."""

    _stop: Event | None = None  # until the worker runs
    app: Any  # regkit.serving.server's application: `tls` and `ready()`

    def run(self) -> None:
        """Serve until told to stop; then give running requests a bounded grace."""
        self._stop = stop = Event()
        self._active = 0
        servers = []
        for listener in self.sockets:
            listener.setblocking(True)
            pool = Pool(self.worker_connections)
            server = StreamServer(listener, handle=partial(self.handle, listener), spawn=pool)
            if self.cfg.workers > 1:
                server.max_accept = 1
            server.start()
            servers.append(server)
        if self.age == 1:
            self.app.ready()
        while self.alive:
            self.notify()
            stop.wait(1.0)
        announce_stop()
        for server in servers:
            server.close()
        deadline = time.monotonic() + GRACE_SECONDS
        while self._active and time.monotonic() < deadline:
            self.notify()
            gevent.sleep(0.05)
        for server in servers:
            server.stop(timeout=1)

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
        if client.family != socket.AF_UNIX:
            connection = TlsSocket(client, self.app.tls)
            try:
                connection.handshake()
            except OSError as error:
                log.debug("handshake-failed", peer=addr[0], reason=str(error))
                client.close()
                return
            client = connection
        super().handle(listener, client, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        """Answer one request; a connection with much unread body isn't used again."""
        self._active += 1
        try:
            super().handle_request(listener_name, req, sock, addr)
        finally:
            self._active -= 1
            if unread(req.body):
                self._linger(req.body)
        if unread(req.body):
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

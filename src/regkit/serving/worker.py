"""The gunicorn worker: gevent's, with our TLS, prompt stopping and closed unread bodies."""

from __future__ import annotations

import socket
import sys
import time
from functools import partial
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.workers.ggevent import GeventWorker

from regkit import logs
from regkit.serving.requests import unread
from regkit.serving.state import announce_stop
from regkit.tls import TlsSocket

log = logs.get("regkit.serving")

GRACE_SECONDS = 5
"""How long running requests may go on after SIGTERM."""


class Worker(GeventWorker):
    """One process that answers connections, each in a greenlet."""

    app: Any  # regkit.serving.server's application: `tls` and `ready()`

    def run(self) -> None:
        """Serve until told to stop; then give running requests a bounded grace."""
        self._stop = Event()
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
            self._stop.wait(1.0)
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
            raise StopIteration
        return True

    def notify(self) -> None:
        """Tell the master that the worker lives; leave when there is no master any more."""
        try:
            super().notify()
        except SystemExit:
            announce_stop()
            sys.exit(0)

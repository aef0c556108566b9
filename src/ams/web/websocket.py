"""A websocket on the connection of the current request, over which events go out (RFC 6455).

The protocol is wsproto's; here are the connection under it, whichever of the two doors it came
through, and the reasons to end it: the caller leaves or is too slow, its trust is taken away, the
service stops. Which events go out is the callers' business. What a client sends but control frames
is dropped.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import gevent
from flask import Blueprint, Response, request
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, CloseConnection, Ping, TextMessage
from wsproto.utilities import ProtocolError

from ams.events import Event, Overrun, Subscription
from ams.web.access import still_trusted
from regkit import logs, serving
from regkit.errors import Forbidden, Invalid
from regkit.trust import Refused

log = logs.get("ams.websocket")

TICK = 1.0
"""Seconds after which trust and shutdown are looked at when there is nothing to send."""
PING_EVERY = 25.0
"""Seconds between pings, well below what the connection may idle."""
IDLE_SECONDS = 75.0
"""A client that answers nothing for so long, pings neither, is gone."""
SEND_SECONDS = 5.0
"""A client that doesn't take an event for so long is too slow."""
GOODBYE_SECONDS = 1.0
"""How long a closing handshake may take."""
READ = 16 * 1024

NORMAL, GOING_AWAY, PROTOCOL_ERROR, POLICY, TRY_LATER = 1000, 1001, 1002, 1008, 1013
"""Status codes of a close frame (RFC 6455, 7.4.1; 1013 of the IANA registry)."""

View = TypeVar("View", bound=Callable[..., Any])

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==", re.ASCII)


def route(blueprint: Blueprint, path: str) -> Callable[[View], View]:
    """Register a view for a websocket at `path`, and for who asks there without one."""

    def register(view: View) -> View:
        # Werkzeug keeps the two kinds of request apart.
        blueprint.add_url_rule(path, view_func=view, methods=["GET"])
        blueprint.add_url_rule(path, view_func=view, methods=["GET"], websocket=True)
        return view

    return register


class Stream(Response):
    """An answer that turns the connection into a websocket and sends what a subscription brings.

    `subscribe` begins to listen; `first`, if it gives an event, is sent ahead. It ends by itself
    after an event for which `last` is true. Raises Invalid when the request asks for no websocket,
    Forbidden when a web page of another site does.
    """

    def __init__(
        self,
        subscribe: Callable[[], Subscription],
        *,
        first: Callable[[], Event | None] = lambda: None,
        last: Callable[[Event], bool] = lambda _event: False,
    ) -> None:
        super().__init__(status=101)
        # In this order: a refusal must not leave a subscription behind.
        self._protocol, self._hello = _handshake()
        self._check_trust = still_trusted()
        self._subscription = subscribe()
        self._first = first
        self._last = last

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Serve the websocket, then tell gunicorn that the connection is used up."""
        connection = _Connection(environ["gunicorn.socket"], self._protocol, self._subscription)
        try:
            with self._subscription:
                connection.begin(self._hello)
                code, reason = self._send(connection)
            connection.end(code, reason)
        except (OSError, gevent.Timeout) as error:
            code, reason = 0, str(error) or "the client doesn't read"
        finally:
            connection.abandon()
        log.debug("websocket-closed", path=environ.get("PATH_INFO", ""), code=code, reason=reason)
        # gunicorn's way to say that no answer is to be written and the connection to be closed.
        raise StopIteration

    def _send(self, connection: _Connection) -> tuple[int, str]:
        """Send events until there is a reason to stop; returns its code and words."""
        try:
            event = self._first()
            while True:
                self._check_trust()
                if event is not None:
                    connection.send(event.text)
                    if self._last(event):
                        return NORMAL, "the operation has ended"
                if connection.left is not None:
                    return connection.left
                if serving.stopping():
                    return GOING_AWAY, "the service is stopping"
                connection.ping_if_due()
                event = self._subscription.get(TICK)
        except Overrun:
            return TRY_LATER, "too slow: events were missed"
        except Refused as refusal:
            return POLICY, refusal.reason


class _Connection:
    """The websocket itself: frames in, frames out. One greenlet reads, another one sends."""

    def __init__(self, sock: Any, protocol: WSConnection, subscription: Subscription) -> None:
        self._socket = sock
        self._protocol = protocol
        self._subscription = subscription
        self._sending = threading.Lock()
        self._pinged = time.monotonic()
        self._reader = threading.Thread(target=self._read, name="ams-websocket", daemon=True)
        self.left: tuple[int, str] | None = None
        """Why the client's side is at its end, once it is."""

    def begin(self, hello: bytes) -> None:
        """Answer the handshake and listen to what the client says."""
        self._socket.settimeout(IDLE_SECONDS)  # the TLS one has this limit by itself
        self._write(hello)
        self._reader.start()

    def send(self, text: str) -> None:
        """Send a text message. Raises OSError, gevent.Timeout."""

        with self._sending:
            self._write(self._protocol.send(TextMessage(data=text)))

    def ping_if_due(self) -> None:
        """Ask for a sign of life now and then."""

        if time.monotonic() - self._pinged >= PING_EVERY:
            self._pinged = time.monotonic()
            with self._sending:
                self._write(self._protocol.send(Ping()))

    def end(self, code: int, reason: str) -> None:
        """Say goodbye, and give the client a moment to say it too."""

        with self._sending:
            if self._protocol.state is ConnectionState.OPEN:
                self._write(self._protocol.send(CloseConnection(code=code, reason=reason[:100])))
        self._reader.join(GOODBYE_SECONDS)

    def abandon(self) -> None:
        """End the reader; the connection itself is gunicorn's to close."""
        if self._reader.ident is None:
            return
        with contextlib.suppress(OSError):  # the client may have been faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()

    def _read(self) -> None:
        try:
            while self.left is None:
                self.left = self._take(self._socket.recv(READ))
        except (OSError, gevent.Timeout) as error:
            self.left = (GOING_AWAY, str(error) or "the client is gone")
        self._subscription.close()  # wakes the sender

    def _take(self, data: bytes) -> tuple[int, str] | None:
        """Take what the client sent, answer its control frames; returns why to end, if so."""

        if not data:
            return GOING_AWAY, "the client has left"
        try:
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                if isinstance(event, (Ping, CloseConnection)):
                    with self._sending:
                        self._write(self._protocol.send(event.response()))
                if isinstance(event, CloseConnection):
                    return NORMAL, "the client said goodbye"
        except ProtocolError as error:
            return PROTOCOL_ERROR, str(error)
        return None

    def _write(self, data: bytes) -> None:
        with gevent.Timeout(SEND_SECONDS):
            self._socket.sendall(data)


def _handshake() -> tuple[WSConnection, bytes]:
    """Check the request's half of the handshake; returns the protocol and our half of it."""

    refusal = Invalid(f"{request.path} is a websocket: connect with 'Upgrade: websocket'")
    headers = request.headers
    key = headers.get("Sec-WebSocket-Key", "")
    has_body = request.content_length or "Transfer-Encoding" in headers
    if request.method != "GET" or has_body or not _KEY.fullmatch(key):
        raise refusal
    origin = headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        raise Forbidden("not authorized: a web page of another site can't listen here")
    protocol = WSConnection(ConnectionType.SERVER)
    shown = [("Host", "localhost"), ("Sec-WebSocket-Key", key)]
    for name in ("Connection", "Upgrade", "Sec-WebSocket-Version"):
        shown.append((name, headers.get(name, "")))
    try:
        protocol.initiate_upgrade_connection(
            [(name.encode(), value.encode("latin-1")) for name, value in shown], "/"
        )
        return protocol, protocol.send(AcceptConnection())
    except ProtocolError:
        raise refusal from None

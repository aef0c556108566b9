"""A websocket client for both doors of a service: the unix socket, and mutual TLS.

The protocol is that of websocket-client, which shares nothing with the service's own side.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import websocket

from support.ams import Service
from support.pairs import Pair

DEADLINE = 20.0


class Events:
    """The messages of one websocket, as the objects that they are."""

    def __init__(self, connection: websocket.WebSocket, sock: socket.socket) -> None:
        self.connection = connection
        self.socket = sock

    def next(self) -> dict[str, Any]:
        """Return the next message; pings are answered meanwhile."""
        return json.loads(self.connection.recv())

    def until(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first message that fits."""
        while True:
            message = self.next()
            if fits(message):
                return message

    def lifecycle(self, action: str) -> dict[str, Any]:
        """Return the metadata of the next lifecycle event of this action."""
        found = self.until(lambda e: e["metadata"].get("action") == action)
        return found["metadata"]

    def ended(self) -> int:
        """Read until the service says goodbye, and return its code."""
        while True:
            frame = self.connection.recv_frame()
            if frame.opcode == websocket.ABNF.OPCODE_CLOSE:
                with contextlib.suppress(OSError):  # it may not have waited for an answer
                    self.connection.send_close()
                return int.from_bytes(bytes(frame.data[:2]), "big")  # type: ignore[arg-type]


@contextmanager
def connected(
    service: Service, path: str, pair: Pair | None = None, **headers: str
) -> Iterator[Events]:
    """Open the websocket at `path`: over the unix socket, or over TLS with `pair`."""
    sock = _tls(service, pair) if pair else _unix(service)
    sock.settimeout(DEADLINE)
    scheme = "wss" if pair else "ws"
    connection = websocket.WebSocket()
    try:
        connection.connect(
            f"{scheme}://ams{path}",
            socket=sock,
            suppress_origin=True,
            header=[f"{name}: {value}" for name, value in headers.items()],
        )
        connection.settimeout(DEADLINE)
        yield Events(connection, sock)
    finally:
        connection.shutdown()
        sock.close()


def _unix(service: Service) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(service.home / "server" / "unix.socket"))
    return sock


def _tls(service: Service, pair: Pair) -> socket.socket:
    context = ssl.create_default_context(cafile=str(service.home / "server" / "ams.crt"))
    context.load_cert_chain(*pair.files)
    raw = socket.create_connection(service.address(), DEADLINE)
    return context.wrap_socket(raw, server_hostname="localhost")

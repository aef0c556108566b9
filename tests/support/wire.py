"""Bytes on a TLS connection to a service, written one by one: for tests that attack it."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30


def context(identity: Path | None = None) -> ssl.SSLContext:
    """A client's context that believes any server and presents `identity`, a file with both."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if identity is not None:
        made.load_cert_chain(identity)
    return made


@contextmanager
def dialled(port: int, identity: Path | None = None) -> Iterator[ssl.SSLSocket]:
    """A connection with a finished handshake."""
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        context(identity).wrap_socket(plain) as connection,
    ):
        yield connection


def everything(connection: ssl.SSLSocket) -> bytes:
    """All that comes until the other side hangs up, politely or not."""
    received = bytearray()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := connection.recv(65536):
            received += piece
    return bytes(received)


def exchange(port: int, identity: Path | None, request: bytes) -> bytes:
    """Send `request`, whose last part should end the connection, and return what comes."""
    with dialled(port, identity) as connection:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            connection.sendall(request)
        return everything(connection)

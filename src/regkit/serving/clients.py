"""How many connections one address has open with a worker, and what becomes of one too many.

A client with too many connections is told so, over TLS and HTTP, as long as few of its
connections wait to be told; those beyond are closed before they cost a handshake.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import gevent

from regkit import logs
from regkit.rates import Rates

log = logs.get("regkit.serving")

TOLD = 32
"""Connections beyond the limit that are answered before they are closed."""
TELL_SECONDS = 2
NETWORK = 64
"""Bits of an IPv6 address that a provider gives to one client (RFC 6177)."""


class Place(Enum):
    """Where a new connection stands among those of its client."""

    WITHIN = "within"
    FULL = "full"
    BEYOND = "beyond"


class Clients:
    """Counts open connections by client; `limit` 0: without one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: Counter[str] = Counter()
        self._lines = Rates(1 / 60, 1)

    @contextmanager
    def entered(self, address: str) -> Iterator[Place]:
        """Count a connection from `address` within the context."""
        if not self._limit:
            yield Place.WITHIN
            return
        client = client_of(address)
        self._open[client] += 1
        number = self._open[client]
        try:
            if number <= self._limit:
                yield Place.WITHIN
                return
            if not self._lines.wait(client):
                log.warning("too-many-connections", peer=client, limit=self._limit)
            yield Place.FULL if number <= self._limit + TOLD else Place.BEYOND
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]


def client_of(address: str) -> str:
    """Return what an address is counted as: itself, or the network that one client has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    mapped = parsed.ipv4_mapped
    if mapped is not None:
        return str(mapped)
    return str(ipaddress.ip_network((parsed, NETWORK), strict=False))


def turn_away(connection: Any) -> None:
    """Answer 429 to whatever is asked, and close."""
    text = b"too many connections from this address: use fewer, or reuse them\n"
    head = (
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 10\r\nConnection: close\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n"
    )
    with contextlib.suppress(OSError, gevent.Timeout), gevent.Timeout(TELL_SECONDS):
        connection.sendall(head.encode() + text)
        # A close with a request unread would take the answer with it.
        while connection.recv(65536):
            pass
    connection.close()

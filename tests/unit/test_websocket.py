"""The frames of a websocket on a connection: signs of life, goodbyes, and clients that vanish."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, Pong, TextMessage

from ams.events import Events, Subscription
from ams.web import websocket

KEY = base64.b64encode(bytes(16))
HELLO = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Peer:
    """The other end of the connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._protocol = Connection(ConnectionType.CLIENT)

    def take(self) -> list[Event]:
        self._protocol.receive_data(self.socket.recv(65536))
        return list(self._protocol.events())

    def send(self, event: Event) -> None:
        self.socket.sendall(self._protocol.send(event))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("ams.web.websocket.time.monotonic", clock)
    return clock


@pytest.fixture
def both(clock: Clock) -> Iterator[tuple[websocket._Connection, Peer, Subscription]]:
    protocol = WSConnection(ConnectionType.SERVER)
    headers = [(b"Host", b"x"), (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    headers += [(b"Sec-WebSocket-Key", KEY), (b"Sec-WebSocket-Version", b"13")]
    protocol.initiate_upgrade_connection(headers, "/")
    protocol.send(AcceptConnection())
    ours, theirs = socket.socketpair()
    subscription = Events().subscribe()
    connection = websocket._Connection(ours, protocol, subscription)
    connection.begin(HELLO)
    assert theirs.recv(len(HELLO)) == HELLO
    theirs.settimeout(20)
    yield connection, Peer(theirs), subscription
    connection.abandon()
    ours.close()
    theirs.close()


def test_a_ping_now_and_then(
    both: tuple[websocket._Connection, Peer, Subscription], clock: Clock
) -> None:
    connection, peer, _ = both
    connection.ping_if_due()
    clock.now += websocket.PING_EVERY - 1
    connection.ping_if_due()
    clock.now += 1
    connection.ping_if_due()
    connection.ping_if_due()
    connection.send("{}")
    pinged, message = peer.take()
    assert isinstance(pinged, Ping)
    assert isinstance(message, TextMessage)
    assert websocket.PING_EVERY * 2 < websocket.IDLE_SECONDS


def test_goodbyes_from_both_sides(
    both: tuple[websocket._Connection, Peer, Subscription],
) -> None:
    connection, peer, subscription = both
    peer.send(Ping(b"x"))
    (pong,) = peer.take()
    assert pong == Pong(b"x")
    peer.send(CloseConnection(1000))
    (answer,) = peer.take()
    assert isinstance(answer, CloseConnection)
    assert subscription.get(20) is None  # the sender is woken
    assert connection.left == (websocket.NORMAL, "the client said goodbye")
    connection.end(websocket.GOING_AWAY, "x")  # nothing is said twice
    peer.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.socket.recv(1)


def test_a_client_that_vanishes_wakes_the_sender(
    both: tuple[websocket._Connection, Peer, Subscription],
) -> None:
    connection, peer, subscription = both
    peer.socket.shutdown(socket.SHUT_RDWR)
    assert subscription.get(20) is None
    assert connection.left == (websocket.GOING_AWAY, "the client has left")


def test_we_say_goodbye_with_a_reason(
    both: tuple[websocket._Connection, Peer, Subscription],
) -> None:
    connection, peer, _ = both
    connection.end(websocket.POLICY, "x" * 200)  # a control frame holds 125 bytes
    (said,) = peer.take()
    assert isinstance(said, CloseConnection)
    assert (said.code, said.reason) == (websocket.POLICY, "x" * 100)

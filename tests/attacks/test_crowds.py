"""Crowds: many who hold connections and do nothing, slowly; the others go on.

What counts here is that everybody else is answered. How much later is printed, as a ratio of
medians and of the slowest of a hundred, to be read in the log: it depends on the machine.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from support.distribution import push_blob
from support.registry import RunningRegistry, running
from support.wire import context, dialled

CROWD = 1_000
ASKED = 100
PATIENCE = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4 * CROWD:
        if hard != resource.RLIM_INFINITY and hard < 4 * CROWD:
            pytest.skip(f"a crowd needs {4 * CROWD} open files, the system allows {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (4 * CROWD, hard))
    try:
        with running(tmp_path_factory.mktemp("aar"), workers=2) as server:
            push_blob(server.publisher, "crowd", b"x" * 1_000)
            yield server
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def latencies(server: RunningRegistry) -> list[float]:
    """Seconds of a client's requests, on one connection and new ones by turns; all answered."""
    assert server.client.identity is not None
    took = []
    request = b"GET /v2/crowd/tags/list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for number in range(ASKED):
        begun = time.perf_counter()
        if number % 4:
            assert server.client.get("/v2/").status_code == 200
        else:
            with dialled(server.port, server.client.identity.path) as connection:
                connection.sendall(request)
                assert connection.recv(20).startswith(b"HTTP/1.1 ")
        took.append(time.perf_counter() - begun)
    return took


def compared(name: str, before: list[float], under: list[float]) -> None:
    median = statistics.median(under) / statistics.median(before)
    print(
        f"latency under attack, {name}: median {statistics.median(before) * 1000:.1f} ms before, "
        f"{statistics.median(under) * 1000:.1f} ms during, ratio {median:.1f}; "
        f"slowest of {ASKED}: {max(before) * 1000:.0f} ms, {max(under) * 1000:.0f} ms"
    )


def plain(server: RunningRegistry) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE)


def half_hello(server: RunningRegistry) -> socket.socket:
    made = plain(server)
    made.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    return made


def tls(server: RunningRegistry, first: bytes) -> ssl.SSLSocket:
    made = STRANGER.wrap_socket(plain(server))
    if first:
        made.sendall(first)
    return made


STRANGER = context()
CROWDS: dict[str, tuple[int, Callable[[RunningRegistry], socket.socket], bytes]] = {
    "1,000 sockets that say nothing": (CROWD, plain, b""),
    "1,000 half-open handshakes": (CROWD, half_hello, b"\x00"),
    "200 with endless headers": (200, lambda s: tls(s, b"GET /v2/ HTTP/1.1\r\n"), b"X: 1\r\n"),
    "200 strangers with slow bodies": (
        200,
        lambda s: tls(
            s, b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n"
        ),
        b"x",
    ),
    "200 idle after their handshake": (200, lambda s: tls(s, b""), b""),
}


@contextmanager
def crowd(
    server: RunningRegistry,
    size: int,
    make: Callable[[RunningRegistry], socket.socket],
    drip: bytes,
) -> Iterator[list[socket.socket]]:
    """So many connections, each of which gets another byte now and then."""
    made = [make(server) for _ in range(size)]
    stop = threading.Event()

    def feed() -> None:
        while not stop.wait(1):
            for connection in made:
                # Most have been hung up on by then, which is the point.
                with contextlib.suppress(OSError):
                    connection.sendall(drip)

    feeder = threading.Thread(target=feed, daemon=True)
    if drip:
        feeder.start()
    try:
        yield made
    finally:
        stop.set()
        if drip:
            feeder.join(PATIENCE)
        for connection in made:
            connection.close()


@pytest.mark.parametrize("name", CROWDS)
def test_others_are_answered(server: RunningRegistry, name: str):
    size, make, drip = CROWDS[name]
    before = latencies(server)
    with crowd(server, size, make, drip):
        under = latencies(server)
    compared(name, before, under)
    assert len(under) == ASKED
    # And it is over when the crowd has gone.
    assert server.client.get("/1.0/status").status_code == 200


def test_who_stalls_is_let_go(server: RunningRegistry):
    """A half-open handshake ends by itself, and gives its descriptor back."""
    with crowd(server, 20, half_hello, b"") as made:
        for connection in made:
            connection.settimeout(PATIENCE)
            assert connection.recv(1) == b""


def test_the_rest_of_a_slow_publisher_is_kept_and_others_publish(server: RunningRegistry):
    """Uploads that stall hold nobody else up, and no lock on what others push."""
    assert server.publisher.identity is not None
    head = b"PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 10
    opened = []
    try:
        for _ in range(50):
            place = server.publisher.post("/v2/crowd/blobs/uploads/").headers["Location"]
            connection = context(server.publisher.identity.path).wrap_socket(plain(server))
            connection.sendall(head % place.encode())
            opened.append(connection)
        for number in range(20):
            push_blob(server.publisher, "crowd", b"other %d" % number)
    finally:
        for connection in opened:
            connection.close()

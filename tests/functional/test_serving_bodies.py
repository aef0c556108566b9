"""Request and response bodies through the server: whole or refused, never confused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.echo_server import BLOCK
from support.echoes import Server, read_answer, request, unix_connection

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("echo")) as started:
        yield started
        assert "Traceback" not in started.output


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 8191, 3 * MIB + 7, 40 * MIB])
def test_an_upload_arrives_whole(server: Server, size: int, chunked: bool):
    body = (BLOCK * (size // len(BLOCK) + 1))[:size]
    pieces = (body[at : at + 100_001] for at in range(0, size, 100_001))
    with server.session() as session:
        answer = session.put(f"{server.url}/sink", data=pieces if chunked else body)
    assert answer.json() == {"size": size, "digest": hashlib.sha256(body).hexdigest()}


def test_an_upload_over_the_unix_socket_arrives_whole(server: Server):
    body = BLOCK * 20
    with unix_connection(server) as connection:
        head = f"PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert read_answer(connection).json()["digest"] == hashlib.sha256(body).hexdigest()


def test_a_slow_reader_gets_everything_and_keeps_nobody_waiting(server: Server):
    size = 24 * MIB + 11
    expected = hashlib.sha256((BLOCK * (size // len(BLOCK) + 1))[:size]).hexdigest()
    with server.session() as slow, server.session() as quick:
        digest, got = hashlib.sha256(), 0
        with slow.get(f"{server.url}/bytes/{size}", stream=True) as answer:
            for piece in answer.iter_content(2 * MIB):
                assert quick.get(f"{server.url}/who").status_code == 200  # while that one waits
                digest.update(piece)
                got += len(piece)
    assert (got, digest.hexdigest()) == (size, expected)


CUTS = {
    "length": b"Content-Length: 1000\r\n\r\n" + b"x" * 999,
    "chunk": b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
    "last": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "end": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    "size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    "terminator": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("polite", [True, False])
@pytest.mark.parametrize("kind", CUTS)
def test_a_cut_upload_is_never_taken_for_a_whole_one(tmp_path: Path, kind: str, polite: bool):
    with Server(tmp_path) as server:
        with server.tls() as connection:
            connection.sendall(b"PUT /sink HTTP/1.1\r\nHost: a\r\n" + CUTS[kind])
            if polite:
                # It says goodbye in TLS too; the answer to that is the server's 400.
                with contextlib.suppress(ssl.SSLError):
                    connection.unwrap()
        line = json.loads(server.expect("body-"))
    assert line["event"] == "body-cut"
    assert "Traceback" not in server.output


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_body_ends_where_the_next_request_begins(server: Server, body: bytes):
    with server.tls() as connection:
        connection.sendall(b"PUT /sink HTTP/1.1\r\nHost: a\r\n" + body + GET_WHO)
        assert read_answer(connection).json()["size"] == 5
        assert "fingerprint" in read_answer(connection).json()


GET_WHO = b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n"
LURE = b"SMUGGLED-MARK"
SMUGGLING = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "the same length twice": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": b"Content-Length: 5, 5\r\n\r\nhello",
    "length and chunked": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a signed length": b"Content-Length: +5\r\n\r\nhello",
    "a negative length": b"Content-Length: -5\r\n\r\nhello",
    "a hexadecimal length": b"Content-Length: 0x5\r\n\r\nhello",
    "a foreign digit": b"Content-Length: \xb2\r\n\r\nhello",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Content-Length : 5\r\n\r\nhello",
    "a folded header": b"X-A: 1\r\n Content-Length: 5\r\n\r\nhello",
    "a bare line feed": b"X-A: 1\nContent-Length: 5\r\n\r\nhello",
    "a null byte": b"X-A: \x00\r\n\r\n",
    "a second host": b"Host: b\r\n\r\n",
    "a huge header": b"X-A: " + b"a" * 20_000 + b"\r\n\r\n",
    "many headers": b"".join(b"X-%d: a\r\n" % number for number in range(500)) + b"\r\n",
}


@pytest.mark.parametrize("kind", SMUGGLING)
def test_ambiguous_requests_are_refused_and_end_the_connection(server: Server, kind: str):
    first = b"PUT /sink?" + LURE + b" HTTP/1.1\r\nHost: a\r\n"
    with server.tls() as connection:
        connection.sendall(first + SMUGGLING[kind] + GET_WHO)
        answer = read_answer(connection)
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert len(answer.body) < 200
        assert LURE not in answer.raw
        assert connection.recv(1000) == b""  # the request behind it was never answered


@pytest.mark.parametrize(
    "line",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PUT /sink HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["http2", "chunked in 1.0", "long line", "method", "nonsense"],
)
def test_what_is_not_http_1_1_is_refused(server: Server, line: bytes):
    with server.tls() as connection:
        connection.sendall(line)
        answer = read_answer(connection)
        assert answer.status == 400
        assert connection.recv(1000) == b""


def test_a_refused_upload_gets_its_answer_and_ends_the_connection(server: Server):
    with server.tls() as connection:
        connection.sendall(b"PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 4194304\r\n\r\n")
        connection.sendall(bytes(4 * MIB))
        answer = read_answer(connection)
        assert (answer.status, answer.headers["connection"]) == (403, "close")
        assert connection.recv(1000) == b""


def test_a_small_unread_body_keeps_the_connection(server: Server):
    with server.tls() as connection:
        connection.sendall(b"PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        assert read_answer(connection).status == 403
        assert request(connection, "GET /who").status == 200


def test_an_endless_upload_is_not_read_after_its_refusal(server: Server):
    """The client may lose the answer, the server must not lose its time."""
    sent = 0
    with server.tls() as connection:
        connection.settimeout(20)
        connection.sendall(
            b"PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000000\r\n\r\n"
        )
        with pytest.raises((ConnectionError, ssl.SSLError)):
            while sent < 1000 * MIB:
                connection.sendall(BLOCK)
                sent += len(BLOCK)
    assert sent < 100 * MIB

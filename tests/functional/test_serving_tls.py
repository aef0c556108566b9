"""TLS of the server over real connections: who is taken, what is proven, what can't hurt."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import gevent.socket
import pytest

from regkit import identity, tls
from regkit.identity import Identity
from support import pairs
from support.echoes import Server, client_context, request
from support.processes import DEADLINE, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("echo")) as started:
        yield started
        assert "Traceback" not in started.output


@pytest.mark.parametrize(
    ("usage", "starts", "ends"),
    [
        ("client", -1, 1),
        ("client", -2, -1),  # expired
        ("client", 1, 2),  # not yet valid
        ("server", -1, 1),  # meant for something else
        (None, -1, 1),
    ],
)
def test_any_certificate_reaches_the_application(
    server: Server, tmp_path: Path, usage, starts: int, ends: int
):
    days = timedelta(days=starts), timedelta(days=ends)
    pair = pairs.make(tmp_path, "someone", usage=usage, starts=days[0], ends=days[1])
    client = Identity(pair.certificate, pair.cert_path, pair.key_path)
    with server.session(client) as session:
        for _ in range(2):  # the second on the connection that is kept
            who = session.get(f"{server.url}/who").json()
            assert who["fingerprint"] == str(pair.certificate.fingerprint)
            assert (who["local"], who["scheme"]) == (False, "https")


def test_no_certificate_is_nobody(server: Server):
    with server.session() as session:
        assert session.get(f"{server.url}/who").json()["fingerprint"] is None


def test_a_resumed_session_keeps_the_certificate(server: Server, tmp_path: Path):
    pair = pairs.make(tmp_path, "returning")
    context = client_context(pair.files)
    with server.tls(context) as first:
        assert request(first, "GET /who").json()["fingerprint"]
        ticket = first.session
    with server.tls(context, session=ticket) as second:
        who = request(second, "GET /who").json()
        assert second.session_reused
    assert who["fingerprint"] == str(pair.certificate.fingerprint)


def test_tls_1_2_is_refused_unless_it_is_allowed(server: Server, tmp_path: Path):
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"), server.tls(context):
        pass
    pair = pairs.make(tmp_path, "older")
    context = client_context(pair.files)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Server(tmp_path / "home", "--minimum-tls", "1.2") as lenient:
        with lenient.tls(context) as connection:
            assert connection.version() == "TLSv1.2"
            who = request(connection, "GET /who").json()
            assert who["fingerprint"] == str(pair.certificate.fingerprint)
            ticket = connection.session
        with lenient.tls(context, session=ticket) as connection:
            assert request(connection, "GET /who").json() == who
            assert connection.session_reused


def test_clients_that_stall_or_leave_in_the_handshake_hurt_nobody(server: Server):
    hello = b"\x16\x03\x01\x02\x00\x01\x00"
    stalled = [server.tcp() for _ in range(50)]
    try:
        for number, connection in enumerate(stalled):
            connection.sendall(hello[: number % len(hello)])
        server.tcp().close()
        with server.tcp() as left:
            left.sendall(hello)
        with server.tcp() as plain:
            plain.sendall(b"GET /who HTTP/1.1\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                while plain.recv(1000):
                    pass  # an alert may come first
                raise ConnectionResetError
        with server.session() as session:
            assert session.get(f"{server.url}/who").status_code == 200
    finally:
        for connection in stalled:
            connection.close()
    with server.session() as session:
        assert session.get(f"{server.url}/who").status_code == 200
    assert "Traceback" not in server.output


def test_a_broken_record_ends_its_connection_only(server: Server):
    connection = server.tls()
    with socket.socket(fileno=connection.detach()) as raw:
        raw.settimeout(DEADLINE)
        raw.sendall(os.urandom(2000))
        until(lambda: closed(raw))
    with server.session() as session:
        assert session.get(f"{server.url}/who").status_code == 200
    assert "Traceback" not in server.output


def test_a_handshake_has_limited_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.05)
    made = identity.ensure(tmp_path / "a.crt", tmp_path / "a.key", "a", ["a"], usage="server")
    ours, theirs = gevent.socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\x16\x03\x01")
        with pytest.raises(ConnectionAbortedError, match="took too long"):
            tls.TlsSocket(ours, tls.server_context(made)).handshake()


def closed(raw: socket.socket) -> bool:
    try:
        return raw.recv(1000) == b""
    except ConnectionResetError:
        return True

"""Answers that are kept: the same as those that aren't, and never a moment too long."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager

import pytest

from aar_interface import Role
from support.distribution import push_image
from support.registry import (
    ClientIdentity,
    RegistrySession,
    RunningRegistry,
    make_identity,
    running,
)

TIMES = 3


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request, tmp_path_factory, postgresql_server):
    settings = {}
    if request.param == "postgresql":
        database = postgresql_server()
        settings = {"database": {"url": database.url(database.create("aar:migrations"))}}
    with running(tmp_path_factory.mktemp("kept"), workers=1, settings=settings) as server:
        push_image(server.publisher, "app", "v1")
        yield server


@pytest.fixture(scope="module")
def paths(server: RunningRegistry) -> list[str]:
    manifest = server.client.get("/v2/app/manifests/v1").json()
    digest = server.client.get("/v2/app/manifests/v1").headers["Docker-Content-Digest"]
    return [
        f"/v2/app/manifests/{digest}",
        "/v2/app/manifests/v1",
        f"/v2/app/blobs/{manifest['config']['digest']}",
        "/1.0/changes",
    ]


def kept(server: RunningRegistry) -> None:
    """See that the certificate's last use is written, which takes the long way."""
    server.client.get("/v2/")


def seen(session: RegistrySession, method: str, path: str, **headers: str) -> tuple:
    response = session.request(method, path, headers=headers)
    shown = {name: text for name, text in response.headers.items() if name != "Date"}
    return response.status_code, shown, response.content


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_same_answer_every_time(server: RunningRegistry, paths: list[str], method: str):
    kept(server)
    for path in paths:
        first = seen(server.client, method, path)
        assert first[0] == 200
        assert bool(first[2]) is (method == "GET")
        for _ in range(TIMES):
            assert seen(server.client, method, path) == first
        etag = first[1]["ETag"]
        for _ in range(TIMES):
            status, headers, body = seen(server.client, method, path, **{"If-None-Match": etag})
            assert (status, headers["ETag"], body) == (304, etag, b"")
        assert seen(server.client, method, path) == first


def test_every_answer_is_counted(server: RunningRegistry, paths: list[str]):
    name = 'aar_http_requests_total{method="GET",route="/1.0/changes",status="200"}'

    def counted() -> float:
        lines = server.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = counted()
    for _ in range(5):
        server.client.get(paths[-1])
    assert counted() == before + 5


def test_what_is_published_shows_at_once(server: RunningRegistry):
    for number in range(TIMES):
        changed = server.client.get("/v2/app/manifests/latest").headers.get("ETag")
        assert server.client.get("/v2/app/manifests/latest").headers.get("ETag") == changed
        push_image(server.publisher, "app", "latest", str(number).encode())
        assert server.client.get("/v2/app/manifests/latest").headers["ETag"] != changed


def test_trust_that_ends_ends_kept_answers(server: RunningRegistry, paths: list[str]):
    session = server.add_session("client")
    for path in paths:
        for _ in range(TIMES):
            assert session.get(path).status_code == 200
    server.revoke(session)
    for path in paths:
        assert session.get(path).status_code == 403
        assert server.stranger.get(path).status_code == 403
        assert server.nobody.get(path).status_code == 403
        assert server.client.get(path).status_code == 200


@contextmanager
def connected(server: RunningRegistry, identity: ClientIdentity):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(identity.path)
    plain = socket.create_connection(("127.0.0.1", server.port), 30)
    with context.wrap_socket(plain) as connection:
        yield connection


def answer(connection: ssl.SSLSocket) -> tuple[int, bytes]:
    """Read one answer with a Content-Length: its status and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1)
    head = data.decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return int(head.split()[1]), body


def test_pieces_and_several_at_once_are_told_apart(
    server: RunningRegistry, paths: list[str], tmp_path
):
    identity = make_identity(tmp_path, "pieces")
    server.trust(identity.certificate, Role.CLIENT)
    asked = [f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths]
    missing = b"GET /v2/app/manifests/none HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(server, identity) as connection:
        bodies = []
        for request in asked * TIMES:
            connection.sendall(request)
            status, body = answer(connection)
            assert status == 200
            bodies.append(body)
        assert bodies == bodies[: len(asked)] * TIMES
        # A head in two records, the first of which is what a kept answer begins with.
        for request, body in zip(asked, bodies, strict=False):
            for cut in (1, len(request) - 2):
                connection.sendall(request[:cut])
                connection.sendall(request[cut:])
                assert answer(connection) == (200, body)
        # The same bytes with more behind them: two requests, or one with a longer head.
        connection.sendall(asked[0] + missing + asked[1])
        assert answer(connection) == (200, bodies[0])
        assert answer(connection)[0] == 404
        assert answer(connection) == (200, bodies[1])
        connection.sendall(asked[0][:-2])
        connection.sendall(b"Range: bytes=0-0\r\nConnection: close\r\n\r\n")
        assert answer(connection) == (200, bodies[0])
        assert connection.recv(1) == b""
    with connected(server, identity) as connection:
        push = b"GET /v2/app/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
        for _ in range(TIMES):
            connection.sendall(push)
            connection.sendall(asked[0][:4])  # the body, which only looks like a request
            assert answer(connection)[0] == 200
        connection.sendall(asked[0])
        assert answer(connection) == (200, bodies[0])

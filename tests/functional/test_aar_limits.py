"""What one client may ask for, and how it is told that it asks for more."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import requests

from aar_interface import Role
from ams.packages import read
from ams.service import Service
from ams.settings import Settings
from support.distribution import codes, digest_of, push_application, push_blob
from support.registry import RunningRegistry, make_identity, running

MAX_SIZE = 100_000


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RunningRegistry]:
    limits = {"upload-size": "100kB", "uploads-per-certificate": 3}
    with running(tmp_path_factory.mktemp("limits"), settings={"limits": limits}) as server:
        yield server


def begin(session: requests.Session) -> requests.Response:
    return session.post("/v2/app/blobs/uploads/")


def staged(server: RunningRegistry) -> list[Path]:
    return list((server.home / "data" / "uploads").iterdir())


# -- size ---------------------------------------------------------------------------------------


def too_large(response: requests.Response) -> None:
    assert (response.status_code, codes(response)) == (413, ["SIZE_INVALID"])
    message = response.json()["errors"][0]["message"]
    assert "at most 100000 bytes" in message or "100000 bytes at most" in message
    assert "limits.upload-size" in message


def test_a_blob_of_the_largest_size_and_one_byte_more(server: RunningRegistry):
    content = os.urandom(MAX_SIZE)
    push_blob(server.publisher, "app", content)
    more = content + b"x"
    url = "/v2/app/blobs/uploads/"
    too_large(server.publisher.post(url, params={"digest": digest_of(more)}, data=more))
    # Without a stated length it is noticed on the way.
    too_large(server.publisher.post(url, params={"digest": digest_of(more)}, data=iter([more])))
    assert server.client.head(f"/v2/app/blobs/{digest_of(more)}").status_code == 404
    assert staged(server) == []


def test_chunks_count_together(server: RunningRegistry):
    location = begin(server.publisher).headers["Location"]
    half = os.urandom(MAX_SIZE // 2)
    for chunk in (half, half):
        assert server.publisher.patch(location, data=chunk).status_code == 202
    too_large(server.publisher.patch(location, data=b"x"))
    too_large(server.publisher.put(f"{location}?digest={digest_of(half)}", data=b"x"))
    # What was within the limit is still there.
    done = server.publisher.put(f"{location}?digest={digest_of(half + half)}")
    assert done.status_code == 201


def test_a_huge_body_is_not_read(server: RunningRegistry):
    answer = server.raw(
        "POST",
        f"/v2/app/blobs/uploads/?digest={digest_of(b'')}",
        b"x",
        headers={"Content-Length": str(10**15)},
    )
    assert (answer.status, answer.codes(), answer.closed) == (413, ["SIZE_INVALID"], True)


# -- open uploads -------------------------------------------------------------------------------


def test_open_uploads_are_counted_by_certificate(server: RunningRegistry):
    one, two = server.add_session("publisher"), server.add_session("publisher")
    open_ = [begin(one).headers["Location"] for _ in range(3)]
    refused = begin(one)
    assert (refused.status_code, codes(refused)) == (429, ["TOOMANYREQUESTS"])
    assert refused.headers["Retry-After"] == "60"
    assert "3 uploads open" in refused.json()["errors"][0]["message"]
    whole = one.post("/v2/app/blobs/uploads/", params={"digest": digest_of(b"x")}, data=b"x")
    assert whole.status_code == 429
    other = begin(two)
    assert other.status_code == 202
    two.delete(other.headers["Location"])
    # Going on is always allowed, and ending makes room.
    assert one.patch(open_[0], data=b"x").status_code == 202
    assert one.put(f"{open_[0]}?digest={digest_of(b'x')}").status_code == 201
    assert begin(one).status_code == 202
    assert begin(one).status_code == 429
    for path in staged(server):
        path.unlink()
    assert begin(one).status_code == 202


# -- rate ---------------------------------------------------------------------------------------


def test_requests_are_counted_by_certificate(tmp_path: Path):
    limits = {"requests-per-second": 4}
    with running(tmp_path, settings={"limits": limits}) as server:
        found = [server.client.get("/v2/") for _ in range(60)]
        statuses = [response.status_code for response in found]
        assert statuses[:20] == [200] * 20
        assert 429 in statuses
        refused = found[statuses.index(429)]
        assert codes(refused) == ["TOOMANYREQUESTS"]
        assert refused.headers["Retry-After"] == "1"
        assert "limits.requests-per-second" in refused.json()["errors"][0]["message"]
        envelope = next(
            response
            for response in (server.client.get("/1.0/applications") for _ in range(60))
            if response.status_code == 429
        )
        assert (envelope.json()["type"], envelope.json()["error_code"]) == ("error", 429)
        assert envelope.headers["Retry-After"] == "1"
        # Others have a share of their own, and what needs no certificate isn't counted.
        assert server.publisher.get("/v2/").status_code == 200
        assert server.client.get("/1.0/status").status_code == 200
        server.until(lambda: server.client.get("/v2/").status_code == 200)


def test_a_site_waits_when_it_is_asked_to(tmp_path: Path):
    limits = {"requests-per-second": 4}
    with running(tmp_path / "aar", settings={"limits": limits}) as server:
        with Service(tmp_path / "ams", Settings(architecture="amd64")) as site:
            server.trust(site.identity.certificate, Role.PUBLISHER)
            site.trust.add(server.certificate, Role.CLIENT)
            site.options.set("registry.url", server.url)
            site.options.set("registry.fingerprint", str(server.certificate.fingerprint))
            site.options.set("registry.mode", "push")
            for number in range(6):
                package = tmp_path / "package"
                package.mkdir(exist_ok=True)
                text = f"name: candy-{number}\ninstance-type: a4.3\n"
                (package / "manifest.yaml").write_text(text)
                with read(package, site.blobs) as content:
                    site.catalogue.create(content)
            report = site.sync.sync_now()
            assert (len(report.done), report.failed) == (6, ())
        assert 'status="429"' in server.nobody.get("/metrics").text


# -- connections --------------------------------------------------------------------------------


def connect(server: RunningRegistry, pem: Path) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(pem)
    plain = socket.create_connection(("127.0.0.1", server.port), 20)
    try:
        return context.wrap_socket(plain)
    except BaseException:
        plain.close()
        raise


def ask(connection: ssl.SSLSocket) -> bytes:
    connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith((b"{}\n", b"reuse them\n")):
        answer += (received := connection.recv(65536))
        assert received, answer
    return answer


def test_connections_are_counted_by_address(tmp_path: Path):
    limits = {"connections-per-client": 5}
    with running(tmp_path, settings={"limits": limits}) as server:
        identity = make_identity(tmp_path / "test", "many")
        server.trust(identity.certificate, Role.CLIENT)
        with ExitStack() as stack:
            first = [
                stack.enter_context(closing(connect(server, identity.path))) for _ in range(5)
            ]
            assert all(ask(connection).startswith(b"HTTP/1.1 200") for connection in first)
            with closing(connect(server, identity.path)) as extra:
                answer = ask(extra)
                assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
                assert b"too many connections from this address" in answer
                assert extra.recv(1) == b""
            event = server.logged("too-many-connections")
            assert (event["peer"], event["limit"]) == ("127.0.0.1", 5)
            assert ask(first[0]).startswith(b"HTTP/1.1 200")
            first[1].close()

            def room() -> bool:
                with closing(connect(server, identity.path)) as again:
                    return ask(again).startswith(b"HTTP/1.1 200")

            server.until(room)


# -- defaults -----------------------------------------------------------------------------------


def test_the_defaults_hinder_nobody(tmp_path: Path):
    with running(tmp_path) as server:
        assert {server.client.get("/v2/").status_code for _ in range(300)} == {200}
        for _ in range(50):
            assert begin(server.publisher).status_code == 202
        push_application(server.publisher, "candy")

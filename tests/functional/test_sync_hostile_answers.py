"""The network door against whatever may answer at registry.url, over real sockets."""

from __future__ import annotations

import json
import socket
import threading

import pytest
import requests

from ams.sync.door import Silent
from ams.sync.feed import Cursor, EpochChanged, FeedRefused
from ams.sync.registry import Registry
from ams.sync.transport import NotARegistry, Transport
from regkit.blobs import DigestMismatch
from regkit.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge, Unavailable
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from support.scripted import answer, scripted

KEY = Key("candy", 0, "amd64")
BLOB = b"0123456789" * 1000
DIGEST = Digest.of(BLOB)


def plain_session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


def door(*urls: str, **timeouts: float) -> Registry:
    return Registry(Transport(urls, plain_session, **timeouts))


def envelope(metadata, status=200, kind="sync") -> bytes:
    return answer(status, json.dumps({"type": kind, "metadata": metadata, "error": "x"}).encode())


HELLO = envelope(
    {
        "auth": "trusted",
        "role": "client",
        "epoch": "e",
        "api_extensions": ["changes", "changes_wait"],
    }
)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (answer(200, b"<html>It works!</html>"), NotARegistry),
        (answer(200, b""), NotARegistry),
        (answer(200, b"[]"), NotARegistry),
        (answer(200, b"[" * 100_000), NotARegistry),
        (answer(200, b'{"type":"sync","metadata":{}}'), NotARegistry),
        (answer(200, b'{"type":"sync","metadata":{"api_extensions":["other"]}}'), NotARegistry),
        (answer(404, b"nothing here"), NotARegistry),
        (answer(302, b"", location="https://elsewhere.test/"), NotARegistry),
        (answer(200, b'{"type":"sync"', content_length="4000"), Unavailable),
        (answer(200, b" " * (8 * 1024 * 1024 + 1)), TooLarge),
        (b"HTTP/1.1 garbage\r\n\r\n", Unavailable),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Unavailable),
        (None, Unavailable),
        (answer(500, b"oops"), Unavailable),
        (answer(403, b'{"type":"error","error":"who are you"}'), Forbidden),
    ],
)
def test_something_else_answers(content, kind):
    with scripted(lambda *_: content) as server, pytest.raises(kind) as caught:
        door(server.url).hello()
    assert "\n" not in str(caught.value)
    # Whoever hangs up is asked once more: it may have been an idle connection that ended.
    assert len(server.asked) == (2 if content is None else 1), "no redirect is followed"


def test_nobody_answers():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match="Connection refused"):
        door(f"http://127.0.0.1:{port}").hello()


def test_a_silent_server_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Silent, match="doesn't answer in time"):
            door(url, read_timeout=0.2).hello()


def test_a_download_that_stalls_is_told_from_one_that_is_cut():
    begun = answer(200, BLOB[:1000], content_length=str(len(BLOB)))
    over = threading.Event()

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(begun)
            over.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        stalling = threading.Thread(target=serve, args=(listening,), daemon=True)
        stalling.start()
        try:
            with pytest.raises(Silent):
                read_blob(door(f"http://127.0.0.1:{listening.getsockname()[1]}", read_timeout=0.2))
        finally:
            over.set()
            stalling.join(10)


def test_the_next_url_is_tried_and_the_good_one_remembered():
    with scripted(lambda *_: None) as dead, scripted(lambda *_: HELLO) as good:
        registry = door(dead.url, good.url)
        assert registry.hello().waits
        assert registry.url == good.url
        registry.hello()
    assert len(dead.asked) == 2, "asked once more, and not again later"
    assert len(good.asked) == 2


def test_a_gateway_without_its_service_is_passed_over():
    with (
        scripted(lambda *_: answer(502, b"<html>")) as gateway,
        scripted(lambda *_: HELLO) as good,
    ):
        assert door(gateway.url, good.url).hello().role == "client"


def test_control_characters_of_a_message_stay_out():
    body = json.dumps({"type": "error", "error": "no\n\x1b[31mway"}).encode()
    with (
        scripted(lambda *_: answer(403, body)) as server,
        pytest.raises(Forbidden, match=r"no  \[31mway$"),
    ):
        door(server.url).changes(None)


def test_another_epoch_and_a_rollback_are_told_apart():
    head = {"epoch": "new", "seq": 3}
    with (
        scripted(lambda *_: envelope(head, 410, "error")) as server,
        pytest.raises(EpochChanged) as changed,
    ):
        door(server.url).changes(Cursor("old", 9))
    assert changed.value.epoch == "new"
    with (
        scripted(lambda *_: envelope(head, 409, "error")) as server,
        pytest.raises(FeedRefused, match="from change 9 to 3"),
    ):
        door(server.url).changes(Cursor("new", 9))
    assert "since=new%3A9" in server.asked[0][1]


def read_blob(registry: Registry, start: int = 0) -> tuple[int, bytes]:
    with registry.blob(KEY, DIGEST, start) as stream:
        return stream.offset, b"".join(stream.chunks)


def test_a_cut_blob_is_noticed():
    cut = answer(200, BLOB[:500], content_length=str(len(BLOB)))
    with scripted(lambda *_: cut) as server, pytest.raises(Unavailable):
        read_blob(door(server.url))


def test_ranges():
    def ranged(method, target, headers, body):
        start = int(headers["range"].removeprefix("bytes=").removesuffix("-"))
        size = len(BLOB)
        return answer(206, BLOB[start:], content_range=f"bytes {start}-{size - 1}/{size}")

    with scripted(ranged) as server:
        assert read_blob(door(server.url), 4000) == (4000, BLOB[4000:])
    with scripted(lambda *_: answer(200, BLOB)) as server:
        assert read_blob(door(server.url), 4000) == (0, BLOB), "a server may ignore Range"
    for wrong in ("bytes 5000-9999/10000", "bytes x-y/z", "pages 1-2/3", ""):
        other = answer(206, BLOB[5000:], content_range=wrong)
        with scripted(lambda *_, other=other: other) as server, pytest.raises(Invalid):
            read_blob(door(server.url), 4000)


def test_content_that_is_not_what_its_digest_says():
    with scripted(lambda *_: answer(200, b"{}")) as server:
        with pytest.raises(DigestMismatch):
            door(server.url).manifest(KEY, DIGEST)
        with pytest.raises(DigestMismatch):
            door(server.url).small_blob(KEY, DIGEST, 2)
    with scripted(lambda *_: answer(200, BLOB)) as server:
        with pytest.raises(TooLarge):
            door(server.url).small_blob(KEY, DIGEST, 100)
        assert door(server.url).small_blob(KEY, DIGEST, len(BLOB)) == BLOB


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Invalid), (401, Forbidden), (404, NotFound), (409, Conflict), (413, TooLarge)]
    + [(status, Unavailable) for status in (408, 429, 500, 503, 507)],
)
def test_statuses_become_kinds_of_errors(status, kind):
    body = json.dumps({"errors": [{"code": "X", "message": "because"}]}).encode()
    with (
        scripted(lambda *_: answer(status, body)) as server,
        pytest.raises(kind, match=f"answers {status}: because"),
    ):
        door(server.url).put_manifest(KEY, b"{}")


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/v2/candy/blobs/uploads/1?state=x", "/v2/candy/blobs/uploads/1?state=x&digest="),
        ("http://evil.test/v2/up/1", "/v2/up/1?digest="),
    ],
)
def test_an_upload_stays_at_the_registry_wherever_its_location_points(location, path):
    def script(method, target, headers, body):
        if method == "POST":
            return answer(202, location=location)
        if method == "PATCH":
            assert headers["content-range"] == f"0-{len(BLOB) - 1}"
            assert body == BLOB
            return answer(202, location=location)
        return answer(201)

    with scripted(script) as server:
        upload = door(server.url).begin_upload(KEY)
        upload.send(iter([BLOB[:5000], BLOB[5000:]]), 0, len(BLOB))
        upload.finish(DIGEST)
    assert [asked[0] for asked in server.asked] == ["POST", "PATCH", "PUT"]
    assert server.asked[2][1].startswith(path)


@pytest.mark.parametrize("location", ["", "no-slash", "http://[bad"])
def test_an_upload_without_a_usable_location_is_refused(location):
    with scripted(lambda *_: answer(202, location=location)) as server, pytest.raises(Invalid):
        door(server.url).begin_upload(KEY)


@pytest.mark.parametrize(
    ("header", "offset"), [("0-4999", 5000), ("bytes=0-9", 10), ("0-0", 0), ("", 0)]
)
def test_where_an_upload_goes_on(header, offset):
    def script(method, target, headers, body):
        return answer(202 if method == "POST" else 204, location="/up", range=header)

    with scripted(script) as server:
        assert door(server.url).begin_upload(KEY).offset() == offset


def test_a_connection_is_used_again():
    with scripted(lambda *_: HELLO) as server:
        registry = door(server.url)
        registry.hello()
        registry.hello()
        registry.close()
    assert (len(server.asked), server.connections) == (2, 1)


def test_a_connection_that_was_closed_while_idle_is_no_failure():
    with scripted(lambda *_: HELLO, per_connection=1) as server:
        registry = door(server.url)
        for _ in range(5):
            registry.hello()
        registry.close()
    assert (len(server.asked), server.connections) == (5, 5)

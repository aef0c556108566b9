"""Requests that mean two things, lead elsewhere, or forge lines of the log."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from support.ams import environment
from support.distribution import digest_of, push_application, push_blob
from support.registry import RunningRegistry, running
from support.wire import dialled, everything, exchange


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running(tmp_path_factory.mktemp("aar")) as server:
        push_application(server.publisher, "victim")
        yield server


def statuses(raw: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", raw)]


DELETE = b"DELETE /1.0/applications/victim HTTP/1.1\r\nHost: x\r\n\r\n"
READ = b"GET /v2/victim/tags/list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def alive(server: RunningRegistry) -> bool:
    return server.client.get("/1.0/applications/victim").status_code == 200


AMBIGUOUS = {
    "length and chunked": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n",
    "two lengths, other order": b"Content-Length: %d\r\nContent-Length: 0\r\n\r\n",
    "a list": b"Content-Length: 0, %d\r\n\r\n",
    "a folded length": b"Content-Length:\r\n 0\r\n\r\n",
    "a folded coding": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "an underscore": b"Content_Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a tab": b"Transfer-Encoding:\tchunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
    "a vertical tab": b"Transfer-Encoding: \x0bchunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
    "a null": b"Transfer-Encoding: chunked\x00\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
    "a bare line feed": b"X: 1\nContent-Length: %d\r\n\r\n",
    "a bare return": b"X: 1\rContent-Length: %d\r\n\r\n",
    "a chunk's odd size": b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "a chunk's sign": b"Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n",
    "a chunk's extension with a line feed": b"Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n"
    b"0\r\n\r\n",
    "a huge chunk": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n",
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
@pytest.mark.parametrize("who", ["stranger", "client"])
def test_what_is_in_a_body_is_never_a_request(server: RunningRegistry, who: str, kind: str):
    """Whoever sends it, and whoever's rights it would have: refused, or read as a body."""
    identity = getattr(server, who).identity
    framing = AMBIGUOUS[kind]
    if b"%d" in framing:
        framing = framing.replace(b"%d", b"%d" % len(DELETE))
    raw = exchange(
        server.port,
        identity.path,
        b"POST /v2/victim/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n" + framing + DELETE + READ,
    )
    found = statuses(raw)
    assert found and set(found) <= {400, 403}, raw
    assert alive(server)


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_the_body_of_a_refused_request_is_not_the_next_one(server: RunningRegistry, size: int):
    """A client's refused push whose body is made of requests, then a true one."""
    assert server.client.identity is not None
    body = (DELETE * (size // len(DELETE) + 1)) + b"."
    head = b"POST /v2/victim/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    raw = exchange(server.port, server.client.identity.path, head % len(body) + body + READ)
    # A large body isn't read: then the connection ends with the refusal.
    assert statuses(raw) in ([403, 200], [403]), raw[:500]
    assert alive(server)


def test_pipelined_requests_are_each_their_senders(server: RunningRegistry):
    """Two connections at once, each with several requests in one packet."""
    assert server.client.identity is not None and server.stranger.identity is not None
    many = READ.replace(b"Connection: close\r\n", b"") * 5 + DELETE + READ
    with (
        dialled(server.port, server.client.identity.path) as friend,
        dialled(server.port, server.stranger.identity.path) as stranger,
        dialled(server.port) as nobody,
    ):
        for connection in (stranger, friend, nobody):
            connection.sendall(many)
        assert statuses(everything(friend)) == [200] * 5 + [403, 200]
        assert statuses(everything(stranger)) == [403] * 7
        assert statuses(everything(nobody)) == [403] * 7
    assert alive(server)


def test_headers_have_limits(server: RunningRegistry):
    assert server.publisher.identity is not None
    for header in (
        b"X: " + b"a" * 100_000,
        b"\r\n".join(b"X-%d: a" % number for number in range(1_000)),
        b"X" * 10_000 + b": a",
        b"Cookie: " + b"a=b; " * 20_000,
    ):
        raw = exchange(
            server.port,
            server.publisher.identity.path,
            b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n",
        )
        assert statuses(raw) in ([400], [431], []), raw[:200]
    # Headers that never end: it hangs up rather than collect them.
    with dialled(server.port, server.publisher.identity.path) as connection:
        try:
            connection.sendall(b"GET /v2/ HTTP/1.1\r\n")
            for number in range(100_000):
                connection.sendall(b"X-%d: %s\r\n" % (number, b"a" * 1_000))
        except OSError:
            return
        raise AssertionError("it read 100 MB of headers")


WAYS = [
    "/v2/../../../../etc/passwd", "/v2/%2e%2e/%2e%2e/etc/passwd", "/v2/..%2f..%2fetc/passwd",
    "/v2/victim/blobs/..%2f..%2faar.db", "/v2/victim/blobs/sha256:..%2f..%2f..%2faar.db",
    "/v2/victim/blobs/sha256:../../../aar.db", "/v2/victim/blobs/sha256%3A" + "a" * 62 + "/.",
    "/v2/victim/blobs/sha256:" + "A" * 64, "/v2/victim/blobs/md5:" + "a" * 32,
    "/v2/victim/blobs/sha256:" + "a" * 64 + "%00", "/v2/victim/blobs/sha256:" + "a" * 64 + "%0a",
    "/v2/victim/manifests/..", "/v2/victim/manifests/%2e%2e%2f0-amd64",
    "/v2/victim/manifests/0-amd64%00", "/v2/victim/manifests/-0", "/v2/victim%00/tags/list",
    "/v2/victim%2f..%2fvictim/tags/list", "/v2/./victim/tags/list", "/v2//victim/tags/list",
    "/v2/victim/../victim/tags/list", "/v2/VICTIM/tags/list", "/v2/x--..%2f/tags/list",
    "/v2/" + "a/" * 500 + "tags/list", "/v2/victim/blobs/uploads/..%2f..%2faar.db",
    "/v2/victim/blobs/uploads/../../aar.db", "/v2/victim/blobs/uploads/" + "0" * 32,
    "/v2/victim/blobs/uploads/%2e%2e", "/v2/victim/blobs/uploads/" + "g" * 32,
    "/1.0/applications/..%2f..%2fetc", "/1.0/applications/victim/..", "/1.0/applications/%00",
    "/1.0/applications/victim%0a", "/1.0/../v2/", "/1.0/applications/victim/0/..%2famd64",
    "/1.0/applications/victim/-1", "/1.0/applications/victim/99999999999999999999",
    "/static/../aar.db", "//etc/passwd", "/\\..\\..\\aar.db", "/1.0/applications/\ud800",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"])
def test_no_path_leads_out(server: RunningRegistry, method: str):
    """Each for a publisher, byte by byte, since clients tidy paths up."""
    before = sorted(str(path) for path in server.home.rglob("*") if path.is_file())
    mark = server.log_mark()
    for way in WAYS:
        target = way.encode("utf-8", "surrogatepass").decode("latin-1")
        query = f"?digest={digest_of(b'')}" if method in ("PUT", "POST") else ""
        answer = server.raw(method, target + query)
        if answer.status < 300:
            assert method in ("GET", "HEAD", "DELETE"), (way, answer)
            raise AssertionError((way, answer))
        assert answer.status in (308, 400, 404, 405, 409, 411, 416), (way, answer)
        assert b"root:" not in answer.body and b"SQLite" not in answer.body
    assert alive(server)
    ignored = ("-wal", "-shm", "/registry-id")  # the server's own, written when it is used
    after = sorted(str(path) for path in server.home.rglob("*") if path.is_file())
    assert [p for p in after if not p.endswith(ignored)] == [
        p for p in before if not p.endswith(ignored)
    ]
    assert "request-failed" not in "".join(server._lines[mark:])


FORGED = '{"time": "2026-01-01T00:00:00.000Z", "level": "info", "event": "trust-added"}'


def test_nobody_writes_lines_into_the_log(server: RunningRegistry):
    """Line ends, escapes and look-alikes in paths, queries and methods, from a stranger."""
    mark = server.log_mark()
    poison = [
        f"\n{FORGED}\n",
        f"\r\n{FORGED}",
        f"\u2028{FORGED}",
        "\x1b[2J\x1b]0;x\x07",
        "\x9b31m",
    ]
    for text in poison:
        server.stranger.get(f"/v2/{quote(text)}/tags/list")
        server.stranger.get(f"/1.0/applications?x={quote(text)}")
        server.publisher.delete(f"/v2/{quote(text)}/manifests/{quote(text)}")
        server.publisher.delete(f"/1.0/applications/{quote(text)}")
    assert server.stranger.identity is not None
    raw = exchange(
        server.port,
        server.stranger.identity.path,
        b"GET /v2/\x1b[2J\xff\n HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    assert statuses(raw) in ([400], [403])
    server.logged("refused", mark)
    lines = server._lines[mark:]
    for line in lines:
        assert json.loads(line)["event"] != "trust-added"
        assert line.rstrip("\n").isprintable(), line
        assert len(line.splitlines()) == 1, line


def test_nobody_paints_on_the_operators_terminal(server: RunningRegistry):
    """What strangers tried is in the audit log, and shown without its control characters."""
    server.stranger.get("/v2/%1b%5B2J%0Aforged/tags/list")

    def shown() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "aar", "audit"],
            env=environment(server.home, AAR_HOME=str(server.home)),
            capture_output=True,
            timeout=60,
            check=True,
        )
        return done.stdout.decode()

    server.until(lambda: "refused" in shown())
    for line in shown().split("\n"):
        assert line.isprintable(), ascii(line)
        assert not line.startswith("forged")


def test_a_manifest_names_nothing_elsewhere(server: RunningRegistry):
    """Foreign layers, URLs and paths of files in a manifest make the registry fetch nothing."""
    config = json.dumps(
        {"name": "lure", "number": 0, "architecture": "amd64", "manifest": {"name": "lure"}}
    ).encode()
    push_blob(server.publisher, "lure", config)
    push_blob(server.publisher, "lure", b"x")
    kind = "application/vnd.aar.application.config.v1+json"
    file = "application/vnd.aar.application.file.v1"
    title = "org.opencontainers.image.title"

    def put(layer: dict[str, object]) -> int:
        body = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.aar.application.v1",
            "config": {"mediaType": kind, "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": file, "digest": digest_of(b"x"), "size": 1, **layer}],
        }
        return server.publisher.put(
            "/v2/lure/manifests/0-amd64",
            data=json.dumps(body),
            headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"},
        ).status_code

    for path in (
        "../x",
        "/etc/passwd",
        "a/../../x",
        "a//b",
        ".",
        "a\\..\\b",
        "a\nb",
        "",
        "x" * 300,
    ):
        assert put({"annotations": {title: path}}) == 400, path
    assert put({"annotations": {title: "x"}, "urls": ["file:///etc/passwd"]}) == 400
    assert put({"annotations": {title: "x"}, "size": 2}) == 400
    assert put({"annotations": {title: "x"}}) == 201

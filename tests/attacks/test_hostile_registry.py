"""A registry that holds the right key and means ill, or was wiped or restored, against AMS.

Whatever answers has proven to be the pinned registry: what it says is hostile all the same. More
of it, answer by answer: `tests/functional/test_sync_hostile_answers.py`; whole histories against
the engine: `tests/unit/test_sync_engine.py`, `test_sync_view.py`.
"""

from __future__ import annotations

import gzip
import json
import resource
import shutil
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from aar_interface import Role
from ams.service import Service
from ams.settings import Settings
from ams.sync.feed import FeedRefused
from ams.sync.registry import Registry
from ams.sync.transport import NotARegistry, Transport
from regkit.blobs import DigestMismatch, FileBlobStore
from regkit.errors import Invalid, NotFound, ServiceError, TooLarge, Unavailable
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from regkit.pinned import Session
from support.distribution import push_application
from support.registry import RunningRegistry, running
from support.scripted import ScriptedServer, answer, scripted

KEY = Key("candy", 0, "amd64")
BOMB = gzip.compress(b"[" + b"0," * 60_000_000 + b"0]", 1)
"""120 MB in half a megabyte."""
MEMORY = 60_000_000


def plain_session() -> requests.Session:
    session = Session()
    session.trust_env = False
    return session


def door(url: str) -> Registry:
    return Registry(Transport([url], plain_session, read_timeout=10))


@contextmanager
def little_memory() -> Iterator[None]:
    """Fail when what runs inside holds more than MEMORY at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


ASKING = {
    "hello": lambda registry: registry.hello(),
    "changes": lambda registry: registry.changes(None),
    "manifest": lambda registry: registry.manifest(KEY, Digest.of(b"x")),
    "config": lambda registry: registry.small_blob(KEY, Digest.of(b"x"), 1000),
    "removal": lambda registry: registry.delete("candy"),
}


@pytest.mark.parametrize("status", [200, 302, 500])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip", "x"])
@pytest.mark.parametrize("asked", ASKING)
def test_packed_answers_are_not_unpacked(asked: str, encoding: str, status: int):
    body = {"deflate": zlib.compress(bytes(10_000_000)), "gzip, gzip": gzip.compress(BOMB)}
    packed = body.get(encoding, BOMB)
    content = answer(status, packed, content_encoding=encoding, location="/elsewhere")
    with (
        scripted(lambda *_: content) as server,
        little_memory(),
        pytest.raises(ServiceError) as caught,
    ):
        ASKING[asked](door(server.url))
    assert len(str(caught.value)) < 1000


def endless(head: bytes) -> bytes:
    """An answer far beyond every limit."""
    return head + b"1" * 40_000_000


@pytest.mark.parametrize("asked", ASKING)
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3000000\r\n",
        b"HTTP/1.1 500 Oops\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.test/\r\n\r\n",
    ],
    ids=["until closed", "a length", "a chunk", "a refusal", "a redirection"],
)
def test_endless_answers_are_left(asked: str, head: bytes):
    content = endless(head)
    with (
        scripted(lambda *_: content) as server,
        little_memory(),
        pytest.raises((TooLarge, Unavailable, NotARegistry, Invalid, DigestMismatch)),
    ):
        ASKING[asked](door(server.url))


@pytest.mark.parametrize(
    "target",
    [
        "https://elsewhere.test/v2/",
        "file:///etc/passwd",
        "http://127.0.0.1:1/",
        "//evil/",
        "gopher:x",
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nobody_is_followed_elsewhere(status: int, target: str):
    asked: list[str] = []

    def script(_method: str, path: str, _headers: dict[str, str], _body: bytes) -> bytes:
        asked.append(path)
        return answer(status, b"", location=target)

    with scripted(script) as server:
        registry = door(server.url)
        for call in ASKING.values():
            with pytest.raises(NotARegistry):
                call(registry)
        with pytest.raises(NotARegistry), registry.blob(KEY, Digest.of(b"x")):
            pass
        # A download may be elsewhere: then this registry is asked who certifies the other server.
        certifying = 2 if status == 307 and target.startswith("https:") else 0
        assert len(asked) == len(ASKING) + 1 + certifying, "each was asked once, here"


def blob_server(content: bytes) -> ScriptedServer:
    return ScriptedServer(lambda *_: content)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (answer(200, b"y" * 1000), DigestMismatch),
        (answer(200, b"x" * 5_000_000), DigestMismatch),
        (answer(200, gzip.compress(b"x" * 1000), content_encoding="gzip"), ServiceError),
        (answer(206, b"x" * 1000, content_range="bytes 500-1499/1500"), Invalid),
        (answer(206, b"x" * 1000, content_range="bytes ²-9/1"), Invalid),
        (answer(206, b"x" * 1000), Invalid),
        (answer(404, b"{}"), NotFound),
    ],
    ids=["other", "longer", "packed", "a range", "nonsense", "no range", "none"],
)
def test_nothing_becomes_a_blob_that_is_not_what_its_digest_says(
    content: bytes, kind: type[Exception], tmp_path: Path
):
    from ams.sync.transfer import Transfer  # noqa: PLC0415

    blobs = FileBlobStore(tmp_path)
    digest = Digest.of(b"x" * 1000)
    server = blob_server(content)
    try:
        transfer = Transfer(door(server.url), blobs, pause=lambda _: None)
        with pytest.raises(kind):
            transfer.download(KEY, digest, 1000, lambda _: None)
    finally:
        server.close()
    assert blobs.size(digest) is None
    kept = [file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()]
    assert sum(kept) <= 1000, "an endless answer fills no disk"


FEEDS = {
    "a number too large": '{"seq": 1e400}',
    "deep": '{"changes": ' + "[" * 3000 + "]" * 3000 + "}",
    "a long number": '{"epoch": "e", "seq": ' + "9" * 6_000 + ', "changes": []}',
    "a name that leads out": json.dumps({"name": "../../etc"}),
    "many rows": json.dumps({"epoch": "e", "seq": 9, "changes": [{}] * 200_000}),
    "no text": '{"epoch": "\\ud800", "seq": 1, "changes": []}',
}


@pytest.mark.parametrize("kind", FEEDS)
def test_a_feed_that_is_none_is_refused(kind: str):
    body = f'{{"type": "sync", "metadata": {FEEDS[kind]}}}'.encode()
    with scripted(lambda *_: answer(200, body)) as server, pytest.raises(ServiceError) as caught:
        door(server.url).changes(None)
    assert str(caught.value).isprintable()


# -- a real registry that lost its memory -------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[RunningRegistry, Service]]:
    """A registry with three applications, and a site that has imported them."""
    with (
        running(tmp_path / "aar") as registry,
        Service(tmp_path / "ams", Settings(architecture="amd64")) as service,
    ):
        registry.trust(service.identity.certificate, Role.CLIENT)
        service.trust.add(registry.certificate, Role.CLIENT)
        for name in ("one", "two", "three"):
            push_application(registry.publisher, name)
        service.options.set("registry.url", registry.url)
        service.options.set("registry.fingerprint", str(registry.certificate.fingerprint))
        assert len(service.sync.sync_now().done) == 3
        yield registry, service


def names(service: Service) -> set[str]:
    return {application.name for application in service.catalogue.list()}


def again(registry: RunningRegistry, service: Service) -> None:
    """Serve again, on whichever port is free now, to the same site."""
    registry.restart()
    service.options.set("registry.url", registry.url)


def test_a_wiped_registry_takes_nothing_away(site: tuple[RunningRegistry, Service]):
    """Reinstalled with its old key, and empty: what the site has stays, and it says so."""
    registry, service = site
    registry.stop()
    shutil.rmtree(registry.home / "data")  # without its database alone it wouldn't start
    again(registry, service)
    # Nobody is trusted any more: that alone is no reason to remove anything.
    with pytest.raises(ServiceError, match="doesn't trust"):
        service.sync.sync_now()
    assert names(service) == {"one", "two", "three"}
    done = subprocess.run(
        [sys.executable, "-m", "aar", "trust", "add"],
        input=service.identity.certificate.pem.encode(),
        env={"AAR_HOME": str(registry.home), "PATH": "/usr/bin:/bin"},
        check=True,
        timeout=60,
        capture_output=True,
    )
    assert done.returncode == 0
    report = service.sync.sync_now()
    assert report.done == ()
    assert report.held
    assert names(service) == {"one", "two", "three"}
    assert service.sync.status()["held"]


def test_a_registry_put_back_to_an_old_copy_is_refused(site: tuple[RunningRegistry, Service]):
    """Its files were copied back behind its back: same epoch, fewer changes."""
    registry, service = site
    old = registry.home / "old"
    registry.stop()
    shutil.copytree(registry.home / "data", old)
    again(registry, service)
    push_application(registry.publisher, "four")
    assert service.sync.sync_now().done == ("import four 0-amd64",)
    registry.stop()
    shutil.rmtree(registry.home / "data")
    shutil.move(old, registry.home / "data")
    again(registry, service)
    for _ in range(2):
        with pytest.raises(FeedRefused, match="went back in time"):
            service.sync.sync_now()
    assert names(service) == {"one", "two", "three", "four"}
    assert "went back in time" in service.sync.status()["last_error"]


def test_memory_is_measured():
    """The other tests' yardstick: it does notice what it is there to notice."""
    with pytest.raises(AssertionError), little_memory():
        assert len(bytearray(2 * MEMORY)) == 2 * MEMORY
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0

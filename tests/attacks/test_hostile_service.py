"""A management service that holds the right key and means ill, against amc."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ams.client import Client
from ams.client.channel import filename
from ams.client.results import BadAnswer
from regkit.errors import ServiceError
from regkit.pinned import Session
from support.scripted import answer, scripted

BOMB = gzip.compress(b"[" + b"0," * 60_000_000 + b"0]", 1)
MEMORY = 60_000_000


@contextmanager
def client(content: bytes) -> Iterator[Client]:
    session = Session()
    session.trust_env = False
    with scripted(lambda *_: content) as server, Client(session, server.url, is_local=False) as it:
        yield it


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("status", [200, 302, 403])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip"])
def test_packed_answers_are_not_unpacked(status: int, encoding: str):
    body = gzip.compress(BOMB) if "," in encoding else BOMB
    with (
        client(answer(status, body, content_encoding=encoding, location="/")) as amc,
        little_memory(),
    ):
        with pytest.raises(ServiceError):
            amc.info()
        with pytest.raises(ServiceError):
            amc.certificates()


def test_an_endless_answer_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ams.client.channel.MAX_ANSWER", 1_000_000)
    with (
        client(b"HTTP/1.1 200 OK\r\n\r\n" + b"1" * 50_000_000) as amc,
        little_memory(),
        pytest.raises(BadAnswer, match="too large"),
    ):
        amc.info()


@pytest.mark.parametrize("status", [302, 403])
def test_an_endless_refusal_is_left(status: int):
    with (
        client(b"HTTP/1.1 %d No\r\nLocation: /\r\n\r\n" % status + b"1" * 50_000_000) as amc,
        little_memory(),
        pytest.raises(ServiceError),
    ):
        amc.info()


@pytest.mark.parametrize("target", ["https://elsewhere.test/", "file:///etc/passwd", "//evil/1.0"])
def test_nobody_is_followed_elsewhere(target: str):
    with client(answer(302, b"", location=target)) as amc, pytest.raises(ServiceError):
        amc.info()


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"{}",
        b'{"type":"sync"}',
        b'{"type":"sync","metadata":' + b"9" * 10_000 + b"}",
        json.dumps({"type": "sync", "metadata": [None, 1, "x", {"fingerprint": {}}]}).encode(),
        b'{"type":"sync","metadata":[{"fingerprint":"\\ud800"}]}',
    ],
)
def test_what_is_no_answer_is_one_error(body: bytes):
    with client(answer(200, body)) as amc, pytest.raises(ServiceError) as caught:
        amc.certificates()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="../../.ssh/authorized_keys"', "authorized_keys"),
        ('attachment; filename="/etc/cron.d/x"', "x"),
        ("attachment; filename=..", ""),
        ("attachment; filename=.bashrc", ""),
        ("attachment; filename=.", ""),
        ('attachment; filename="a\x1b[2Jb"', ""),
        ('attachment; filename="candy_0.tar.bz2"', "candy_0.tar.bz2"),
        ("attachment", ""),
    ],
)
def test_an_export_is_written_where_the_user_said(header: str, name: str):
    """The service proposes a name: no folder, nothing hidden, nothing that isn't printable."""
    assert filename(header) == name

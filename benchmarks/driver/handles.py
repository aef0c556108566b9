"""One request as libcurl makes it: identity, protocol and the one cipher; what comes is hashed.

HTTP/1.1 for all servers: it is what AMS speaks. TLS 1.3 with one cipher suite, offered alone, so
that a server which can't be told (docker-registry) has no choice either.
"""
# pycurl is in the benchmarks' own environment only.
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import hashlib
import mmap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pycurl

from benchmarks.driver import CIPHER, GROUP

BUFFER = 512 * 1024
"""Bytes that libcurl reads or sends at once; its default of 16 KiB would make the client slow."""


class WrongAnswer(Exception):  # noqa: N818 - the name states the outcome
    """A server's answer isn't what it must be."""


@dataclass(frozen=True)
class Identity:
    """Who connects, a PEM file with key and certificate, and whom it trusts.

    `pin` is the hash of the server's public key as libcurl wants it, `sha256//<base64>`: as AMS
    does, one server is trusted, and no authority.
    """

    pair: str
    pin: str


@dataclass(frozen=True)
class Target:
    """A request and what must come back: a body with this SHA-256, or that of a `file`, or any.

    A large body is compared with the file byte by byte, which costs half of hashing it: what
    limits a download should be the server.
    """

    url: str
    method: str = "GET"
    status: int = 200
    sha256: str | None = None
    file: str | None = None
    headers: tuple[str, ...] = ()

    @classmethod
    def parse(cls, given: dict[str, Any]) -> Target:
        return cls(**{**given, "headers": tuple(given.get("headers", ()))})


@dataclass
class Answer:
    """What came: times in seconds, `first_byte` counted from when the request could be sent."""

    status: int = 0
    size: int = 0
    seconds: float = 0.0
    first_byte: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@cache
def content_of(path: str) -> mmap.mmap:
    """Return a file's content, in memory from now on."""
    with Path(path).open("rb") as file:
        return mmap.mmap(
            file.fileno(), 0, flags=mmap.MAP_PRIVATE | mmap.MAP_POPULATE, prot=mmap.PROT_READ
        )


class Handle:
    """A reusable libcurl handle for one client. Not for several requests at a time."""

    def __init__(self, identity: Identity, *, fresh: bool = False, keep: bool = False) -> None:
        """`fresh`: a connection and a full handshake for each request. `keep` the body."""
        self.curl = curl = pycurl.Curl()
        self._keep = keep
        self._target: Target | None = None
        self._done: Callable[[Answer], None] | None = None
        self.moved = 0
        """Bytes of bodies that this handle has received so far, unfinished answers included."""
        options: list[tuple[int, Any]] = [
            (pycurl.SSLCERT, identity.pair),
            (pycurl.SSLKEY, identity.pair),
            (pycurl.PINNEDPUBLICKEY, identity.pin),
            (pycurl.SSL_VERIFYPEER, 0),
            (pycurl.SSL_VERIFYHOST, 0),
            (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_3),
            (pycurl.TLS13_CIPHERS, CIPHER),
            (pycurl.SSL_EC_CURVES, GROUP),  # pyright: ignore[reportAttributeAccessIssue] - newer
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.SSL_SESSIONID_CACHE, 0),
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROXY, ""),
            (pycurl.TCP_NODELAY, 1),
            (pycurl.BUFFERSIZE, BUFFER),
            (pycurl.UPLOAD_BUFFERSIZE, BUFFER),
            (pycurl.WRITEFUNCTION, self._write),
            (pycurl.HEADERFUNCTION, self._header),
            (pycurl.CONNECTTIMEOUT, 60),
        ]
        if fresh:
            options += [(pycurl.FRESH_CONNECT, 1), (pycurl.FORBID_REUSE, 1)]
        for option, value in options:
            curl.setopt(option, value)

    def new_connection(self, wanted: bool) -> None:
        """Choose whether the following requests open a connection, which is kept afterwards."""
        self.curl.setopt(pycurl.FRESH_CONNECT, int(wanted))

    def ask(self, target: Target, done: Callable[[Answer], None]) -> Handle:
        """Prepare a request without a body; `done` is called with the checked answer."""
        self._begin(target, done)
        self.curl.setopt(pycurl.HTTPGET, 1)
        if target.method != "GET":
            self.curl.setopt(pycurl.CUSTOMREQUEST, target.method)
        return self

    def send(
        self, target: Target, size: int, read: Callable[[int], bytes], done: Callable[..., None]
    ) -> Handle:
        """Prepare a request with a body of `size` bytes, which `read(most)` gives."""
        self._begin(target, done)
        self.curl.setopt(pycurl.UPLOAD, 1)
        self.curl.setopt(pycurl.CUSTOMREQUEST, target.method)
        self.curl.setopt(pycurl.READFUNCTION, read)
        self.curl.setopt(pycurl.INFILESIZE_LARGE, size)
        return self

    def finished(self, fault: str | None) -> None:
        """Check what came and pass it on; to be called by the loop. Raises WrongAnswer."""
        target, done = self._target, self._done
        assert target is not None and done is not None
        if fault is not None:
            raise WrongAnswer(f"{target.method} {target.url}: {self._wrong or fault}")
        answer = Answer(
            status=self.curl.getinfo(pycurl.RESPONSE_CODE),
            size=self._size,
            seconds=time.perf_counter() - self._began,
            first_byte=(
                self.curl.getinfo(pycurl.STARTTRANSFER_TIME_T)
                - self.curl.getinfo(pycurl.PRETRANSFER_TIME_T)
            )
            / 1e6,
            headers=self._headers,
            body=b"".join(self._pieces),
        )
        if answer.status != target.status:
            raise WrongAnswer(
                f"{target.method} {target.url}: status {answer.status}, not {target.status}: "
                f"{self._beginning!r}"
            )
        if self._expected is not None and self._size != len(self._expected):
            raise WrongAnswer(f"{target.method} {target.url}: {self._size} bytes are too few")
        if target.sha256 is not None and self._hasher.hexdigest() != target.sha256:
            raise WrongAnswer(
                f"{target.method} {target.url}: {self._size} bytes of another digest"
            )
        done(answer)

    def _begin(self, target: Target, done: Callable[[Answer], None]) -> None:
        curl = self.curl
        self._target, self._done = target, done
        self._hasher = hashlib.sha256()
        self._hashes = target.sha256 is not None
        self._expected = None if target.file is None else content_of(target.file)
        self._size = 0
        self._beginning = b""
        self._wrong = ""
        self._pieces: list[bytes] = []
        self._headers: dict[str, str] = {}
        curl.setopt(pycurl.URL, target.url)
        curl.setopt(pycurl.UPLOAD, 0)
        curl.unsetopt(pycurl.CUSTOMREQUEST)
        curl.setopt(pycurl.HTTPHEADER, ["Expect:", *target.headers])
        self._began = time.perf_counter()

    def _write(self, data: bytes) -> int:
        if not self._size:
            self._beginning = data[:200]
        begun = self._size
        self._size += len(data)
        self.moved += len(data)
        if self._expected is not None and self._expected[begun : self._size] != data:
            self._wrong = f"other content around byte {begun}"
            return 0  # libcurl gives the transfer up
        if self._hashes:
            self._hasher.update(data)
        if self._keep:
            self._pieces.append(data)
        return len(data)

    def _header(self, line: bytes) -> None:
        if self._keep:
            name, colon, value = line.decode("latin-1").partition(":")
            if colon:
                self._headers[name.strip().lower()] = value.strip()

"""The job `push`: blobs that the server has never seen, in one piece or in chunks.

Both forms are those that every registry knows (OCI distribution specification 1.1, "Pushing
blobs"): POST opens a session; PUT sends the whole content, or PATCH chunk after chunk and a PUT
without content closes it. The digest that the server answers must be the content's.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from benchmarks.driver.handles import Answer, Handle, Identity, Target, WrongAnswer
from benchmarks.driver.load import Tally
from benchmarks.driver.loop import Loop

BLOCK = 4 * 1024 * 1024
OCTETS = "Content-Type: application/octet-stream"


@dataclass(frozen=True)
class Content:
    """A blob of `size` bytes: a head of its own, then the same block over and over."""

    head: bytes
    block: memoryview
    size: int

    @classmethod
    def make(cls, size: int, block: memoryview) -> Content:
        return cls(os.urandom(min(64, size)), block, size)

    @property
    def digest(self) -> str:
        hasher = hashlib.sha256()
        at = 0
        while at < self.size:
            piece = self.piece(at, BLOCK)
            hasher.update(piece)
            at += len(piece)
        return f"sha256:{hasher.hexdigest()}"

    def piece(self, at: int, most: int) -> bytes:
        """Return at most `most` bytes from `at` on."""
        if at < len(self.head):
            return self.head[at : at + most]
        offset = (at - len(self.head)) % len(self.block)
        return bytes(self.block[offset : offset + min(most, self.size - at)])

    def reader(self, start: int, stop: int) -> Callable[[int], bytes]:
        """Return what gives the bytes from `start` to `stop` (exclusive), piece by piece."""
        at = start

        def read(most: int) -> bytes:
            nonlocal at
            piece = self.piece(at, min(most, stop - at))
            at += len(piece)
            return piece

        return read


class Push:
    """`streams` publishers that each push `count` blobs of `size` bytes, one after the other."""

    def __init__(self, job: dict[str, Any], identities: list[Identity]) -> None:
        self._base: str = job["base"]
        self._repository: str = job["repository"]
        self._size: int = job["size"]
        self._chunk: int | None = job.get("chunk")
        self._streams: int = job["streams"]
        self._count: int = job["count"]
        self._identity = identities[0]
        self._loop = Loop(self._streams)
        self._tally = Tally()
        self._left = 0
        self.digests: list[str] = []

    def prepare(self) -> None:
        """Make the contents, hash them, and connect."""
        block = memoryview(os.urandom(BLOCK))
        contents = [Content.make(self._size, block) for _ in range(self._streams * self._count)]
        self.digests = [content.digest for content in contents]
        named = list(zip(contents, self.digests, strict=True))
        self._publishers = [
            (Handle(self._identity, keep=True), named[index :: self._streams])
            for index in range(self._streams)
        ]
        left = self._streams

        def done(_answer: Answer) -> None:
            nonlocal left
            left -= 1

        for handle, _ in self._publishers:
            self._loop.start(handle.ask(Target(f"{self._base}/v2/"), done))
        self._loop.run(lambda: left == 0)

    def run(self) -> Tally:
        """Push everything, or what can be pushed until told to stop."""
        self._loop.listen()
        self._left = self._streams * self._count
        self._start = time.perf_counter()
        for handle, contents in self._publishers:
            self._next(handle, contents)
        self._loop.run(lambda: self._left == 0 or self._loop.stopped)
        self._loop.cancel_all()
        return self._tally

    def _next(self, handle: Handle, contents: list[tuple[Content, str]]) -> None:
        if not contents:
            return
        (content, digest), rest = contents[0], contents[1:]
        begun = time.perf_counter()

        def published(answer: Answer) -> None:
            stated = answer.headers.get("docker-content-digest", digest)
            if stated != digest:
                raise WrongAnswer(f"the server stored {stated}, not {digest}")
            now = time.perf_counter()
            self._tally.latencies.append(now - begun)
            self._tally.moved += content.size
            self._tally.done += 1
            self._tally.wall = now - self._start
            self._left -= 1
            self._next(handle, rest)

        def opened(answer: Answer) -> None:
            location = urljoin(self._base, answer.headers["location"])
            if self._chunk is None:
                target = Target(_closing(location, digest), "PUT", 201, headers=(OCTETS,))
                read = content.reader(0, content.size)
                self._loop.start(handle.send(target, content.size, read, published))
            else:
                self._send_chunk(handle, content, digest, location, 0, published)

        url = f"{self._base}/v2/{self._repository}/blobs/uploads/"
        self._loop.start(handle.send(Target(url, "POST", 202), 0, lambda _most: b"", opened))

    def _send_chunk(
        self,
        handle: Handle,
        content: Content,
        digest: str,
        location: str,
        at: int,
        published: Callable[[Answer], None],
    ) -> None:
        assert self._chunk is not None
        if at == content.size:
            target = Target(_closing(location, digest), "PUT", 201)
            self._loop.start(handle.send(target, 0, lambda _most: b"", published))
            return
        stop = min(at + self._chunk, content.size)

        def sent(answer: Answer) -> None:
            following = urljoin(self._base, answer.headers["location"])
            self._send_chunk(handle, content, digest, following, stop, published)

        headers = (OCTETS, f"Content-Range: {at}-{stop - 1}")
        target = Target(location, "PATCH", 202, headers=headers)
        self._loop.start(handle.send(target, stop - at, content.reader(at, stop), sent))


def _closing(location: str, digest: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"

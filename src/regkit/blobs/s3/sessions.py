"""Who may write a staged upload, and what it has: shared by every process through the bucket.

An upload is a row of generations, objects that are created only if they aren't there: of several
who want to be the next writer one wins, on any machine. The newest generation's writer holds the
upload for as long as it renews its object; one that stopped to, or whose process is gone from
this machine, is succeeded. A writer that was succeeded without knowing finds out when it saves,
before it acknowledges anything. Times are compared by the server's clock alone.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from regkit import logs
from regkit.blobs.protocol import StagedInfo
from regkit.blobs.s3 import layout
from regkit.blobs.s3.bucket import Bucket, Item, Part
from regkit.errors import Conflict, NotFound, ServiceError

log = logs.get("regkit.blobs")

HOLD = timedelta(seconds=20)
"""How long an upload is held by a writer that doesn't renew it."""
RENEWAL = 5.0
"""Seconds between two renewals."""
INLINE = 32 * 1024
"""Bytes that are kept in the generation itself rather than in an object of their own."""
_TRIES = 5


@dataclass(frozen=True)
class Progress:
    """What a staged upload has.

    `content` names its content once it is whole; `upload` is the multipart upload, None before
    the first part; `rest` are the bytes that make no part yet, in the object `tail` if that has a
    name.
    """

    content: str
    upload: str | None = None
    parts: tuple[Part, ...] = ()
    rest_size: int = 0
    tail: str = ""
    rest: bytes = field(default=b"", repr=False)

    @property
    def size(self) -> int:
        """Bytes altogether."""
        return sum(part.size for part in self.parts) + self.rest_size


@dataclass(frozen=True)
class _Generation:
    number: int
    modified: datetime
    writer: str
    process: str
    held: bool
    progress: Progress | None


class Hold:
    """One writer's hold on a staged upload. Only `Sessions` makes one."""

    def __init__(
        self,
        bucket: Bucket,
        name: str,
        number: int,
        *,
        writer: str,
        progress: Progress,
        left: set[str],
    ) -> None:
        """Hold it as `writer`, who goes into `left` when nobody else could be told of the end."""
        self._left = left
        self.name = name
        self.number = number
        self.progress = progress
        self._bucket = bucket
        self._writer = writer
        self._tails = 0
        self._lock = threading.Lock()
        self._over = False
        self.saved_at = time.monotonic()

    def save(self, progress: Progress) -> None:
        """Keep what the upload has now, whatever becomes of this process.

        Raises Conflict when somebody else has become its writer: then nothing may be told to have
        been kept.
        """
        former = self.progress.tail
        if progress.rest_size and not progress.rest:
            raise RuntimeError("the rest is given when it is saved")
        if progress.rest_size > INLINE:
            self._tails += 1
            tail = layout.tail(self.name, self.number, self._tails)
            self._bucket.put(tail, progress.rest)
            progress = _with_tail(progress, tail)
        with self._lock:
            self._write(progress, held=True)
            self.progress = progress
        # Only now: whoever came next either has read what was just written, or is seen here.
        self._check_newest()
        if former and former != progress.tail:
            self._bucket.delete(former)

    def renew(self) -> None:
        """Hold it for longer."""
        with self._lock:
            if not self._over and time.monotonic() - self.saved_at >= RENEWAL:
                self._write(self.progress, held=True)

    def release(self) -> None:
        """Let the next writer come; what was saved last is what it finds."""
        with self._lock:
            if self._over:
                return
            self._over = True
            try:
                self._write(self.progress, held=False)
            except ServiceError:
                self._left.add(self._writer)  # elsewhere it is left to its time

    def end(self) -> None:
        """Forget the upload."""
        with self._lock:
            if self._over:
                return
            self._over = True
            tail = self.progress.tail
            self._bucket.delete(layout.generation(self.name, self.number))
            if tail:
                self._bucket.delete(tail)

    def abandon(self) -> None:
        """Do nothing more; somebody else is the writer."""
        with self._lock:
            self._over = True

    @property
    def over(self) -> bool:
        """Whether it was let go of."""
        return self._over

    def _write(self, progress: Progress, *, held: bool) -> None:
        content = _render(self._writer, progress, held=held)
        self._bucket.put(layout.generation(self.name, self.number), content)
        self.saved_at = time.monotonic()

    def _check_newest(self) -> None:
        after = layout.generation(self.name, self.number)
        items, _, _ = self._bucket.page(layout.upload(self.name), after)
        if any(layout.generation_of(item.key) for item in items):
            self.abandon()
            # What was just written too late would outlive the upload.
            self._bucket.delete(after)
            raise busy(self.name)


class Sessions:
    """The staged uploads of a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._holds: weakref.WeakSet[Hold] = weakref.WeakSet()
        self._left: set[str] = set()
        self._lock = threading.Lock()
        self._renewing: threading.Thread | None = None

    def hold(self, name: str, *, create: bool) -> Hold:
        """Become the writer of the upload `name`.

        Raises Conflict while another is, NotFound when there is none and `create` is false.
        """
        for _ in range(_TRIES):
            items, now = self._objects(name)
            if not items:
                if not create:
                    raise NotFound(f"nothing is staged as {name!r}")
                progress = Progress(layout.new_content(name))
                if hold := self._become(name, 1, progress):
                    return hold
                raise busy(name)
            newest = self._generation(items[-1])
            if newest is None:
                continue  # it has just ended
            left = newest.writer in self._left or _left(newest, now)
            if newest.held and not left:
                raise busy(name)
            hold = self._succeed(name, items, newest)
            if hold is not None:
                return hold
        raise busy(name)

    def info(self, name: str) -> StagedInfo | None:
        """Tell about an upload without holding it; None when there is none."""
        items, _ = self._objects(name)
        return self._info(name, items)

    def all(self) -> Iterator[StagedInfo]:
        """Go over all uploads, by name."""
        for name, items in self._by_name():
            if info := self._info(name, items):
                yield info

    def names(self) -> Iterator[str]:
        """Go over the names of all uploads."""
        for name, _ in self._by_name():
            yield name

    def exists(self, name: str) -> bool:
        """Whether there is an upload `name`."""
        return bool(self._objects(name)[0])

    def _succeed(self, name: str, items: Sequence[Item], newest: _Generation) -> Hold | None:
        """Become the next writer; None when another was quicker or the upload has ended."""
        number = newest.number + 1
        # Its last writer may still be saving, so that its progress is read when it no longer may.
        progress = None if newest.held else newest.progress
        hold = self._become(name, number, progress)
        if hold is None:
            raise busy(name)
        if progress is None:
            progress = self._latest(items)
            if progress is None:
                self._bucket.delete(layout.generation(name, number))
                return None
            hold.progress = progress
            hold._write(progress, held=True)
        kept = {layout.generation(name, number), progress.tail}
        for item in items:
            if item.key not in kept:
                self._bucket.delete(item.key)
        return hold

    def _become(self, name: str, number: int, progress: Progress | None) -> Hold | None:
        writer = secrets.token_hex(8)
        content = _render(writer, progress, held=True)
        if not self._bucket.create(layout.generation(name, number), content):
            return None
        progress = progress or Progress("")
        hold = Hold(self._bucket, name, number, writer=writer, progress=progress, left=self._left)
        self._keep(hold)
        return hold

    def _latest(self, items: Sequence[Item]) -> Progress | None:
        """Return the newest progress that was saved."""
        for item in reversed(items):
            found = self._generation(item)
            if found is not None and found.progress is not None:
                return found.progress
        return None

    def _objects(self, name: str) -> tuple[list[Item], datetime]:
        """Return the generations of an upload, oldest first, and the server's time."""
        items, _, now = self._bucket.page(layout.upload(name))
        return [item for item in items if layout.generation_of(item.key)], now

    def _by_name(self) -> Iterator[tuple[str, list[Item]]]:
        generations = (
            (found[0], item)
            for item in self._bucket.list(layout.UPLOADS)
            if (found := layout.generation_of(item.key))
        )
        for name, pairs in groupby(generations, key=lambda pair: pair[0]):
            yield name, [item for _, item in pairs]

    def _info(self, name: str, items: Sequence[Item]) -> StagedInfo | None:
        progress = self._latest(items)
        if progress is None:
            return None
        return StagedInfo(name, progress.size, items[-1].modified)

    def _generation(self, item: Item) -> _Generation | None:
        found = layout.generation_of(item.key)
        content = self._bucket.get(item.key)
        if found is None or content is None:
            return None
        return _parse(found[1], item.modified, content)

    def _keep(self, hold: Hold) -> None:
        """Renew the hold now and then for as long as somebody has it."""
        with self._lock:
            self._holds.add(hold)
            if self._renewing is None or not self._renewing.is_alive():
                self._renewing = threading.Thread(target=self._renew, daemon=True)
                self._renewing.start()

    def _renew(self) -> None:
        while True:
            time.sleep(RENEWAL)
            with self._lock:
                holds = [hold for hold in self._holds if not hold.over]
                if not holds:
                    self._renewing = None
                    return
            for hold in holds:
                try:
                    hold.renew()
                except ServiceError as error:
                    log.warning("upload-not-renewed", name=hold.name, reason=str(error))


def busy(name: str) -> Conflict:
    """Return the error for an upload that has another writer."""
    return Conflict(f"{name!r} is being written by another request")


def _with_tail(progress: Progress, tail: str) -> Progress:
    return Progress(progress.content, progress.upload, progress.parts, progress.rest_size, tail)


def _left(generation: _Generation, now: datetime) -> bool:
    """Whether its writer is gone."""
    if now - generation.modified > HOLD:
        return True
    machine, _, process = generation.process.rpartition("/")
    return machine == _machine() and not _runs(process)


def _render(writer: str, progress: Progress | None, *, held: bool) -> bytes:
    document: dict[str, Any] = {"writer": writer, "process": _me(), "held": held}
    if progress is not None:
        document["progress"] = {
            "content": progress.content,
            "upload": progress.upload,
            "parts": [[part.number, part.etag, part.size] for part in progress.parts],
            "rest": progress.rest_size,
            "tail": progress.tail,
            "bytes": "" if progress.tail else base64.b64encode(progress.rest).decode(),
        }
    return json.dumps(document).encode()


def _parse(number: int, modified: datetime, content: bytes) -> _Generation:
    try:
        document = json.loads(content)
        found = document.get("progress")
        progress = found and Progress(
            str(found["content"]),
            found["upload"],
            tuple(Part(int(n), str(etag), int(size)) for n, etag, size in found["parts"]),
            int(found["rest"]),
            str(found["tail"]),
            base64.b64decode(found["bytes"], validate=True),
        )
        return _Generation(
            number,
            modified,
            str(document["writer"]),
            str(document["process"]),
            bool(document["held"]),
            progress,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ServiceError(
            f"an object below {layout.UPLOADS} in the bucket isn't ours: remove what doesn't "
            "belong there"
        ) from error


@cache
def _machine() -> str:
    """Name this boot of this machine and this set of process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # a sandbox may hide them; then only time tells that a writer is gone
        return f"unknown/{secrets.token_hex(8)}"


def _me() -> str:
    return f"{_machine()}/{os.getpid()}-{_started(os.getpid())}"


def _runs(process: str) -> bool:
    pid, _, started = process.partition("-")
    return pid.isdigit() and _started(int(pid)) == started


def _started(pid: int) -> str | None:
    """Return when a process began, in ticks since boot; None when it is gone (proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]

"""The registry's change feed as values, parsed from an answer that may be hostile.

No I/O and no state: `check` says whether a page may follow a cursor, `ams.sync.view` keeps what
the changes add up to. The rules come from the feed's promise to be dense: numbers without gaps,
each history named by an epoch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from regkit.errors import Conflict, Invalid, ServiceError
from regkit.oci.application import MAX_TAG, MAX_TAGS, Key
from regkit.oci.digest import Digest
from regkit.oci.manifests import MAX_SIZE

PAGE = 1000
"""The most rows of one page, and what is asked for."""
MAX_SEQ = 2**62

_EPOCH = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)


class FeedRefused(Conflict):
    """The feed breaks its own promise; nothing was changed here."""


class EpochChanged(ServiceError):  # noqa: N818 - the name states the fault
    """The registry has another history than the one that was read so far."""

    status = 410

    def __init__(self, epoch: str) -> None:
        super().__init__("the registry was restored, reinstalled or replaced: reading it anew")
        self.epoch = epoch


@dataclass(frozen=True)
class Cursor:
    """A place in a history; `str()` is `epoch:seq`."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


@dataclass(frozen=True)
class Change:
    """One row of the feed. `size` is the bytes of all files of the version."""

    seq: int
    kind: Literal["published", "removed"]
    key: Key
    digest: Digest
    size: int
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """Rows after a cursor, oldest first, and the head: the last number given so far."""

    head: Cursor
    changes: tuple[Change, ...]

    def end(self, since: Cursor) -> Cursor:
        """Where to read on after this page, which was read from `since`."""
        return Cursor(self.head.epoch, self.changes[-1].seq) if self.changes else since


def parse_head(metadata: Any) -> Cursor:
    """Read `{"epoch", "seq"}`. Raises FeedRefused."""
    if not isinstance(metadata, Mapping):
        raise FeedRefused(_refused("it isn't an object"))
    epoch, seq = metadata.get("epoch"), metadata.get("seq")
    if not isinstance(epoch, str) or not _EPOCH.fullmatch(epoch):
        raise FeedRefused(_refused("it names no epoch"))
    return Cursor(epoch, _whole(seq, "seq", MAX_SEQ))


def parse_page(metadata: Any) -> Page:
    """Read the metadata of an answer of `/1.0/changes`. Raises FeedRefused."""
    head = parse_head(metadata)
    rows = metadata.get("changes")
    if not isinstance(rows, list) or len(rows) > PAGE:
        raise FeedRefused(_refused(f"it must hold a list of at most {PAGE} changes"))
    page = Page(head, tuple(_change(row) for row in rows))
    stated = metadata.get("cursor")
    if page.changes and stated != str(page.end(head)):
        raise FeedRefused(_refused("its cursor isn't that of its last change"))
    return page


def check(page: Page, since: Cursor) -> None:
    """Check that `page` continues `since` without gap, overlap or step back.

    Raises EpochChanged for another history, FeedRefused for a broken promise.
    """
    if page.head.epoch != since.epoch:
        raise EpochChanged(page.head.epoch)
    if page.head.seq < since.seq:
        raise FeedRefused(went_back(page.head, since))
    for expected, change in enumerate(page.changes, since.seq + 1):
        if change.seq != expected:
            raise FeedRefused(_refused(f"change {change.seq} came where {expected} is next"))
    if page.end(since).seq > page.head.seq:
        raise FeedRefused(_refused("it holds changes beyond its own head"))
    if not page.changes and page.head.seq > since.seq:
        raise FeedRefused(_refused(f"it withholds the changes after {since.seq}"))


def went_back(head: Cursor, since: Cursor) -> str:
    """Say that the registry is behind what it once told, and what to do."""
    return (
        f"the registry went back in time, from change {since.seq} to {head.seq}: nothing was "
        "changed here. If an old backup was restored on purpose, accept its state with 'amc "
        "registry sync --allow-deletions'"
    )


def _refused(why: str) -> str:
    return (
        f"the registry's change feed can't be trusted: {why}. Nothing was changed here; check the "
        "registry, then accept its state with 'amc registry sync --allow-deletions'"
    )


def _change(row: Any) -> Change:
    if not isinstance(row, Mapping):
        raise FeedRefused(_refused("a change isn't an object"))
    kind, tags = row.get("kind"), row.get("tags")
    if kind not in ("published", "removed"):
        raise FeedRefused(_refused(f"{str(kind)[:40]!r} is not a kind of change"))
    if (
        not isinstance(tags, list)
        or len(tags) > MAX_TAGS
        or not all(isinstance(tag, str) and 0 < len(tag) <= MAX_TAG for tag in tags)
    ):
        raise FeedRefused(_refused("a change's tags aren't a list of texts"))
    name, number, architecture = row.get("name"), row.get("number"), row.get("architecture")
    try:
        if not isinstance(name, str) or not isinstance(architecture, str):
            raise Invalid("a change names no version")
        key = Key(name, _whole(number, "number", MAX_SIZE), architecture)
        digest = Digest.parse(row.get("digest"))
    except Invalid as fault:
        raise FeedRefused(_refused(str(fault))) from None
    seq = _whole(row.get("seq"), "seq", MAX_SEQ)
    size = _whole(row.get("size"), "size", MAX_SIZE)
    return Change(seq, kind, key, digest, size, tuple(tags))


def _whole(value: Any, name: str, limit: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise FeedRefused(_refused(f"{name} must be a whole number"))
    return value

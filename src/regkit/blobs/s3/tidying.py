"""What crashes leave in a bucket: parts of uploads that nobody knows, content without a blob.

Whatever is younger than the caller's limit is left alone, and so is what belongs to a staged
upload, which is its owner's to discard.
"""

from __future__ import annotations

from datetime import datetime

from regkit.blobs.protocol import Tidied
from regkit.blobs.s3 import layout
from regkit.blobs.s3.bucket import Bucket, Item
from regkit.blobs.s3.sessions import Sessions


def tidy(bucket: Bucket, sessions: Sessions, before: datetime, *, dry_run: bool) -> Tidied:
    """Drop all of it that was written before `before`; `dry_run` only counts."""
    count = _abort_uploads(bucket, sessions, before, dry_run)
    size = 0
    for drop in (_rests, _content):
        for item in drop(bucket, sessions, before):
            if not dry_run:
                bucket.delete(item.key)
            count += 1
            size += item.size
    return Tidied(count, size)


def _abort_uploads(bucket: Bucket, sessions: Sessions, before: datetime, dry_run: bool) -> int:
    count = 0
    for upload in bucket.uploads(layout.DATA):
        name = layout.staged_as(upload.key.removeprefix(layout.DATA))
        if upload.begun >= before or not layout.NAME.fullmatch(name) or sessions.exists(name):
            continue
        if not dry_run:
            bucket.abort(upload.key, upload.id)
        count += 1
    return count


def _rests(bucket: Bucket, sessions: Sessions, before: datetime) -> list[Item]:
    """Find what a writer that was succeeded saved too late."""
    found = []
    for item in bucket.list(layout.UPLOADS):
        name = item.key.removeprefix(layout.UPLOADS).partition("/")[0]
        orphaned = layout.generation_of(item.key) is None and item.modified < before
        if orphaned and layout.NAME.fullmatch(name) and not sessions.exists(name):
            found.append(item)
    return found


def _content(bucket: Bucket, sessions: Sessions, before: datetime) -> list[Item]:
    """Find content that nothing points at, and pointers that a newer one has replaced."""
    old = [item for item in bucket.list(layout.DATA) if item.modified < before]
    # In this order: an upload ends only when its content has a pointer.
    staged = set(sessions.names())
    newest: dict[object, tuple[datetime, str, Item]] = {}
    replaced: list[Item] = []
    wanted: set[str] = set()
    for item in bucket.list(layout.BLOBS):
        parsed = layout.blob(item.key)
        if parsed is None:
            continue
        digest, pointer = parsed
        entry = (item.modified, str(pointer), item)
        former = newest.get(digest)
        if former is not None:
            older, entry = sorted((former, entry), key=lambda pair: pair[:2])
            if entry[0] < before:
                replaced.append(older[2])
            else:
                wanted.add(older[1].partition("-")[2])
        newest[digest] = entry
    wanted |= {text.partition("-")[2] for _, text, _ in newest.values()}
    for item in bucket.list(layout.DAMAGED):
        if pointer := layout.pointer(item.key.rpartition("/")[2]):
            wanted.add(pointer.content)
    names = {item.key.removeprefix(layout.DATA): item for item in old}
    return replaced + [
        item
        for content, item in names.items()
        if content not in wanted and layout.staged_as(content) not in staged
    ]

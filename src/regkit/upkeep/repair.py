"""Bringing lost content back: from an upload that rests here, or from a source.

Nothing becomes a blob before its digest was compared, and it becomes one under the write lock in
which the service's books say that it is sound again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from regkit.blobs import BlobStore, DigestMismatch, Staged
from regkit.errors import Conflict, NotFound, ServiceError, TooLarge
from regkit.oci.digest import Digest
from regkit.progress import Advance, ignore
from regkit.upkeep.scrub import Books, Damage, Report, restored
from regkit.upkeep.sources import Source

HERE = "an upload that rested here"


def repair(
    blobs: BlobStore,
    books: Books,
    report: Report,
    sources: Sequence[Source],
    count: Advance = ignore,
) -> Report:
    """Replace what the report says is damaged, as far as it is found; return the new report.

    Sources are asked in order. An unreadable blob is replaced too. Raises NoSpace.
    """
    found: dict[Digest, str] = {}
    notes: dict[str, None] = {}
    for damage in report.damages:
        name = _from_uploads(blobs, books, damage)
        for source in sources if name is None else ():
            try:
                if _from_source(blobs, books, damage, source, count):
                    name = source.name
                    break
            except (DigestMismatch, TooLarge):
                notes[f"{source.name} has {damage.digest}, but damaged as well"] = None
            except ServiceError as error:
                if error.status == 507:
                    raise
                notes[str(error)] = None
        if name is not None:
            found[damage.digest] = name
    return restored(report, found, [*report.notes, *notes])


def _from_uploads(blobs: BlobStore, books: Books, damage: Damage) -> str | None:
    """Take an upload that was given up just before its end; its sender finds the blob there."""
    for info in blobs.staged():
        if info.size != damage.size:
            continue
        with suppress(Conflict, NotFound), blobs.stage(info.name, create=False) as staged:
            if _settle(books, damage, staged, HERE):
                return HERE
    return None


def _from_source(
    blobs: BlobStore, books: Books, damage: Damage, source: Source, count: Advance
) -> bool:
    places = sorted({user.place for user in damage.users if user.place})
    chunks = source.read(damage.digest, places)
    if chunks is None:
        return False
    name = f"repair-{damage.digest.hex[:64]}"
    blobs.discard(name)
    try:
        with blobs.stage(name) as staged:
            for chunk in chunks:
                if staged.size + len(chunk) > damage.size:
                    raise TooLarge("it is larger than the blob")
                staged.write(chunk)
                count(len(chunk))
            staged.seal(damage.digest)
            return _publish(books, damage, staged, source.name)
    finally:
        blobs.discard(name)


def _settle(books: Books, damage: Damage, staged: Staged, name: str) -> bool:
    try:
        staged.seal(damage.digest)
    except DigestMismatch:
        return False
    return _publish(books, damage, staged, name)


def _publish(books: Books, damage: Damage, staged: Staged, name: str) -> bool:
    def act() -> bool:
        staged.publish()
        return True

    return books.note(damage.digest, act, sound=True, why=f"taken from {name}")

"""Scrubbing: every blob is read and compared with its digest, beside a running service.

What is found to be damaged is moved aside at once, so that nobody is ever served it, and the
service's books say so; the next push of the same blob takes its place. A disk that fails to read
moves nothing, since it may recover. Content comes back from elsewhere by `repair`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from regkit.blobs import BlobStore
from regkit.errors import NotFound, ServiceError
from regkit.oci.digest import Digest, new_hasher
from regkit.progress import Advance, ignore

Kind = Literal["missing", "truncated", "damaged", "unreadable"]

CHUNK = 1024 * 1024
ATTEMPTS = 3
"""Looks at a blob that changes between reading it and writing down what was found."""
BATCH = 500


@dataclass(frozen=True)
class Wanted:
    """A blob that the service refers to; `sound` is false for one that it knows is damaged."""

    digest: Digest
    size: int
    sound: bool = True


@dataclass(frozen=True)
class User:
    """Something that needs a blob, such as `candy 3-amd64`.

    `by` is the fingerprint of who can give it again, `who` that certificate's common name, as far
    as they are known. `place` is the repository where other registries would have the blob.
    """

    name: str
    by: str = ""
    who: str = ""
    place: str = ""


class Books(Protocol):
    """What a service knows of its blobs; every call is a transaction of its own."""

    def amount(self) -> int:
        """Return the size of all wanted blobs together, in bytes."""
        ...

    def wanted(self) -> Iterator[Wanted]:
        """Go over the blobs that must be there; what comes or goes meanwhile may be missed."""
        ...

    def unwanted(self, digests: Sequence[Digest]) -> list[Digest]:
        """Return those that nothing refers to, with no upload just about to."""
        ...

    def note(self, digest: Digest, act: Callable[[], bool], *, sound: bool, why: str) -> bool:
        """Call `act`, and if it returns true write down that the blob is sound, or is not.

        All under the write lock. Returns false, with nothing changed, when nothing refers to the
        blob any more or `act` says so.
        """
        ...

    def users(self, digest: Digest) -> list[User]:
        """Return what needs the blob, by name."""
        ...

    def faults(self) -> list[str]:
        """Return what is wrong with the rows themselves, in words."""
        ...

    def dangling(self) -> list[str]:
        """Return, in words, rows that refer to what somebody has deleted, as is allowed."""
        ...


@dataclass(frozen=True)
class Fault:
    """What is wrong with a blob. `version` names the content that was read."""

    kind: Kind
    why: str
    version: object = None


@dataclass(frozen=True)
class Damage:
    """A blob that can't be served; `restored` says where sound content was taken from, if so."""

    digest: Digest
    size: int
    kind: Kind
    why: str
    users: tuple[User, ...]
    restored: str = ""


@dataclass(frozen=True)
class Report:
    """What a scrub found. Sizes are in bytes.

    `healed`: blobs that were known as damaged and are sound again. `orphans`: content that
    nothing refers to, `strays`: files that are no blobs, `dangling`: rows that refer to what was
    deleted; none of them is damage. `rows`: faults of the database, `notes`: why a source gave
    nothing.
    """

    blobs: int = 0
    size: int = 0
    damages: tuple[Damage, ...] = ()
    healed: tuple[Digest, ...] = ()
    orphans: tuple[Digest, ...] = ()
    orphaned_size: int = 0
    strays: tuple[str, ...] = ()
    dangling: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def left(self) -> tuple[Damage, ...]:
        """What is still damaged."""
        return tuple(damage for damage in self.damages if not damage.restored)

    @property
    def sound(self) -> bool:
        """Whether nothing is lost."""
        return not self.left and not self.rows


def examine(
    blobs: BlobStore, digest: Digest, size: int | None, count: Advance = ignore
) -> Fault | None:
    """Read a blob and compare it with its digest; None when it is sound.

    `size` is what it should have, if known.
    """
    try:
        reader = blobs.read(digest, chunk=CHUNK)
    except NotFound:
        return Fault("missing", "there is no such file")
    except OSError as error:
        return Fault("unreadable", str(error.strerror or error))
    hasher, found = new_hasher(digest.algorithm), 0
    try:
        for chunk in reader:
            hasher.update(chunk)
            found += len(chunk)
            count(len(chunk))
    except (OSError, ServiceError) as error:
        return Fault("unreadable", getattr(error, "strerror", None) or str(error))
    finally:
        reader.close()
    if size is not None and found < size:
        why = f"it has {found} of {size} bytes"
        return Fault("truncated", why, reader.version)
    if hasher.hexdigest() != digest.hex:
        why = f"its content has the digest {digest.algorithm}:{hasher.hexdigest()}"
        return Fault("damaged", why, reader.version)
    return None


def scrub(blobs: BlobStore, books: Books, count: Advance = ignore) -> Report:
    """Check everything, and take out of service what is damaged."""
    rows = tuple(books.faults())
    checked = size = 0
    damages: list[Damage] = []
    healed: list[Digest] = []
    for item in books.wanted():
        checked += 1
        size += item.size
        fault = _settle(blobs, books, item, count)
        if fault is not None:
            users = tuple(books.users(item.digest))
            damages.append(Damage(item.digest, item.size, fault.kind, fault.why, users))
        elif not item.sound:
            healed.append(item.digest)
    orphans, orphaned = _orphans(blobs, books)
    return Report(
        blobs=checked,
        size=size,
        damages=tuple(damages),
        healed=tuple(healed),
        orphans=orphans,
        orphaned_size=orphaned,
        strays=tuple(sorted(blobs.strays())),
        dangling=tuple(books.dangling()),
        rows=rows,
    )


def restored(report: Report, found: dict[Digest, str], notes: Sequence[str]) -> Report:
    """Return the report with what was taken from elsewhere (`found`: from where)."""
    damages = tuple(replace(d, restored=found.get(d.digest, "")) for d in report.damages)
    return replace(report, damages=damages, notes=tuple(notes))


def _settle(blobs: BlobStore, books: Books, item: Wanted, count: Advance) -> Fault | None:
    """Check one blob and write down what was found; None when it is sound, or wanted no more."""
    digest = item.digest
    for _ in range(ATTEMPTS):
        fault = examine(blobs, digest, item.size, count)
        count = ignore  # a second look is no further progress
        if fault is None:
            if item.sound:
                return None
            there = item.size
            if books.note(
                digest, lambda there=there: blobs.size(digest) == there, sound=True, why=""
            ):
                return None
        elif fault.kind == "unreadable" or (fault.kind == "missing" and not item.sound):
            return fault
        else:
            version = fault.version
            gone = fault.kind == "missing"

            def act(gone: bool = gone, version: object = version) -> bool:
                if gone:
                    return blobs.size(digest) is None
                return blobs.set_aside(digest, version)

            if books.note(digest, act, sound=False, why=f"{fault.kind}: {fault.why}"):
                return fault
        # Somebody replaced or removed it in between: look again.
    return None


def _orphans(blobs: BlobStore, books: Books) -> tuple[tuple[Digest, ...], int]:
    found: list[Digest] = []
    sizes: dict[Digest, int] = {}
    batch: dict[Digest, int] = {}

    def sort_out() -> None:
        for digest in books.unwanted(list(batch)):
            found.append(digest)
            sizes[digest] = batch[digest]
        batch.clear()

    for info in blobs.blobs():
        batch[info.digest] = info.size
        if len(batch) >= BATCH:
            sort_out()
    if batch:
        sort_out()
    return tuple(found), sum(sizes.values())

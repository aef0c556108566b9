"""Moving a service's state to other engines: blobs, one by one, and all rows in one transaction.

What is copied is compared: blobs with their digests, tables row by row with what was read. The
source is only ever read. When it may be called, and what the rows mean, is the services' business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import sqlalchemy as sa

from regkit.blobs import BlobStore, DigestMismatch
from regkit.errors import Conflict, NotFound, ServiceError
from regkit.oci.digest import Digest
from regkit.progress import Advance, ignore
from regkit.upkeep.scrub import Wanted

CHUNK = 1024 * 1024
SAVED = 256 * 1024 * 1024
"""Bytes of a large blob after which the copy is saved, so that kill -9 costs no more."""
PAGE = 1000


@dataclass(frozen=True)
class Moved:
    """What was copied; `present` were there already, `gone` vanished from the source meanwhile.

    `damaged` aren't what their digests say, and were left out.
    """

    blobs: int = 0
    size: int = 0
    present: int = 0
    gone: tuple[Digest, ...] = ()
    damaged: tuple[Digest, ...] = ()


def blobs(
    source: BlobStore, target: BlobStore, wanted: Iterable[Wanted], count: Advance = ignore
) -> Moved:
    """Copy what the target lacks of `wanted`; goes on where an earlier call was cut."""
    copied = size = present = 0
    gone: list[Digest] = []
    damaged: list[Digest] = []
    for item in wanted:
        if target.size(item.digest) == item.size:
            present += 1
            count(item.size)
            continue
        try:
            _copy(source, target, item, count)
        except NotFound:
            gone.append(item.digest)
        except DigestMismatch:
            damaged.append(item.digest)
        else:
            copied += 1
            size += item.size
    return Moved(copied, size, present, tuple(gone), tuple(damaged))


def missing(target: BlobStore, wanted: Iterable[Wanted]) -> tuple[int, int]:
    """Return how many blobs the target lacks, and their size in bytes."""
    lacking = [item.size for item in wanted if target.size(item.digest) != item.size]
    return len(lacking), sum(lacking)


def _copy(source: BlobStore, target: BlobStore, item: Wanted, count: Advance) -> None:
    name = f"move-{item.digest.hex[:64]}"
    with target.stage(name) as staged:
        for start in dict.fromkeys((staged.size if staged.size <= item.size else 0, 0)):
            staged.truncate(start)
            count(start)
            saved = start
            with closing(source.read(item.digest, start, chunk=CHUNK)) as chunks:
                for chunk in chunks:
                    staged.write(chunk)
                    count(len(chunk))
                    if staged.size - saved >= SAVED:
                        staged.sync()
                        saved = staged.size
            try:
                staged.seal(item.digest)
            except DigestMismatch:
                # What an earlier call had left may have been torn.
                count(-staged.size)
                if start:
                    continue
                staged.truncate(0)
                raise
            staged.publish()
            return


def rows(
    source: sa.Connection, target: sa.Connection, tables: Sequence[sa.Table], log: sa.Table
) -> dict[str, int]:
    """Make the target's tables equal to the source's, in the caller's transactions.

    `tables` are in the order of their references, `log` one of them to which rows are only ever
    added: the target's must be the beginning of the source's. Returns how many rows each has.
    Raises Conflict, ServiceError when what was written isn't what was read.
    """
    for table in reversed(tables):
        if table is not log:
            target.execute(table.delete())
    counts = {}
    for table in tables:
        after = _common(source, target, log) if table is log else None
        for page in _pages(source, table, after):
            target.execute(table.insert(), page)
        read, written = _sum(source, table), _sum(target, table)
        if read != written:
            raise ServiceError(f"the copy of the table {table.name} isn't what was read")
        counts[table.name] = read[0]
    if target.dialect.name == "postgresql":
        _advance_sequences(target, tables)
    return counts


def _common(source: sa.Connection, target: sa.Connection, log: sa.Table) -> object:
    """Return the key of the log's last row in the target; None when it has none."""
    (key,) = log.primary_key.columns
    last = target.execute(log.select().order_by(key.desc()).limit(1)).first()
    if last is None:
        return None
    value = last._mapping[key.name]
    same = source.execute(log.select().where(key == value)).first()
    if same is None or tuple(same) != tuple(last):
        raise Conflict(
            f"the database to move to has a history of its own (table {log.name}): move to an "
            "empty one"
        )
    return value


def _pages(
    connection: sa.Connection, table: sa.Table, after: object = None
) -> Iterator[list[dict[str, object]]]:
    query = table.select().order_by(*table.primary_key.columns)
    if after is not None:
        (key,) = table.primary_key.columns
        query = query.where(key > after)
    for page in connection.execute(query, execution_options={"yield_per": PAGE}).partitions():
        yield [dict(row._mapping) for row in page]


def _sum(connection: sa.Connection, table: sa.Table) -> tuple[int, str]:
    """Return the number of rows, and what is the same for the same rows on every engine."""
    number, total = 0, 0
    for page in _pages(connection, table):
        for row in page:
            number += 1
            content = repr(sorted(row.items())).encode("utf-8", "surrogatepass")
            # Engines order texts differently, so that the order must not matter.
            total += int.from_bytes(hashlib.sha256(content).digest(), "big")
    return number, f"{total % 2**256:x}"


def _advance_sequences(target: sa.Connection, tables: Sequence[sa.Table]) -> None:
    """Let the next number that PostgreSQL gives be beyond those that were copied."""
    for table in tables:
        key = table.autoincrement_column
        if key is None or table.name not in sa.inspect(target).get_table_names():
            continue
        name = sa.func.pg_get_serial_sequence(table.name, key.name)
        sequence = target.execute(sa.select(name)).scalar()
        last = target.execute(sa.select(sa.func.max(key))).scalar()
        if sequence is not None and last is not None:
            target.execute(sa.select(sa.func.setval(sequence, last)))

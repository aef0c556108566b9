"""The registry's state as `regkit.upkeep` backs it up and restores it.

What outlives a restore, beside revocations: the audit log, what is in quarantine, and the memory
of what every key once meant, so that none is ever given other content. The change feed begins a
new epoch, so that no reader takes the past for the present. The registry's identity stays that of
the place, whoever made the backup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from aar import applications, audit, deployment, feed, quarantine, schema
from aar.audit import Record
from aar.feed import Cursor
from aar.registry import MIGRATIONS, blob_root, database_url
from aar.settings import CERTIFICATE, CONFIGURATION, KEY, Settings
from regkit.database import Database
from regkit.oci.digest import Digest
from regkit.storage import open_blobs
from regkit.trust import MANUAL, Change, Entry, carrying
from regkit.upkeep.scrub import Wanted
from regkit.upkeep.state import Adoption, State, database_file

PAGE = 500


def state(home: Path, settings: Settings) -> State:
    """Return the state under the root `home`; the folders of blobs are made."""
    (home / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    return State(
        service="aar",
        home=home,
        database=database_file(database_url(home, settings), _afterwards(settings)),
        scripts=MIGRATIONS,
        configuration=CONFIGURATION,
        keys=(CERTIFICATE, KEY),
        blobs=open_blobs(settings.storage, blob_root(home, settings)),
        trust=schema.trust,
        wanted=_wanted,
        contents=_contents,
        adopt=partial(_adopt, home),
    )


def _afterwards(settings: Settings) -> str:
    """Say what belongs to the backup of a database that a server keeps, and to its restore."""
    blobs = "keep the bucket's versions" if settings.storage.s3 else "then copy the blobs"
    return f"{blobs}, and after a restore run 'aar epoch rotate' before the registry starts"


def settle(database: Database, revoked: Sequence[Entry] = ()) -> tuple[Cursor, list[Entry]]:
    """Do for a database that was restored by its own means what `restore` does for a file.

    That is: revocations from a list that was kept elsewhere, and a new epoch of the feed. Returns
    where the feed stands, and what wasn't revoked before.
    """
    with database.write() as connection:
        carried = carrying.carry(connection, schema.trust, revoked)
        for entry in carried:
            audit.trust_changed(connection, Change("revoked", entry, MANUAL))
        epoch = feed.rotate(connection)
        by = "the database's own means"
        audit.append(connection, [Record("registry-restored", by, detail={"epoch": epoch})])
        return feed.head_of(connection), carried


def _wanted(connection: sa.Connection) -> Iterator[Wanted]:
    blob = schema.blob
    query = sa.select(blob.c.digest, blob.c.size, blob.c.state).where(
        blob.c.state != schema.DELETING
    )
    for row in connection.execute(query.order_by(blob.c.digest)):
        yield Wanted(Digest.parse(row.digest), row.size, row.state != schema.DAMAGED)


def _contents(connection: sa.Connection) -> str:
    found = []
    for table, what in (
        (schema.trust, "certificates"),
        (schema.application_version, "versions"),
        (schema.manifest, "manifests"),
        (schema.blob, "blobs"),
    ):
        if not sa.inspect(connection).has_table(table.name):
            continue
        count = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        if count:
            found.append(f"{count} {what}")
    return ", ".join(found)


def _adopt(home: Path, adoption: Adoption) -> list[str]:
    new, now = adoption.new, adoption.now
    remarks = []
    known = deployment.remembered(home)
    if known is None and adoption.old is not None:
        known = deployment.identity(adoption.old)
    if known is not None:
        deployment.set_identity(new, known)
    for start in range(0, len(adoption.lost), PAGE):
        digests = [str(digest) for digest in adoption.lost[start : start + PAGE]]
        blob = schema.blob
        new.execute(
            blob.update()
            .where(blob.c.digest.in_(digests), blob.c.state != schema.DELETING)
            .values(state=schema.DAMAGED)
        )
    if adoption.old is not None:
        tables = sa.inspect(adoption.old).get_table_names()
        if schema.audit.name in tables:
            _carry_audit(new, adoption.old)
        _carry_keys(new, adoption.old, schema.to_text(now))
        if schema.quarantine.name in tables:
            quarantine.hold(new, quarantine.held(adoption.old))
    epoch = feed.rotate(new)
    made = f"backup of {adoption.made:%Y-%m-%d %H:%M:%S} UTC"
    audit.append(new, [Record("registry-restored", made, detail={"epoch": epoch})], now)
    # The last, since it writes to the feed.
    if withdrawn := applications.withdraw_quarantined(new, now):
        remarks.append(
            f"{len(withdrawn)} versions of the backup stay withdrawn, since they are in quarantine"
        )
    return remarks


def _carry_audit(new: sa.Connection, old: sa.Connection) -> None:
    """Append what the log has beyond the backup's; all of it, if they have nothing in common."""
    table = schema.audit
    last = new.execute(table.select().order_by(table.c.seq.desc()).limit(1)).first()
    after = 0
    if last is not None:
        same = old.execute(table.select().where(table.c.seq == last.seq)).first()
        if same is not None and tuple(same) == tuple(last):
            after = last.seq
    rows = old.execute(table.select().where(table.c.seq > after).order_by(table.c.seq))
    for page in rows.partitions(PAGE):
        values = [{**row._mapping} for row in page]
        for value in values:
            del value["seq"]
        new.execute(table.insert(), values)


def _carry_keys(new: sa.Connection, old: sa.Connection, now: str) -> None:
    """Remember the keys that were published after the backup, as removed."""
    table = schema.application_version
    known = {tuple(row) for row in new.execute(sa.select(*_key(table)))}
    rows = old.execute(table.select()).all()
    missing = [
        {**row._mapping, "removed_at": row.removed_at or now}
        for row in rows
        if (row.name, row.number, row.architecture) not in known
    ]
    for start in range(0, len(missing), PAGE):
        new.execute(table.insert(), missing[start : start + PAGE])


def _key(table: sa.Table) -> Sequence[sa.Column[object]]:
    return (table.c.name, table.c.number, table.c.architecture)

"""Which registry a state root, a database and a blob store belong to: the same, or nothing starts.

Each database has an identity, made at random with its tables, which no restore and no move
changes. A state root remembers the one that it was used with, and the blob store has it written
down too. So a `database.url` or `storage` that names an empty or a foreign place is told, and no
registry seems to be empty that isn't: sites would take that for what it is.

A root that was never used has nothing to remember, so that it may join any registry. A deliberate
change is `aar migrate`, which takes the identity along, or `aar adopt`, which takes another.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

import sqlalchemy as sa

from aar import audit, schema
from aar.audit import Record
from regkit.blobs import BlobStore
from regkit.database import Database
from regkit.errors import Invalid
from regkit.oci.digest import Digest
from regkit.trust import MANUAL

REMEMBERED = Path("data/registry-id")
"""Under the state root."""
SAMPLE = 20
"""Blobs that are looked for in a store that doesn't say whose it is, as before this was known."""

_IDENTITY = re.compile(r"[0-9a-f]{32}", re.ASCII)


def new_identity() -> str:
    """Return a random identity: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def identity(connection: sa.Connection) -> str | None:
    """Return the identity of a database; None for one that holds no registry."""
    if not sa.inspect(connection).has_table(schema.deployment.name):
        return None
    return connection.execute(sa.select(schema.deployment.c.identity)).scalar()


def set_identity(connection: sa.Connection, wanted: str) -> None:
    """Give a database another identity, in the caller's transaction."""
    table = schema.deployment
    connection.execute(table.update().where(table.c.id == 1).values(identity=wanted))


def remembered(home: Path) -> str | None:
    """Return which registry a state root was used with; None: with none yet, or none readable."""
    try:
        text = (home / REMEMBERED).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return text if _IDENTITY.fullmatch(text) else None


def remember(home: Path, database: Database) -> bool:
    """Let the root remember its registry, as soon as something would be missed without it.

    Returns whether it does.
    """
    if remembered(home) is not None:
        return True
    with database.read() as connection:
        found = identity(connection)
        if found is None or not in_use(connection):
            return False
    write(home, found)
    return True


def write(home: Path, found: str) -> None:
    """Let a root remember this registry, durably, in the place of another."""
    path = home / REMEMBERED
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(found + "\n")
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)


def in_use(connection: sa.Connection) -> bool:
    """Whether anything was ever pushed, or an operator has trusted or revoked somebody.

    What relations asked to be trusted doesn't count: they still ask.
    """
    trust = schema.trust
    lasting = sa.or_(trust.c.origin == MANUAL, trust.c.revoked.is_not(None))
    return bool(
        connection.execute(sa.select(schema.feed.c.seq)).scalar()
        or connection.execute(sa.select(sa.literal(1)).where(lasting).limit(1)).first()
        or connection.execute(sa.select(sa.literal(1)).select_from(schema.blob).limit(1)).first()
    )


def check_database(home: Path, connection: sa.Connection, name: str) -> None:
    """Check that a database, called `name`, is the one that the root was used with.

    Nothing is written. Raises Invalid, which says what to do.
    """
    known = remembered(home)
    if known is None:
        return
    found = identity(connection)
    if found is None:
        raise Invalid(
            f"{name} holds no registry, and {home} was used with one: set database.url in "
            "conf/main.yaml back, restore a backup, or begin anew by 'aar adopt'"
        )
    if found != known:
        raise Invalid(
            f"{name} holds another registry than {home} was used with: set database.url in "
            "conf/main.yaml back, or go on with this one by 'aar adopt'"
        )


def check_storage(database: Database, blobs: BlobStore) -> None:
    """Check that the blob store is this registry's, and write that down in a new one.

    Raises Invalid, which says what to do, and Unavailable.
    """
    with database.read() as connection:
        known = identity(connection)
        sample = _sample(connection)
    owner = blobs.owner()
    if known is None or owner == known:
        return
    if owner is None and sample and all(blobs.size(digest) is None for digest in sample):
        raise Invalid(
            "storage has none of this registry's files: mount it, or set storage in "
            "conf/main.yaml back; or go on with this one by 'aar adopt'"
        )
    if owner is None:
        owner = blobs.claim(known)
    if owner != known:
        raise Invalid(
            "storage holds the files of another registry: set storage in conf/main.yaml back, "
            "give another bucket, prefix or folder, or take this one over by 'aar adopt'"
        )


def _sample(connection: sa.Connection) -> list[Digest]:
    blob = schema.blob
    query = sa.select(blob.c.digest).where(blob.c.state == schema.PRESENT).order_by(blob.c.digest)
    return [Digest.parse(text) for text in connection.execute(query.limit(SAMPLE)).scalars()]


def adopt(home: Path, database: Database, blobs: BlobStore) -> str:
    """Make root and blob store belong to the registry of this database; return its identity."""
    with database.write() as connection:
        found = identity(connection)
        assert found is not None  # noqa: S101 - it was migrated
        before = remembered(home) or ""
        detail = {"identity": found, "before": before}
        audit.append(connection, [Record("registry-adopted", found, detail=detail)])
    blobs.claim(found, replace=True)
    write(home, found)
    return found

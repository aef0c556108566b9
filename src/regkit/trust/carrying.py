"""Revocations that outlive the rows around them: carried from one database into another.

A revocation is for ever, also for a database that is older than it: a restored backup. They come
from the rows of the database before, or from a list that was kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from aar_interface import Certificate, Fingerprint, InvalidCertificate, Role
from regkit.errors import Invalid
from regkit.trust.rows import MANUAL, Entry, entry_of, from_row, row_of, to_row


def revoked(connection: sa.Connection, table: sa.Table) -> list[Entry]:
    """Return the revoked rows, by fingerprint."""
    query = table.select().where(table.c.revoked.is_not(None)).order_by(table.c.fingerprint)
    return [from_row(row._mapping) for row in connection.execute(query).all()]


def trusted(connection: sa.Connection, table: sa.Table) -> set[Fingerprint]:
    """Return the fingerprints of the trusted rows."""
    query = sa.select(table.c.fingerprint).where(table.c.revoked.is_(None))
    return {Fingerprint(text) for text in connection.execute(query).scalars()}


def carry(connection: sa.Connection, table: sa.Table, entries: Iterable[Entry]) -> list[Entry]:
    """Revoke what `entries` say, in the caller's transaction; return those that weren't."""
    done = []
    for entry in entries:
        here = row_of(connection, table, entry.fingerprint)
        if here is not None and here.revoked:
            continue
        if here is None:
            connection.execute(table.insert().values(to_row(entry)))
        else:
            connection.execute(
                table.update()
                .where(table.c.fingerprint == str(entry.fingerprint))
                .values(revoked=to_row(entry)["revoked"])
            )
        done.append(entry)
    return done


def read_list(document: Any, source: str) -> list[Entry]:
    """Read what `aar trust list --revoked --format json` printed. Raises Invalid.

    Fingerprint and key are taken from the certificates themselves.
    """
    if not isinstance(document, list):
        raise Invalid(f"{source} must be what 'trust list --revoked --format json' prints")
    return [_entry(item, f"{source}[{index}]") for index, item in enumerate(document)]


def _entry(item: Any, where: str) -> Entry:
    pem = item.get("Certificate") if isinstance(item, dict) else None
    if not isinstance(pem, str):
        raise Invalid(f"{where} has no Certificate: make the list anew with this version")
    try:
        certificate = Certificate.parse(pem)
        moment = datetime.fromisoformat(str(item.get("Revoked")))
        role = Role(item.get("Role"))
    except (InvalidCertificate, ValueError) as error:
        raise Invalid(f"{where}: {error}") from None
    if moment.tzinfo is None:
        raise Invalid(f"{where}: Revoked must have a time zone")
    entry = entry_of(certificate, role, MANUAL, (), moment)
    return replace(entry, revoked=moment)

"""Rows of the quarantine: versions withdrawn with their publisher, always inside a transaction.

A publisher whose machine was broken into may have pushed anything, and a site in push mode pushes
again what its registry lacks. So what is quarantined isn't only removed: its key stays closed, for
whoever pushes, until an operator releases it. The rule is that of `applications`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from aar import schema
from aar.errors import Denied
from regkit.errors import Invalid, NotFound
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from regkit.trust import MIN_PREFIX


@dataclass(frozen=True)
class Held:
    """A version in quarantine. `published_by` is the publisher's fingerprint."""

    key: Key
    digest: Digest
    published_by: str
    at: datetime


def check(connection: sa.Connection, key: Key) -> None:
    """Raise Denied when `key` is in quarantine."""
    table = schema.quarantine
    at = connection.execute(sa.select(table.c.at).where(_is(key))).scalar()
    if at is not None:
        raise Denied(
            f"version {key.number} of {key.name} for {key.architecture} was put in quarantine on "
            f"{schema.to_moment(at):%Y-%m-%d}: ask the registry's operator to release it, or "
            "publish a new version number"
        )


def hold(connection: sa.Connection, held: Iterable[Held]) -> None:
    """Add rows, in place of those with the same key."""
    table = schema.quarantine
    for item in held:
        connection.execute(table.delete().where(_is(item.key)))
        connection.execute(
            table.insert().values(
                name=item.key.name,
                number=item.key.number,
                architecture=item.key.architecture,
                digest=str(item.digest),
                published_by=item.published_by,
                at=schema.to_text(item.at),
            )
        )


def held(connection: sa.Connection, published_by: str | None = None) -> list[Held]:
    """Return what is in quarantine, of one publisher if given, by key."""
    table = schema.quarantine
    query = table.select().order_by(table.c.name, table.c.number, table.c.architecture)
    if published_by is not None:
        query = query.where(table.c.published_by == published_by)
    return [_held(row._mapping) for row in connection.execute(query).all()]


def release(connection: sa.Connection, published_by: str) -> None:
    """Drop the rows of a publisher."""
    table = schema.quarantine
    connection.execute(table.delete().where(table.c.published_by == published_by))


def publisher(connection: sa.Connection, prefix: str) -> str:
    """Return the fingerprint of the one publisher that begins with `prefix` (colons ignored).

    Whoever ever published a version is found, trusted or not. Raises Invalid for a beginning
    that is too short or fits several, NotFound for none.
    """
    digits = prefix.strip().replace(":", "").lower()
    if len(digits) < MIN_PREFIX or len(digits) > 64 or set(digits) - set("0123456789abcdef"):
        raise Invalid(
            f"{prefix[:80]!r} is not a fingerprint: give at least {MIN_PREFIX} of its "
            "64 hexadecimal digits"
        )
    column = schema.application_version.c.published_by
    query = sa.select(column).where(column >= digits, column <= digits + "g").distinct().limit(2)
    found = list(connection.execute(query).scalars())
    if not found:
        raise NotFound(f"nothing was published by a certificate that begins with {digits}")
    if len(found) > 1:
        raise Invalid(f"several fingerprints begin with {digits}: give more digits")
    return found[0]


def _is(key: Key) -> sa.ColumnElement[bool]:
    table = schema.quarantine
    return sa.and_(
        table.c.name == key.name,
        table.c.number == key.number,
        table.c.architecture == key.architecture,
    )


def _held(row: Any) -> Held:
    return Held(
        Key(row["name"], row["number"], row["architecture"]),
        Digest.parse(row["digest"]),
        row["published_by"],
        schema.to_moment(row["at"]),
    )

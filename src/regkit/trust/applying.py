"""Making the rows of one owner exactly what it wants: the rule behind `TrustStore.apply`.

An owner, such as Juju, states everything that it wants trusted. Which rows are its own is kept
in their origin, so that it needs no memory, and can't touch what others have added. Nothing is
ever resurrected: a revocation, an expiry, win over every wish, and don't hinder the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from aar_interface import Certificate, Fingerprint, Role
from regkit.errors import Invalid
from regkit.trust.rows import (
    MANUAL,
    Change,
    Entry,
    Observer,
    entry_of,
    from_row,
    nobody,
    revocation,
    row_of,
    to_row,
)

REVOKED, EXPIRED, EARLY, UNUSABLE = "revoked", "expired", "not-yet-valid", "not-a-client"
"""Reasons of a refusal."""

_OWNER = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_ORIGIN = re.compile(r"[!-~]{1,200}", re.ASCII)
_ARCHITECTURE = re.compile(r"[a-z0-9]{1,32}", re.ASCII)


@dataclass(frozen=True)
class Wanted:
    """A certificate that an owner wants trusted.

    `origin` says where the wish comes from, such as a relation's id; `architectures` limits what
    a publisher may push (none: all). Raises Invalid for one of them that can't be.
    """

    certificate: Certificate
    role: Role
    origin: str = ""
    architectures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.origin and not _ORIGIN.fullmatch(self.origin):
            raise Invalid(
                f"{self.origin[:80]!r} is not an origin: use up to 200 printable ASCII characters"
            )
        for name in self.architectures:
            if not _ARCHITECTURE.fullmatch(name):
                raise Invalid(
                    f"{name[:80]!r} is not an architecture: write it like amd64 or arm64"
                )


@dataclass(frozen=True)
class Refusal:
    """A wanted certificate that isn't trusted: `reason` for programs, `message` for people."""

    fingerprint: Fingerprint
    reason: str
    message: str


@dataclass(frozen=True)
class Applied:
    """What became of each wish, and of the owner's rows; sorted, every wish in one of five.

    `added`, `changed`, `unchanged`: rows of the owner. `kept`: trusted by others' rows, which stay
    as they are. `refused`: not trusted. `removed`: the owner's rows that are gone, those of
    certificates that are refused now among them.
    """

    added: tuple[Fingerprint, ...]
    changed: tuple[Fingerprint, ...]
    removed: tuple[Fingerprint, ...]
    kept: tuple[Fingerprint, ...]
    unchanged: tuple[Fingerprint, ...]
    refused: tuple[Refusal, ...]


def check_owner(owner: str) -> str:
    """Return `owner` if it may be one's name. Raises Invalid."""
    if not _OWNER.fullmatch(owner):
        raise Invalid(
            f"{owner[:80]!r} is not an owner's name: use a lower-case letter, then up to 31 "
            "lower-case letters, digits and hyphens"
        )
    if owner == MANUAL:
        raise Invalid(f"{MANUAL} is what operators do by hand: give the owner another name")
    return owner


def apply(
    connection: sa.Connection,
    table: sa.Table,
    owner: str,
    wanted: Iterable[Wanted],
    now: datetime,
    *,
    for_clients: bool,
    observer: Observer = nobody,
) -> Applied:
    """Do it, within the caller's writing transaction. Nothing is written where nothing changes.

    A certificate that is wanted several times gets the first origin, and may push what any of the
    wishes lets it push. `for_clients`: refuse certificates that can't stand for a client. Raises
    Invalid for an owner's name that can't be, and for a certificate that is wanted in two roles.
    """
    wishes = _merged(check_owner(owner), wanted)
    own = own_rows(connection, table, owner)
    done: dict[str, list[Fingerprint]] = {
        "added": [], "changed": [], "kept": [], "unchanged": [],
    }  # fmt: skip
    refused: list[Refusal] = []
    for fingerprint, wish in sorted(wishes.items()):
        refusal = _refusal(connection, table, wish.certificate, now, for_clients=for_clients)
        if refusal is not None:
            refused.append(refusal)
            continue
        before = own.pop(fingerprint, None)
        if before is not None:
            after = replace(
                before, role=wish.role, origin=wish.origin, architectures=wish.architectures
            )
            if after != before:
                _update(connection, table, after)
                observer(connection, Change("changed", after, owner, before))
            done["unchanged" if after == before else "changed"].append(fingerprint)
        elif row_of(connection, table, fingerprint) is not None:
            done["kept"].append(fingerprint)
        else:
            entry = entry_of(wish.certificate, wish.role, wish.origin, wish.architectures, now)
            connection.execute(table.insert().values(to_row(entry)))
            observer(connection, Change("added", entry, owner))
            done["added"].append(fingerprint)
    for fingerprint, entry in own.items():
        connection.execute(table.delete().where(table.c.fingerprint == str(fingerprint)))
        observer(connection, Change("removed", entry, owner))
    return Applied(
        **{name: tuple(found) for name, found in done.items()},
        removed=tuple(sorted(own)),
        refused=tuple(refused),
    )


def _merged(owner: str, wanted: Iterable[Wanted]) -> dict[Fingerprint, Wanted]:
    """Return one wish per certificate, with the origin and the architectures as they are kept."""
    merged: dict[Fingerprint, Wanted] = {}
    for wish in wanted:
        fingerprint = wish.certificate.fingerprint
        first = merged.get(fingerprint)
        if first is None:
            origin = f"{owner}:{wish.origin}" if wish.origin else owner
            limits = tuple(sorted(set(wish.architectures)))
            merged[fingerprint] = replace(wish, origin=origin, architectures=limits)
            continue
        if first.role is not wish.role:
            raise Invalid(
                f"the certificate {fingerprint.short} ({wish.certificate.common_name}) is wanted "
                "as client and as publisher: it can be only one of them"
            )
        both = first.architectures and wish.architectures
        union = {*first.architectures, *wish.architectures} if both else ()
        merged[fingerprint] = replace(first, architectures=tuple(sorted(union)))
    return merged


def own_rows(connection: sa.Connection, table: sa.Table, owner: str) -> dict[Fingerprint, Entry]:
    """Return the owner's trusted rows; a revoked one is nobody's to change."""
    origin = table.c.origin
    rows = connection.execute(
        table.select().where(
            table.c.revoked.is_(None),
            sa.or_(origin == owner, origin.startswith(f"{owner}:", autoescape=True)),
        )
    )
    entries = [from_row(row._mapping) for row in rows]
    return {entry.fingerprint: entry for entry in entries}


def _refusal(
    connection: sa.Connection,
    table: sa.Table,
    certificate: Certificate,
    now: datetime,
    *,
    for_clients: bool,
) -> Refusal | None:
    fingerprint = certificate.fingerprint
    name = f"{fingerprint.short} ({certificate.common_name})"
    if when := revocation(connection, table, fingerprint, certificate.key_hash):
        return Refusal(
            fingerprint,
            REVOKED,
            f"the certificate {name} or its key was revoked on {when:%Y-%m-%d %H:%M} UTC, which "
            "can't be undone: make a new key and certificate on its machine",
        )
    if fault := certificate.fault_at(now):
        reason = EARLY if certificate.issued > now else EXPIRED
        return Refusal(
            fingerprint, reason, f"the certificate {name} {fault}: make a new one on its machine"
        )
    if for_clients and not certificate.client_usable:
        return Refusal(
            fingerprint,
            UNUSABLE,
            f"the certificate {name} can't stand for a client, as its extended key usage says: "
            "give the client's",
        )
    return None


def _update(connection: sa.Connection, table: sa.Table, entry: Entry) -> None:
    row = to_row(entry)
    connection.execute(
        table.update()
        .where(table.c.fingerprint == row["fingerprint"])
        .values({key: row[key] for key in ("role", "origin", "architectures")})
    )

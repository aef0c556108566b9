"""The tables of the management service. Rules about their rows live in the modules that own them.

Who writes what: `ams.catalogue` the applications, versions, blobs and withdrawals; `ams.sync` the
mirror of the registry, what was pushed, and the quarantine; `ams.options` and `ams.operations`
their own. `migrations/` holds the history; a test keeps both the same.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa

from regkit.leases import lease_table
from regkit.trust import trust_table

metadata = sa.MetaData()


class Moment(sa.types.TypeDecorator[datetime]):
    """An aware datetime, kept in UTC.

    SQLite has no time zones: they come back on reading. PostgreSQL gives back the session's.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        """Convert to UTC; a naive value is a fault of the program."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs a time zone")
        return value.astimezone(timezone.utc)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Give back an aware datetime in UTC."""
        if value is None or value.tzinfo is not None:
            return value and value.astimezone(timezone.utc)
        return value.replace(tzinfo=timezone.utc)


DIGEST = sa.String(140)
"""`sha256:<64 hex>` or `sha512:<128 hex>`."""
NAME = sa.String(255)
ARCHITECTURE = sa.String(32)


def _key() -> list[sa.Column[Any]]:
    """Columns of a version's key, the same everywhere: (name, number, architecture)."""
    return [
        sa.Column("name", NAME, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("architecture", ARCHITECTURE, primary_key=True),
    ]


trust = trust_table(metadata)
"""Certificates of registries and of API clients."""

lease = lease_table(metadata)
"""What one service at a time does, where several share the database."""

option = sa.Table(
    "option",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""Options set by hand that differ from their default, in their canonical text."""

managed_option = sa.Table(
    "managed_option",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("owner", sa.String(32), nullable=False),
)
"""Options that an owner such as Juju has taken charge of; they win over what is set by hand."""

application = sa.Table(
    "application",
    metadata,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("name", NAME, nullable=False, unique=True),
    sa.Column("origin", sa.String(16), nullable=False),  # local | registry
    sa.Column("vm", sa.Boolean, nullable=False),
    sa.Column("next_number", sa.Integer, nullable=False),
    sa.Column("created", Moment, nullable=False),
    sa.Column("updated", Moment, nullable=False),
    # What was set over the newest manifest without a new version (`ams.catalogue.fields`).
    sa.Column("fields", sa.JSON, nullable=False, server_default="{}"),
)

version = sa.Table(
    "version",
    metadata,
    sa.Column(
        "application_id",
        sa.String(20),
        sa.ForeignKey("application.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("architecture", ARCHITECTURE, nullable=False),
    sa.Column("digest", DIGEST, nullable=False),  # of the OCI manifest
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("published", sa.Boolean, nullable=False),
    sa.Column("manifest", sa.JSON, nullable=False),  # the parsed manifest.yaml
    sa.Column("oci_manifest", sa.LargeBinary, nullable=False),
    sa.Column("oci_config", sa.LargeBinary, nullable=False),
    sa.Column("created", Moment, nullable=False),
)

version_file = sa.Table(
    "version_file",
    metadata,
    sa.Column("application_id", sa.String(20), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("digest", DIGEST, nullable=False, index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("mode", sa.Integer, nullable=False),
    sa.ForeignKeyConstraint(
        ["application_id", "number"],
        ["version.application_id", "version.number"],
        ondelete="CASCADE",
    ),
)
"""The files of each version: what keeps a blob alive."""

retired = sa.Table(
    "retired",
    metadata,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("next_number", sa.Integer, nullable=False),
)
"""Where numbering goes on when a deleted application's name is used again.

A registry never accepts other content for a key it has seen, so numbers aren't used twice.
"""

claim = sa.Table(
    "claim",
    metadata,
    sa.Column("digest", DIGEST, primary_key=True),
    sa.Column("at", Moment, nullable=False),
)
"""Blobs that a running create or import counts on, so that no garbage collection takes them."""

doomed = sa.Table(
    "doomed",
    metadata,
    sa.Column("digest", DIGEST, primary_key=True),
    sa.Column("run", sa.String(32), nullable=False),
    sa.Column("at", Moment, nullable=False),
)
"""Blobs in a bucket that a garbage collection is about to delete, and which one: they are still
there, but whoever needs one stores it anew."""

storage = sa.Table(
    "storage",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("mark", DIGEST, nullable=False),
)
"""At most one row (id 1): the blob by which services that share the database know the store of
blobs that they share too."""

withdrawal = sa.Table(
    "withdrawal",
    metadata,
    *_key(),
    sa.Column("digest", DIGEST, nullable=False),
    sa.Column("at", Moment, nullable=False),
)
"""Local versions that must leave the registry: the only ground for deleting anything there."""

operation = sa.Table(
    "operation",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("class", sa.String(16), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("created", Moment, nullable=False),
    sa.Column("updated", Moment, nullable=False),
    sa.Column("status_code", sa.Integer, nullable=False, index=True),
    sa.Column("resources", sa.JSON, nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("may_cancel", sa.Boolean, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("unit", sa.String(64), nullable=False, server_default=""),
)

registry_state = sa.Table(
    "registry_state",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("epoch", sa.String(64), nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("checked_at", Moment),
    sa.Column("succeeded_at", Moment),
    sa.Column("error", sa.Text, nullable=False),
)
"""One row (id 1): how far the registry's change feed was read, and how the last sync went."""

registry_version = sa.Table(
    "registry_version",
    metadata,
    *_key(),
    sa.Column("digest", DIGEST, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
)
"""What the registry holds, as its feed told."""

pushed = sa.Table(
    "pushed",
    metadata,
    *_key(),
    sa.Column("digest", DIGEST, nullable=False),
    sa.Column("epoch", sa.String(64), nullable=False),
    sa.Column("at", Moment, nullable=False),
)
"""What this service has pushed, and into which epoch of the registry."""

quarantine = sa.Table(
    "quarantine",
    metadata,
    *_key(),
    sa.Column("digest", DIGEST, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("since", Moment, nullable=False),
    sa.Column("retry_at", Moment, nullable=False),
)
"""Versions that failed for a reason of their own, and when they are tried again."""

revision = sa.Table(
    "revision",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, nullable=False),
)
"""One row (id 1): a number that triggers raise with every change of `application`, `version`,
`registry_version`, `pushed`, `withdrawal` or `quarantine`, whoever makes it."""

"""The registry's tables. Their history is in `migrations/`; a test holds the two together.

Times are texts in UTC, ISO 8601 with microseconds, so that they also sort. Digests are texts as in
`regkit.oci.digest`.
"""

from __future__ import annotations

from datetime import datetime, timezone

import sqlalchemy as sa

from regkit.leases import lease_table
from regkit.trust import trust_table

metadata = sa.MetaData()

PRESENT, DELETING, DAMAGED = "present", "deleting", "damaged"
"""The states of a blob; one that isn't present counts as absent, and the next push replaces it."""

_DIGEST = sa.String(135)
_TIME = sa.String(32)
_TAG = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
"""Tags are listed in the order of their characters, whatever the database's language."""
_REPOSITORY = sa.String(512).with_variant(sa.String(512, collation="C"), "postgresql")
_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")

trust = trust_table(metadata)
lease = lease_table(metadata)

blob = sa.Table(
    "blob",
    metadata,
    sa.Column("digest", _DIGEST, primary_key=True),
    sa.Column("size", _BIG, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("touched", _TIME, nullable=False),
)

# Which blobs a repository has. `touched` is when it was last pushed, asked for by a pusher, or let
# go of by a manifest: the janitor's period begins there.
repository_blob = sa.Table(
    "repository_blob",
    metadata,
    sa.Column("repository", _REPOSITORY, primary_key=True),
    sa.Column("digest", _DIGEST, sa.ForeignKey("blob.digest"), primary_key=True, index=True),
    sa.Column("touched", _TIME, nullable=False),
)

manifest = sa.Table(
    "manifest",
    metadata,
    sa.Column("repository", _REPOSITORY, primary_key=True),
    sa.Column("digest", _DIGEST, primary_key=True),
    sa.Column("media_type", sa.String(255), nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("size", _BIG, nullable=False),
    sa.Column("subject", _DIGEST),
    sa.Column("artifact_type", sa.String(255)),
    sa.Column("annotations", sa.JSON, nullable=False),
    sa.Column("pushed_at", _TIME, nullable=False),
    sa.Index("ix_manifest_subject", "repository", "subject"),
)

# What a manifest refers to: blobs, or for an index the manifests of the same repository.
reference = sa.Table(
    "reference",
    metadata,
    sa.Column("repository", _REPOSITORY, primary_key=True),
    sa.Column("manifest", _DIGEST, primary_key=True),
    sa.Column("digest", _DIGEST, primary_key=True),
    sa.ForeignKeyConstraint(
        ["repository", "manifest"],
        ["manifest.repository", "manifest.digest"],
        name="fk_reference_manifest",
        ondelete="CASCADE",
    ),
    sa.Index("ix_reference_digest", "repository", "digest"),
)

tag = sa.Table(
    "tag",
    metadata,
    sa.Column("repository", _REPOSITORY, primary_key=True),
    sa.Column("name", _TAG, primary_key=True),
    sa.Column("digest", _DIGEST, nullable=False),
    sa.ForeignKeyConstraint(
        ["repository", "digest"],
        ["manifest.repository", "manifest.digest"],
        name="fk_tag_manifest",
        ondelete="CASCADE",
    ),
    sa.Index("ix_tag_digest", "repository", "digest"),
)

# A row stays for ever: it is the memory of what a key once meant.
application_version = sa.Table(
    "application_version",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("number", _BIG, primary_key=True, autoincrement=False),
    sa.Column("architecture", sa.String(32), primary_key=True),
    sa.Column("digest", _DIGEST, nullable=False),
    sa.Column("size", _BIG, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("published_by", sa.String(64), nullable=False),
    sa.Column("published_at", _TIME, nullable=False),
    sa.Column("removed_at", _TIME),
)

feed = sa.Table(
    "feed",
    metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1", name="one_row"), primary_key=True),
    sa.Column("epoch", sa.String(32), nullable=False),
    sa.Column("seq", _BIG, nullable=False),
)

change = sa.Table(
    "change",
    metadata,
    sa.Column("seq", _BIG, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("number", _BIG, nullable=False),
    sa.Column("architecture", sa.String(32), nullable=False),
    sa.Column("digest", _DIGEST, nullable=False),
    sa.Column("size", _BIG, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("at", _TIME, nullable=False),
    sa.Column("by", sa.String(64), nullable=False),
)

# What was withdrawn with its publisher: the same content isn't taken again until it is released.
quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("number", _BIG, primary_key=True, autoincrement=False),
    sa.Column("architecture", sa.String(32), primary_key=True),
    sa.Column("digest", _DIGEST, nullable=False),
    sa.Column("published_by", sa.String(64), nullable=False),
    sa.Column("at", _TIME, nullable=False),
)

# Rows are only ever added: the migration's triggers refuse everything else.
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", _BIG, primary_key=True),
    sa.Column("at", _TIME, nullable=False, index=True),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("by", sa.String(64), nullable=False, index=True),
    sa.Column("subject", sa.String(1024), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("count", _BIG, nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
)


# Which registry it is; see `aar.deployment`.
deployment = sa.Table(
    "deployment",
    metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1", name="one_row"), primary_key=True),
    sa.Column("identity", sa.String(32), nullable=False),
)


def to_text(moment: datetime) -> str:
    """Return a time (aware) as the tables keep it."""
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")


def now_text() -> str:
    """Return the present time as the tables keep it."""
    return to_text(datetime.now(timezone.utc))


def to_moment(text: str) -> datetime:
    """Return a time of the tables, aware."""
    return datetime.fromisoformat(text)

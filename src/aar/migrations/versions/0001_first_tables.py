"""The tables of the first release."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TAG = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
_REPOSITORY = sa.String(512).with_variant(sa.String(512, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "application_version",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("number", _BIG, autoincrement=False, nullable=False),
        sa.Column("architecture", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("size", _BIG, nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("published_by", sa.String(length=64), nullable=False),
        sa.Column("published_at", sa.String(length=32), nullable=False),
        sa.Column("removed_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("name", "number", "architecture"),
    )
    op.create_table(
        "blob",
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("size", _BIG, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("touched", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "change",
        sa.Column("seq", _BIG, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("number", _BIG, nullable=False),
        sa.Column("architecture", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("size", _BIG, nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    feed = op.create_table(
        "feed",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.String(length=32), nullable=False),
        sa.Column("seq", _BIG, nullable=False),
        sa.CheckConstraint("id = 1", name="one_row"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "manifest",
        sa.Column("repository", _REPOSITORY, nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("media_type", sa.String(length=255), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("size", _BIG, nullable=False),
        sa.Column("subject", sa.String(length=135), nullable=True),
        sa.Column("artifact_type", sa.String(length=255), nullable=True),
        sa.Column("annotations", sa.JSON(), nullable=False),
        sa.Column("pushed_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("repository", "digest"),
    )
    op.create_index("ix_manifest_subject", "manifest", ["repository", "subject"], unique=False)
    op.create_table(
        "trust",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("common_name", sa.String(length=255), nullable=False),
        sa.Column("issued", sa.String(length=32), nullable=False),
        sa.Column("expires", sa.String(length=32), nullable=False),
        sa.Column("added", sa.String(length=32), nullable=False),
        sa.Column("last_used", sa.String(length=32), nullable=True),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("revoked", sa.String(length=32), nullable=True),
        sa.Column("architectures", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint"),
    )
    op.create_index(("ix_trust_key_hash"), "trust", ["key_hash"], unique=False)
    op.create_table(
        "reference",
        sa.Column("repository", _REPOSITORY, nullable=False),
        sa.Column("manifest", sa.String(length=135), nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository", "manifest"],
            ["manifest.repository", "manifest.digest"],
            name="fk_reference_manifest",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository", "manifest", "digest"),
    )
    op.create_index("ix_reference_digest", "reference", ["repository", "digest"], unique=False)
    op.create_table(
        "repository_blob",
        sa.Column("repository", _REPOSITORY, nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("touched", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["blob.digest"]),
        sa.PrimaryKeyConstraint("repository", "digest"),
    )
    op.create_index(("ix_repository_blob_digest"), "repository_blob", ["digest"], unique=False)
    op.create_table(
        "tag",
        sa.Column("repository", _REPOSITORY, nullable=False),
        sa.Column("name", _TAG, nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository", "digest"],
            ["manifest.repository", "manifest.digest"],
            name="fk_tag_manifest",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository", "name"),
    )
    op.create_index("ix_tag_digest", "tag", ["repository", "digest"], unique=False)
    op.bulk_insert(feed, [{"id": 1, "epoch": secrets.token_hex(16), "seq": 0}])

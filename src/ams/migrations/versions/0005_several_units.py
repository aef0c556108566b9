"""Several services on one database: leases, and whose an operation is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "lease",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("done", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column(
        "operation",
        sa.Column("unit", sa.String(length=64), nullable=False, server_default=""),
    )

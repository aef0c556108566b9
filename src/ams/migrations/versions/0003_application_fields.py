"""Fields of an application that were set beside its versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "application", sa.Column("fields", sa.JSON(), nullable=False, server_default="{}")
    )

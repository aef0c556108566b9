"""A number that changes with every row that a sync's plan is made from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WATCHED = ("application", "version", "registry_version", "pushed", "withdrawal", "quarantine")

RAISE = "UPDATE revision SET number = number + 1"


def upgrade() -> None:
    table = op.create_table(
        "revision",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(table, [{"id": 1, "number": 0}])
    if op.get_bind().dialect.name == "sqlite":
        _watch_rows()
    else:
        _watch_statements()


def _watch_rows() -> None:
    """Triggers rather than code: no writer, of whatever process, can forget it."""
    for watched in WATCHED:
        for event in ("insert", "update", "delete"):
            when = f"AFTER {event.upper()} ON {watched}"
            op.execute(f"CREATE TRIGGER revise_{watched}_{event} {when} BEGIN {RAISE}; END")


def _watch_statements() -> None:
    """The same for PostgreSQL, which calls functions, and once for each statement."""
    op.execute(
        "CREATE FUNCTION revise() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {RAISE}; RETURN NULL; END $$"
    )
    for watched in WATCHED:
        op.execute(
            f"CREATE TRIGGER revise_{watched} AFTER INSERT OR UPDATE OR DELETE ON {watched} "
            "FOR EACH STATEMENT EXECUTE FUNCTION revise()"
        )

"""Alembic's entry to the history of `ams.schema`."""

from regkit.migrations import run

run()

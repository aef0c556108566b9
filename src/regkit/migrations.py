"""The `env.py` of both services' Alembic scripts.

A service's `migrations/env.py` calls `run()` and nothing else; its `versions/` hold the history
of its tables.
"""

from __future__ import annotations

from alembic import context


def run() -> None:
    """Run the scripts on the connection that `Database.migrate` passes, in its transaction."""
    connection = context.config.attributes["connection"]
    # Batch mode: SQLite alters a table by copying it.
    context.configure(connection=connection, render_as_batch=True, transactional_ddl=False)
    context.run_migrations()

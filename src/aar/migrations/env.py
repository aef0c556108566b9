"""Entry point of Alembic; the work is in `regkit.migrations`."""

from regkit import migrations

migrations.run()

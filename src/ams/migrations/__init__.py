"""The history of the tables in `ams.schema`, for Alembic."""

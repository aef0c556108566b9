"""The history of the registry's tables, run by `regkit.database.Database.migrate`."""

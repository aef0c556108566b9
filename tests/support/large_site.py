"""A database with many applications: written as rows, since uploading them would take an hour."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from ams import schema
from regkit.database import Database

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def fill(database: Database, count: int, versions: int = 3) -> None:
    """Add `count` applications of `versions` each; every third belongs to the registry.

    `app-00003` has the tags `game` and `t3`; ten tags are shared out evenly.
    """
    with database.write() as connection:
        connection.execute(
            schema.application.insert(),
            [
                {
                    "id": f"{index:020}",
                    "name": f"app-{index:05}",
                    "origin": "local" if index % 3 else "registry",
                    "vm": index % 4 == 0,
                    "next_number": versions,
                    "created": NOW,
                    "updated": NOW,
                    "fields": {"tags": ["set"]} if index % 100 == 99 else {},
                }
                for index in range(count)
            ],
        )
        connection.execute(
            schema.version.insert(),
            [
                {
                    "application_id": f"{index:020}",
                    "number": number,
                    "architecture": "amd64",
                    "digest": f"sha256:{index * versions + number:064x}",
                    "size": 100,
                    "published": number > 0,
                    "manifest": manifest(index),
                    "oci_manifest": b"x" * 2000,
                    "oci_config": b"y" * 1000,
                    "created": NOW,
                }
                for index in range(count)
                for number in range(versions)
            ],
        )


def manifest(index: int) -> dict[str, Any]:
    """Return a manifest of the usual size."""
    return {
        "name": f"app-{index:05}",
        "version": "1.0",
        "instance-type": "a4.3" if index % 2 else "a2.3",
        "tags": ["game", f"t{index % 10}"],
        "addons": ["ssh"],
        "boot-package": f"com.example.app{index}",
        "services": [{"name": "http", "port": 80, "protocols": ["tcp"]}],
        "resources": {"cpus": 2, "memory": "2GB"},
        "hooks": {"timeout": "5m"},
    }

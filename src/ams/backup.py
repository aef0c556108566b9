"""The management service's state as `regkit.upkeep` backs it up and restores it.

What outlives a restore, beside revocations: where the numbering of each application's versions
goes on. A registry never accepts other content for a key that it has seen, so a number that was
given after the backup isn't given again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from ams import schema
from ams.service import MIGRATIONS
from ams.settings import (
    CONFIG_FILE,
    REGISTRY_CERTIFICATE,
    REGISTRY_KEY,
    SERVER_CERTIFICATE,
    SERVER_KEY,
    Settings,
)
from regkit.oci.digest import Digest
from regkit.storage import open_blobs
from regkit.upkeep.scrub import Wanted
from regkit.upkeep.state import Adoption, State, database_file


def state(home: Path, settings: Settings) -> State:
    """Return the state under the root `home`; the folders of blobs are made."""
    (home / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    return State(
        service="ams",
        home=home,
        database=database_file(settings.database_url(home)),
        scripts=MIGRATIONS,
        configuration=CONFIG_FILE,
        keys=(REGISTRY_CERTIFICATE, REGISTRY_KEY, SERVER_CERTIFICATE, SERVER_KEY),
        blobs=open_blobs(settings.storage, settings.blob_root(home)),
        trust=schema.trust,
        wanted=_wanted,
        contents=_contents,
        adopt=_adopt,
    )


def _wanted(connection: sa.Connection) -> Iterator[Wanted]:
    file = schema.version_file
    query = sa.select(file.c.digest, sa.func.max(file.c.size).label("size"))
    for row in connection.execute(query.group_by(file.c.digest).order_by(file.c.digest)):
        yield Wanted(Digest.parse(row.digest), row.size)


def _contents(connection: sa.Connection) -> str:
    found = []
    for table, what in (
        (schema.application, "applications"),
        (schema.trust, "certificates"),
        (schema.option, "options"),
    ):
        if not sa.inspect(connection).has_table(table.name):
            continue
        count = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        if count:
            found.append(f"{count} {what}")
    return ", ".join(found)


def _adopt(adoption: Adoption) -> list[str]:
    if adoption.old is None:
        return []
    new, application, retired = adoption.new, schema.application, schema.retired
    numbers = _numbers(adoption.old)
    here = {
        row.name: row.next_number
        for row in new.execute(sa.select(application.c.name, application.c.next_number))
    }
    gone = {row.name: row.next_number for row in new.execute(retired.select())}
    for name, number in sorted(numbers.items()):
        if name in here:
            if here[name] < number:
                new.execute(
                    application.update()
                    .where(application.c.name == name)
                    .values(next_number=number)
                )
        elif gone.get(name, 0) < number:
            new.execute(retired.delete().where(retired.c.name == name))
            new.execute(retired.insert().values(name=name, next_number=number))
    return []


def _numbers(connection: sa.Connection) -> dict[str, int]:
    """Return where the numbering of every local application goes on, also of deleted ones."""
    application, retired = schema.application, schema.retired
    local = sa.select(application.c.name, application.c.next_number).where(
        application.c.origin == "local"
    )
    found: dict[str, int] = {}
    for query in (sa.select(retired.c.name, retired.c.next_number), local):
        for row in connection.execute(query):
            found[row.name] = max(found.get(row.name, 0), row.next_number)
    return found

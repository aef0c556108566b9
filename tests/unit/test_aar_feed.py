from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import IntegrityError

from aar import feed, schema
from aar.feed import Cursor, CursorAhead, EpochChanged, Feed, NewChange
from regkit.database import Database
from regkit.errors import Invalid
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from support.postgresql import Databases

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone.utc)


@pytest.fixture
def database(tmp_path: Path, databases: Databases) -> Iterator[Database]:
    database = databases.open(tmp_path / "aar.db", "aar:migrations")
    yield database
    database.close()


def change(number: int) -> NewChange:
    key = Key("candy", number, "amd64")
    return NewChange("published", key, Digest.of(b"x"), 7, ("a", "b"), NOW, "f" * 64)


def append(database: Database, *numbers: int) -> None:
    with database.write() as connection:
        feed.append(connection, [change(number) for number in numbers])


def test_the_migrations_make_exactly_the_schema(database: Database):
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_the_checks_are_in_the_migrated_schema_too(
    database: Database, tmp_path: Path, databases: Databases
):
    other = databases.open(tmp_path / "other.db")
    schema.metadata.create_all(other.engine)
    for table in schema.metadata.tables:
        checks = [sa.inspect(db.engine).get_check_constraints(table) for db in (database, other)]
        assert checks[0] == checks[1]
    other.close()


def test_migrating_again_changes_nothing(database: Database):
    append(database, 0)
    head = Feed(database).head()
    database.migrate("aar:migrations")
    assert Feed(database).head() == head


def test_every_registry_begins_with_an_epoch_of_its_own(
    database: Database, tmp_path: Path, databases: Databases
):
    other = databases.open(tmp_path / "other.db")  # not copied from a template
    other.migrate("aar:migrations")
    heads = [Feed(database).head(), Feed(other).head()]
    other.close()
    assert heads[0].epoch != heads[1].epoch
    assert [head.seq for head in heads] == [0, 0]
    assert all(Cursor.parse(str(head)) == head for head in heads)


def test_changes_come_back_as_they_were_appended(database: Database):
    append(database, 0, 1)
    append(database, 2)
    page = Feed(database).read()
    assert [found.seq for found in page.changes] == [1, 2, 3]
    assert [found.key.number for found in page.changes] == [0, 1, 2]
    first = page.changes[0]
    assert (first.kind, first.digest, first.size, first.tags, first.at, first.by) == (
        "published", Digest.of(b"x"), 7, ("a", "b"), NOW, "f" * 64
    )  # fmt: skip
    assert page.cursor == page.head == Feed(database).head()


def test_reading_on_from_a_cursor_misses_and_repeats_nothing(database: Database):
    append(database, *range(5))
    reader, seen, cursor = Feed(database), [], None
    while True:
        page = reader.read(cursor, limit=2)
        if not page.changes:
            break
        seen += [found.seq for found in page.changes]
        cursor = page.cursor
        assert page.head.seq == 5
    assert seen == [1, 2, 3, 4, 5]
    assert cursor == reader.head()


def test_nothing_new_is_a_quiet_outcome(database: Database):
    append(database, 0)
    head = Feed(database).head()
    page = Feed(database).read(head)
    assert page == feed.Page(head, head, ())


def test_a_rolled_back_change_leaves_no_gap(database: Database):
    append(database, 0)
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        feed.append(connection, [change(1)])
        raise ZeroDivisionError
    append(database, 2)
    assert [found.key.number for found in Feed(database).read().changes] == [0, 2]
    assert Feed(database).head().seq == 2


def test_appending_nothing_takes_no_number(database: Database):
    append(database)
    assert Feed(database).head().seq == 0


def test_a_cursor_of_another_epoch_or_beyond_the_head_is_told_apart(database: Database):
    append(database, 0)
    head = Feed(database).head()
    with pytest.raises(CursorAhead) as ahead:
        Feed(database).read(Cursor(head.epoch, 2))
    assert (ahead.value.status, ahead.value.head) == (409, head)
    with pytest.raises(EpochChanged) as other:
        Feed(database).read(Cursor("0" * 32, 2))
    assert (other.value.status, other.value.head) == (410, head)


def test_a_new_epoch_keeps_the_changes_and_refuses_old_cursors(database: Database):
    append(database, 0)
    old = Feed(database).head()
    with database.write() as connection:
        feed.rotate(connection)
        new = feed.head_of(connection)
    assert new.epoch != old.epoch
    assert new == Feed(database).head()
    with pytest.raises(EpochChanged):
        Feed(database).read(old)
    assert len(Feed(database).read().changes) == 1


def test_a_page_has_a_limit_even_if_more_is_asked_for(database: Database):
    append(database, *range(feed.MAX_LIMIT + 1))
    assert len(Feed(database).read(limit=10**6).changes) == feed.MAX_LIMIT
    with pytest.raises(Invalid, match="limit"):
        Feed(database).read(limit=0)


@pytest.mark.parametrize(
    "text", ["", ":", "x:1", "0" * 32, f"{'0' * 32}:", f"{'0' * 32}:-1", f"{'0' * 32}:1 ",
             f"{'0' * 32}:{'9' * 19}", f"{'G' * 32}:1", f"{'0' * 32}:\u0661"]
)  # fmt: skip
def test_what_is_no_cursor(text: str):
    with pytest.raises(Invalid, match="not a cursor"):
        Cursor.parse(text)


def test_there_is_one_row_of_state(database: Database):
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(schema.feed.insert().values(id=2, epoch="x", seq=0))

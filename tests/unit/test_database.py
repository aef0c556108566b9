"""Transactions, the version counter, migrations, and what an operator can mend, on both engines.

What only PostgreSQL has is in tests/functional/test_postgresql.py.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from regkit.database import Database
from regkit.database import sqlite as module
from regkit.errors import Invalid, NoSpace, Unavailable
from support.postgresql import Databases, settled


def with_tables(database: Database) -> Database:
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE item (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql(
            "CREATE TABLE part (item INTEGER NOT NULL REFERENCES item (id))"
        )
    return database


@pytest.fixture
def database(tmp_path: Path, databases: Databases) -> Iterator[Database]:
    with closing(databases.open(tmp_path / "deep" / "er" / "test.db")) as opened:
        yield with_tables(opened)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/test.db")) as opened:
        yield with_tables(opened)


def put(database: Database, number: int) -> None:
    with database.write() as connection:
        connection.execute(sa.text("INSERT INTO item VALUES (:number)"), {"number": number})


def other_version(database: Database, than: int) -> int:
    """Wait until the version isn't `than` any more."""
    deadline = time.monotonic() + 20
    while database.version() == than:
        assert time.monotonic() < deadline, "the version didn't change"
        time.sleep(0.005)
    return database.version()


def items(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.exec_driver_sql("SELECT id FROM item ORDER BY id").scalars())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "is not a URL"),
        ("mysql://host/name", "'mysql' is not supported"),
        ("sqlite://", "needs a file"),
    ],
)
def test_bad_url(url: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        Database(url)


def test_a_commit_survives_a_power_cut(sqlite: Database) -> None:
    with sqlite.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_references_are_checked(database: Database) -> None:
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.exec_driver_sql("INSERT INTO part VALUES (404)")


def test_an_error_rolls_everything_back(database: Database) -> None:
    put(database, 1)
    with pytest.raises(RuntimeError, match="halfway"), database.write() as connection:
        connection.exec_driver_sql("INSERT INTO item VALUES (2)")
        raise RuntimeError("halfway")
    assert items(database) == [1]


def test_a_reader_sees_one_snapshot(database: Database) -> None:
    with database.read() as connection:
        count = sa.text("SELECT count(*) FROM item")
        assert connection.execute(count).scalar() == 0
        put(database, 1)
        assert connection.execute(count).scalar() == 0
    assert items(database) == [1]


def test_version_changes_with_every_commit_of_anyone(
    database: Database, databases: Databases, tmp_path: Path
) -> None:
    before = settled(database)
    assert items(database) == []
    assert database.version() == before
    put(database, 1)
    after_own = database.version()
    assert after_own != before
    after_own = settled(database)
    with closing(databases.open(tmp_path / "deep" / "er" / "test.db")) as other:
        put(other, 2)
        if not database.shared:
            assert database.version() != after_own
        other_version(database, after_own)
    assert items(database) == [1, 2]


@pytest.mark.parametrize("scopes", [(), ("one",), ("other", "one")])
def test_read_then_write_in_parallel_loses_no_update(
    database: Database, scopes: tuple[str, ...]
) -> None:
    put(database, 0)
    start = threading.Barrier(4)

    def count_up() -> None:
        start.wait(10)
        for _ in range(5):
            with database.write(*scopes) as connection:
                last = connection.exec_driver_sql("SELECT max(id) FROM item").scalar_one()
                connection.exec_driver_sql(f"INSERT INTO item VALUES ({last + 1})")

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert items(database) == list(range(21))


def test_a_held_lock_is_reported_as_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_MS", 1)
    path = tmp_path / "busy.db"
    with (
        closing(Database(f"sqlite:///{path}")) as database,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        put_table = "CREATE TABLE item (id INTEGER)"
        with database.write() as connection:
            connection.exec_driver_sql(put_table)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="is busy: try again"), database.write():
            pytest.fail("two writers at once")
        other.execute("ROLLBACK")
        put(database, 1)
        assert items(database) == [1]


def test_a_full_disk_is_reported_and_nothing_is_kept(sqlite: Database) -> None:
    database = sqlite

    def fill() -> None:
        with database.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            connection.exec_driver_sql("CREATE TABLE big (content BLOB)")
            connection.exec_driver_sql("INSERT INTO big VALUES (zeroblob(1000000))")

    with pytest.raises(NoSpace, match="is full: free some space"):
        fill()
    with database.read() as connection:
        assert "big" not in sa.inspect(connection).get_table_names()


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    with (
        closing(Database(f"sqlite:///{tmp_path}/folder.db")) as database,
        pytest.raises(Unavailable, match="check the owner"),
        database.read(),
    ):
        pytest.fail("a folder was opened as a database")


@pytest.mark.parametrize("scripts", ["aar:migrations", "ams:migrations"])
def test_migrating_again_changes_nothing(
    tmp_path: Path, databases: Databases, scripts: str
) -> None:
    with closing(databases.open(tmp_path / "new.db")) as database:
        database.migrate(scripts)
        with database.read() as connection:
            tables = sorted(sa.inspect(connection).get_table_names())
        version = settled(database)
        database.migrate(scripts)
        assert database.version() == version
    assert {"alembic_version", "trust"} <= set(tables)


def test_starting_together_migrates_once(tmp_path: Path, databases: Databases) -> None:
    opened = [databases.open(tmp_path / "new.db") for _ in range(3)]
    start, faults = threading.Barrier(3), list[Exception]()

    def migrate(database: Database) -> None:
        start.wait(10)
        try:
            database.migrate("aar:migrations")
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=migrate, args=(database,)) for database in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with opened[0].read() as connection:
        epochs = connection.execute(sa.text("SELECT count(*) FROM feed")).scalar()
    for database in opened:
        database.close()
    assert (faults, epochs) == ([], 1)


def test_a_newer_schema_is_left_alone(tmp_path: Path, databases: Databases) -> None:
    with closing(databases.open(tmp_path / "new.db", "aar:migrations")) as database:
        with database.write() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(Invalid, match="newer version"):
            database.migrate("aar:migrations")


def test_close_may_be_followed_by_use(database: Database) -> None:
    put(database, 1)
    database.version()
    database.close()
    assert items(database) == [1]

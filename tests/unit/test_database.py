"""Transactions, the version counter, migrations, and what an operator can mend."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from regkit import database as module
from regkit.database import Database
from regkit.errors import Invalid, NoSpace, Unavailable


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/deep/er/test.db")) as opened:
        with opened.write() as connection:
            connection.exec_driver_sql("CREATE TABLE item (id INTEGER PRIMARY KEY)")
            connection.exec_driver_sql(
                "CREATE TABLE part (item INTEGER NOT NULL REFERENCES item (id))"
            )
        yield opened


def put(database: Database, number: int) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO item VALUES (?)", (number,))


def items(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.exec_driver_sql("SELECT id FROM item ORDER BY id").scalars())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "is not a URL"),
        ("mysql://host/name", "'mysql' is not supported"),
        ("sqlite://", "is not supported"),
    ],
)
def test_bad_url(url: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        Database(url)


def test_a_commit_survives_a_power_cut(database: Database) -> None:
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
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


def test_version_changes_with_every_commit_of_anyone(database: Database) -> None:
    before = database.version()
    assert items(database) == []
    assert database.version() == before
    put(database, 1)
    after_own = database.version()
    assert after_own != before
    with closing(sqlite3.connect(database.path)) as other, other:
        other.execute("INSERT INTO item VALUES (2)")
    assert database.version() != after_own


def test_read_then_write_in_parallel_loses_no_update(database: Database) -> None:
    put(database, 0)
    start = threading.Barrier(4)

    def count_up() -> None:
        start.wait(10)
        for _ in range(5):
            with database.write() as connection:
                last = connection.exec_driver_sql("SELECT max(id) FROM item").scalar_one()
                connection.exec_driver_sql("INSERT INTO item VALUES (?)", (last + 1,))

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


def test_a_full_disk_is_reported_and_nothing_is_kept(database: Database) -> None:
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
def test_migrating_again_changes_nothing(tmp_path: Path, scripts: str) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/new.db")) as database:
        database.migrate(scripts)
        with database.read() as connection:
            tables = sorted(sa.inspect(connection).get_table_names())
        version = database.version()
        database.migrate(scripts)
        assert database.version() == version
    assert {"alembic_version", "trust"} <= set(tables)


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/new.db")) as database:
        database.migrate("aar:migrations")
        with database.write() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(Invalid, match="newer version"):
            database.migrate("aar:migrations")


def test_close_may_be_followed_by_use(database: Database) -> None:
    put(database, 1)
    database.version()
    database.close()
    assert items(database) == [1]

"""Surveys: nothing that matters is left unread, and no plan outlives what it was made from."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from ams import schema
from ams.sync.plan import (
    PlanInput,
    Pushed,
    Quarantined,
    RemoteVersion,
    SiteVersion,
    Snapshot,
    plan,
)
from ams.sync.survey import NAMES_AT_ONCE, Question, Surveyor
from ams.sync.view import CARRIED
from regkit.database import Database
from regkit.oci.application import Key
from regkit.oci.digest import Digest

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
EPOCH = "e1"
DIGESTS = [Digest.of(bytes([number])) for number in range(3)]
PULL = Question("pull", frozenset())


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """An empty database: a copy is quicker than migrating one for each test."""
    path = tmp_path_factory.mktemp("template") / "ams.db"
    database = Database(f"sqlite:///{path}")
    database.migrate("ams:migrations")
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path


@pytest.fixture
def database(tmp_path, template):
    shutil.copyfile(template, tmp_path / "ams.db")
    database = Database(f"sqlite:///{tmp_path}/ams.db")
    yield database
    database.close()


@pytest.fixture
def surveyor(database):
    return Surveyor(database, "amd64")


class State:
    """Both sides as values, and written into a database."""

    def __init__(self) -> None:
        self.remote: dict[Key, RemoteVersion] = {}
        self.local: list[SiteVersion] = []
        self.pushed: dict[Key, Pushed] = {}
        self.withdrawals: dict[Key, Digest] = {}
        self.quarantine: dict[Key, Quarantined] = {}

    @classmethod
    def at_random(cls, chance: random.Random) -> State:
        state = cls()
        for name in [f"app{number}" for number in range(chance.randint(0, 30))]:
            imported = chance.random() < 0.6
            for number in range(chance.randint(0, 3)):
                key = Key(name, number, chance.choice(["amd64", "amd64", "arm64"]))
                digest = chance.choice(DIGESTS)
                other = digest if chance.random() < 0.8 else chance.choice(DIGESTS)
                if chance.random() < 0.8:
                    tags = tuple(chance.sample(["sweet", "salty"], chance.randint(0, 2)))
                    carried = chance.random() < 0.1
                    state.remote[key] = RemoteVersion(key, digest, 1, tags, carried=carried)
                if chance.random() < 0.8:
                    published = imported or chance.random() < 0.8
                    state.local.append(SiteVersion(key, other, published, imported))
                if chance.random() < 0.6:
                    state.pushed[key] = Pushed(other, chance.choice([EPOCH, EPOCH, "e0", ""]))
                if chance.random() < 0.1:
                    state.withdrawals[key] = other
                if chance.random() < 0.1:
                    due = NOW + timedelta(minutes=chance.choice([-1, 1]))
                    state.quarantine[key] = Quarantined(other, "bad", 1, due)
        return state

    def write(self, database: Database) -> None:
        with database.write() as connection:
            connection.execute(
                schema.registry_state.insert().values(
                    id=1, fingerprint="ab" * 32, epoch=EPOCH, seq=9, error=""
                )
            )
            for version in self.remote.values():
                _insert(
                    connection,
                    schema.registry_version,
                    version.key,
                    digest=str(version.digest),
                    size=version.size,
                    tags=list(version.tags),
                    seq=CARRIED if version.carried else 9,
                )
            names = {version.key.name: version.imported for version in self.local}
            for name, imported in names.items():
                connection.execute(
                    schema.application.insert().values(
                        id=name,
                        name=name,
                        origin="registry" if imported else "local",
                        vm=False,
                        next_number=9,
                        created=NOW,
                        updated=NOW,
                    )
                )
            for version in self.local:
                _add_version(connection, version)
            for key, record in self.pushed.items():
                digest = str(record.digest)
                _insert(connection, schema.pushed, key, digest=digest, epoch=record.epoch, at=NOW)
            for key, digest in self.withdrawals.items():
                _insert(connection, schema.withdrawal, key, digest=str(digest), at=NOW)
            for key, entry in self.quarantine.items():
                _insert(
                    connection,
                    schema.quarantine,
                    key,
                    digest=str(entry.digest),
                    reason=entry.reason,
                    attempts=1,
                    since=NOW,
                    retry_at=entry.retry_at,
                )

    def given(self, question: Question) -> PlanInput:
        """Everything, as a plan without a survey would have it."""
        return PlanInput(
            mode=question.mode,
            architecture="amd64",
            filter=question.filter,
            remote=Snapshot(EPOCH, 9, self.remote),
            local=self.local,
            pushed=self.pushed,
            withdrawals=self.withdrawals,
            quarantine={} if question.retry else self.quarantine,
            allow_deletions=question.allow_deletions,
            now=NOW,
            only=question.only,
        )

    @property
    def stale(self) -> set[Key]:
        alive = {(key, v.digest) for key, v in self.remote.items() if not v.carried}
        alive |= {(version.key, version.digest) for version in self.local}
        return {key for key, e in self.quarantine.items() if (key, e.digest) not in alive}


def _insert(connection: sa.Connection, table: sa.Table, key: Key, **values: object) -> None:
    connection.execute(
        table.insert().values(
            name=key.name, number=key.number, architecture=key.architecture, **values
        )
    )


def _add_version(connection: sa.Connection, version: SiteVersion) -> None:
    connection.execute(
        schema.version.insert().values(
            application_id=version.key.name,
            number=version.key.number,
            architecture=version.key.architecture,
            digest=str(version.digest),
            size=1,
            published=version.published,
            manifest={},
            oci_manifest=b"",
            oci_config=b"",
            created=NOW,
        )
    )


@pytest.mark.parametrize("seed", range(24))
def test_a_survey_leaves_out_nothing_that_a_plan_needs(database, surveyor, seed):
    chance = random.Random(seed)
    state = State.at_random(chance)
    state.write(database)
    for mode in ("pull", "push", "manual"):
        for flags in range(4):
            question = Question(
                mode,
                frozenset({"sweet"}) if seed % 2 else frozenset(),
                only="app1" if seed % 5 == 0 else None,
                allow_deletions=bool(flags & 1),
                retry=bool(flags & 2),
            )
            found = surveyor.survey(question, NOW)
            wanted = plan(state.given(question))
            for kind in ("steps", "held", "conflicts", "notes", "found", "settled", "forgotten"):
                assert sorted(map(str, getattr(found.plan, kind))) == sorted(
                    map(str, getattr(wanted, kind))
                ), (mode, flags, kind)
            assert set(found.stale) == state.stale


def test_before_the_registry_was_read_there_is_no_survey(surveyor):
    assert surveyor.survey(PULL, NOW) is None


def test_more_applications_than_fit_into_one_query(database, surveyor):
    state = State()
    for number in range(NAMES_AT_ONCE + 1):
        key = Key(f"app{number}", 0, "amd64")
        state.remote[key] = RemoteVersion(key, DIGESTS[0], 1, ())
    state.write(database)
    found = surveyor.survey(PULL, NOW)
    assert len(found.plan.steps) == NAMES_AT_ONCE + 1
    assert surveyor.counts().registry_applications == NAMES_AT_ONCE + 1


# Remembered plans


@pytest.fixture
def quiet(database):
    """One version of every kind, and nothing to do."""
    state = State()
    for name, imported in (("theirs", True), ("ours", False)):
        key = Key(name, 0, "amd64")
        state.remote[key] = RemoteVersion(key, DIGESTS[0], 1, ())
        state.local.append(SiteVersion(key, DIGESTS[0], True, imported))
    del state.remote[Key("ours", 0, "amd64")]
    state.write(database)
    return state


CHANGES = {
    "application": "UPDATE application SET origin = 'local' WHERE name = 'theirs'",
    "application gone": "DELETE FROM application WHERE name = 'theirs'",
    "version": "UPDATE version SET published = 0 WHERE application_id = 'ours'",
    "version gone": "DELETE FROM version WHERE application_id = 'theirs'",
    "mirror": "UPDATE registry_version SET tags = '[]'",
    "mirror gone": "DELETE FROM registry_version",
    "mirrored": "INSERT INTO registry_version SELECT 'new', 1, architecture, digest, size, tags,"
    " seq FROM registry_version",
    "pushed": "INSERT INTO pushed VALUES ('ours', 0, 'amd64', 'sha256:{}', 'e1', '2026-01-01')",
    "withdrawal": "INSERT INTO withdrawal VALUES ('ours', 0, 'amd64', 'sha256:{}', '2026-01-01')",
    "quarantine": "INSERT INTO quarantine VALUES ('theirs', 0, 'amd64', 'sha256:{}', 'bad', 1,"
    " '2026-01-01', '2026-01-01')",
    "feed": "UPDATE registry_state SET seq = 10",
    "history": "UPDATE registry_state SET epoch = 'e2'",
}


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("change", list(CHANGES))
def test_every_change_by_whatever_process_ends_a_remembered_plan(
    database, surveyor, tmp_path, change
):
    first = surveyor.survey(PULL, NOW)
    assert not first.plan.steps
    assert surveyor.survey(PULL, NOW + timedelta(days=400)) is first
    with closing(sqlite3.connect(tmp_path / "ams.db")) as stranger, stranger:
        stranger.execute("PRAGMA foreign_keys=ON")
        stranger.execute(
            CHANGES[change].format("0" * 64).replace("2026-01-01'", "2026-01-01 00:00:00.000000'")
        )
    assert surveyor.survey(PULL, NOW) is not first


@pytest.mark.usefixtures("quiet")
def test_another_question_has_another_plan(surveyor):
    first = surveyor.survey(PULL, NOW)
    for other in (
        replace(PULL, mode="push"),
        replace(PULL, filter=frozenset({"sweet"})),
        replace(PULL, only="theirs"),
        replace(PULL, allow_deletions=True),
        replace(PULL, retry=True),
    ):
        assert surveyor.survey(other, NOW) is not first
    assert surveyor.survey(replace(PULL, mode="push"), NOW).plan.steps


@pytest.mark.usefixtures("quiet")
def test_what_has_nothing_to_do_with_a_plan_leaves_it(database, surveyor):
    first = surveyor.survey(PULL, NOW)
    with database.write() as connection:
        connection.execute(schema.registry_state.update().values(checked_at=NOW, error="x"))
        connection.execute(schema.option.insert().values(name="x", value="y"))
    assert surveyor.survey(PULL, NOW) is first


def test_a_plan_with_steps_is_made_anew(database, surveyor):
    state = State()
    key = Key("new", 0, "amd64")
    state.remote[key] = RemoteVersion(key, DIGESTS[0], 1, ())
    state.write(database)
    assert surveyor.survey(PULL, NOW) is not surveyor.survey(PULL, NOW)


def test_a_plan_ends_when_something_set_aside_is_due(database, surveyor):
    state = State()
    for name, minutes in (("soon", 1), ("later", 5)):
        key = Key(name, 0, "amd64")
        state.remote[key] = RemoteVersion(key, DIGESTS[0], 1, ())
        due = NOW + timedelta(minutes=minutes)
        state.quarantine[key] = Quarantined(DIGESTS[0], "bad", 1, due)
    state.write(database)
    first = surveyor.survey(PULL, NOW)
    assert (len(first.plan.steps), len(first.plan.notes)) == (0, 2)
    assert surveyor.survey(PULL, NOW + timedelta(seconds=59)) is first
    due = surveyor.survey(PULL, NOW + timedelta(minutes=1))
    assert [str(step) for step in due.plan.steps] == ["import soon 0-amd64"]


def test_a_plan_that_still_has_books_to_keep_is_made_anew(database, surveyor):
    state = State()
    key = Key("ours", 0, "amd64")
    state.withdrawals[key] = DIGESTS[0]
    state.quarantine[Key("gone", 0, "amd64")] = Quarantined(DIGESTS[0], "bad", 1, NOW)
    state.write(database)
    for question in (PULL, replace(PULL, mode="push")):
        assert surveyor.survey(question, NOW) is not surveyor.survey(question, NOW)

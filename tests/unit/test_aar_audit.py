"""The audit log: written with what it tells, never changed, bounded against strangers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from aar import audit, refusals
from aar.audit import Record
from aar.errors import Denied, Immutable
from aar.refusals import BURST, MAX_KINDS, PERIOD, REFILL, Refusals
from aar.registry import Registry
from aar_interface import Role
from regkit.errors import Conflict, Invalid, NoSpace
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from regkit.oci.manifests import MANIFEST
from regkit.trust import Wanted
from support.certificates import NOW, certify
from support.distribution import EMPTY, image_manifest
from support.images import actor, push, push_blobs
from support.postgresql import OpenRegistry

KEY = Key("candy", 0, "amd64")
PUBLISHER = actor("amd64")
BY = str(PUBLISHER.fingerprint)


@pytest.fixture
def registry(tmp_path: Path, open_registry: OpenRegistry) -> Iterator[Registry]:
    with open_registry(tmp_path) as registry:
        yield registry


def told(registry: Registry, **filters: Any) -> list[tuple[str, str, str]]:
    rows = registry.audit.read(**filters)
    return [(row.record.action, row.record.subject, row.record.by) for row in rows]


def detail(registry: Registry) -> dict[str, Any]:
    return dict(registry.audit.read()[-1].record.detail)


# -- what is told -------------------------------------------------------------------------------


def test_trust_changed_by_hand(registry: Registry):
    certificate = certify(name="site-a")
    shown = str(certificate.fingerprint)
    registry.trust.add(certificate, Role.PUBLISHER, architectures=["amd64"], now=NOW)
    assert detail(registry) == {
        "role": "publisher",
        "origin": "manual",
        "architectures": ["amd64"],
        "common-name": "site-a",
        "expires": certificate.expires.isoformat(),
    }
    registry.trust.remove(certificate.fingerprint)
    registry.trust.add(certificate, Role.CLIENT, now=NOW)
    registry.trust.revoke(certificate.fingerprint)
    assert told(registry) == [
        ("trust-added", shown, "manual"),
        ("trust-removed", shown, "manual"),
        ("trust-added", shown, "manual"),
        ("trust-revoked", shown, "manual"),
    ]


def test_trust_changed_by_an_owner(registry: Registry):
    one, two = certify(), certify()
    registry.trust.apply("juju", [Wanted(one, Role.CLIENT), Wanted(two, Role.CLIENT)], NOW)
    registry.trust.apply("juju", [Wanted(one, Role.PUBLISHER, "publisher:3")], NOW)
    registry.trust.apply("juju", [Wanted(one, Role.PUBLISHER, "publisher:3")], NOW)
    assert set(told(registry)[:2]) == {
        ("trust-added", str(found.fingerprint), "juju") for found in (one, two)
    }
    assert told(registry)[2:] == [
        ("trust-changed", str(one.fingerprint), "juju"),
        ("trust-removed", str(two.fingerprint), "juju"),
    ]
    changed = registry.audit.read()[2].record.detail
    assert (changed["role"], changed["origin"]) == ("publisher", "juju:publisher:3")
    assert changed["before"] == {"role": "client", "origin": "juju", "architectures": []}


def test_what_is_refused_leaves_no_row(registry: Registry):
    certificate = certify()
    registry.trust.add(certificate, Role.CLIENT, now=NOW)
    with pytest.raises(Conflict):
        registry.trust.add(certificate, Role.CLIENT, now=NOW)
    push(registry, KEY, by=PUBLISHER)
    before = told(registry)
    with pytest.raises(Immutable):
        push(registry, KEY, {"app.apk": b"other"}, by=PUBLISHER)
    with pytest.raises(Denied):
        push(registry, Key("candy", 0, "arm64"), by=PUBLISHER)
    assert told(registry) == before


def test_versions_pushed_and_removed(registry: Registry):
    digest = push(registry, KEY, by=PUBLISHER)
    push(registry, KEY, by=PUBLISHER)
    assert detail(registry)["digest"] == str(digest)
    registry.applications.remove("candy", actor=None)
    assert detail(registry)["published-by"] == BY
    assert told(registry) == [
        ("version-published", "candy 0-amd64", BY),
        ("version-removed", "candy 0-amd64", "manual"),
    ]


def test_other_content_pushed_and_deleted(registry: Registry):
    push_blobs(registry, "tools", EMPTY, b"layer")
    manifest = image_manifest(b"layer")
    put = registry.repositories.put_manifest
    for tag in ("v1", "v1", "v2"):
        put("tools", tag, manifest, MANIFEST, actor=PUBLISHER)
    digest = str(Digest.of(manifest))
    registry.repositories.delete_manifest("tools", "v1", actor=PUBLISHER)
    registry.repositories.delete_manifest("tools", digest, actor=PUBLISHER)
    registry.repositories.delete_blob("tools", Digest.of(b"layer"), actor=PUBLISHER)
    found = [
        (row.record.action, row.record.subject, row.record.detail.get("tag"))
        for row in registry.audit.read(by=BY[:8])
    ]
    assert found == [
        ("manifest-pushed", "tools", "v1"),
        ("manifest-pushed", "tools", "v2"),
        ("tag-deleted", "tools", "v1"),
        ("manifest-deleted", "tools", None),
        ("blob-deleted", "tools", None),
    ]


def test_a_row_stands_or_falls_with_its_transaction(registry: Registry):
    with pytest.raises(RuntimeError), registry.database.write() as connection:
        audit.append(connection, [Record("tried", "it")])
        raise RuntimeError
    assert told(registry) == []


# -- append only --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET action = 'nothing'",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE seq = 1",
        "INSERT INTO audit VALUES (1, '', 'forged', '', '', '', 1, '{}')",
        "INSERT OR REPLACE INTO audit VALUES (1, '', 'forged', '', '', '', 1, '{}')",
        "REPLACE INTO audit VALUES (1, '', 'forged', '', '', '', 1, '{}')",
        "UPDATE OR REPLACE audit SET seq = 2 WHERE seq = 1",
    ],
)
def test_rows_are_never_changed(registry: Registry, statement: str):
    registry.audit.write([Record("first", "x"), Record("second", "y")])
    before = registry.audit.read()
    # PostgreSQL has no REPLACE: that is refused as nonsense.
    said = "never"
    if registry.database.shared and "REPLACE" in statement:
        said = "syntax error"
    elif registry.database.shared and "INSERT" in statement:
        said = "duplicate key"
    with pytest.raises(DBAPIError, match=said), registry.database.write() as connection:
        connection.exec_driver_sql(statement)
    assert registry.audit.read() == before


# -- reading ------------------------------------------------------------------------------------


def test_reading_is_limited_to_the_newest_and_ordered(registry: Registry):
    registry.audit.write([Record("did", str(number)) for number in range(10)])
    assert [subject for _, subject, _ in told(registry, limit=3)] == ["7", "8", "9"]
    assert [row.seq for row in registry.audit.read(limit=2)] == [9, 10]


def test_reading_by_whom_and_since(registry: Registry):
    start = datetime(2026, 3, 1, tzinfo=timezone.utc)
    others = ["a" * 8 + "0" * 56, "a" * 8 + "1" * 56, "juju", "manual", ""]
    with registry.database.write() as connection:
        for day, by in enumerate(others):
            audit.append(connection, [Record("did", by, by)], start + timedelta(days=day))
    assert [by for *_, by in told(registry, by="AA:AA:AA:AA:1")] == [others[1]]
    assert [by for *_, by in told(registry, by="juju")] == ["juju"]
    assert [by for *_, by in told(registry, by="manual")] == ["manual"]
    assert told(registry, by="b" * 8) == []
    assert told(registry, by="nobody") == []
    with pytest.raises(Invalid, match="several"):
        registry.audit.read(by="a" * 8)
    with pytest.raises(Invalid, match="at least 8"):
        registry.audit.read(by="aaaa")
    late = registry.audit.read(since=start + timedelta(days=3))
    assert [row.record.by for row in late] == ["manual", ""]
    assert late[0].at == start + timedelta(days=3)


def test_long_texts_are_cut(registry: Registry):
    registry.audit.write([Record("did", "x" * 5000, address="y" * 500)])
    [row] = registry.audit.read()
    assert (len(row.record.subject), len(row.record.address)) == (1024, 64)


# -- refusals -----------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Log:
    """Keeps what is written; `full` makes it fail as a full disk does."""

    def __init__(self) -> None:
        self.rows: list[Record] = []
        self.writes = 0
        self.full = False

    def __call__(self, records: Sequence[Record]) -> None:
        if self.full:
            raise NoSpace("full")
        self.writes += 1
        self.rows += records

    def counted(self) -> int:
        return sum(row.count for row in self.rows)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Log:
    return Log()


def test_the_first_refusal_is_written_at_once_and_others_are_counted(clock: Clock, log: Log):
    counting = Refusals(log, clock)
    assert counting.note("f" * 64, "not trusted", "192.0.2.1", "GET /v2/")
    assert counting.flush() == 1
    for _ in range(500):
        assert not counting.note("f" * 64, "not trusted", "192.0.2.2", "GET /v2/x")
    assert counting.flush() == 0
    clock.now += PERIOD
    assert counting.flush() == 1
    [first, second] = log.rows
    assert (first.action, first.by, first.count, first.address) == (
        "refused",
        "f" * 64,
        1,
        "192.0.2.1",
    )
    assert first.detail["reason"] == "not trusted"
    assert (second.count, second.subject, second.address) == (500, "GET /v2/x", "192.0.2.2")
    clock.now += PERIOD
    assert counting.flush() == 0
    assert counting.note("f" * 64, "not trusted", "192.0.2.1", "GET /v2/")


def test_a_flood_writes_few_rows_and_loses_no_count(clock: Clock, log: Log):
    counting = Refusals(log, clock)
    total, hours = 0, 24
    for second in range(hours * 3600):
        clock.now += 1
        for number in range(3):
            counting.note(f"{second:032x}{number:032x}", "not trusted", "", "")
            total += 1
        counting.flush()
    assert len(counting._tallies) <= MAX_KINDS + 1
    assert len(log.rows) <= BURST + hours * 3600 / REFILL + 1
    assert log.writes <= len(log.rows)
    before = len(log.rows)
    counting.flush(final=True)
    assert len(log.rows) <= before + BURST + 1
    assert log.counted() == total
    assert counting.flush(final=True) == 0
    assert any(row.by == "" and row.detail["reason"] == refusals.OTHERS for row in log.rows)


def test_a_full_disk_keeps_the_counts(clock: Clock, log: Log):
    counting = Refusals(log, clock)
    counting.note("f" * 64, "not trusted", "", "")
    log.full = True
    assert counting.flush() == 0
    counting.note("f" * 64, "not trusted", "", "")
    log.full = False
    assert counting.flush() == 1
    assert log.counted() == 2


def test_the_end_writes_what_is_there(clock: Clock, log: Log):
    counting = Refusals(log, clock)
    counting.note("f" * 64, "not trusted", "", "")
    counting.flush()
    counting.note("f" * 64, "not trusted", "", "")
    assert counting.flush(final=True) == 1
    assert log.counted() == 2


def test_triggers_are_there_however_often_it_migrates(registry: Registry):
    registry.database.migrate("aar:migrations")
    with registry.database.read() as connection:
        if registry.database.shared:
            query = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
            expected = ["audit_no_change", "audit_no_truncate"]
        else:
            query = "SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
            expected = ["audit_no_delete", "audit_no_replace", "audit_no_update"]
        assert list(connection.execute(sa.text(query)).scalars()) == expected

"""Applying what an owner wants trusted: its own rows become exactly that, and no other row moves.

A state machine compares the store with a model of the rule, through any mix of owners, operators,
revocations and days that pass.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aar_interface import Certificate, Fingerprint, Role
from regkit.database import Database
from regkit.errors import Invalid
from regkit.trust import MANUAL, Applied, Entry, Refused, TrustStore, Wanted, trust_table
from support.certificates import DAY, NOW, certify, new_key
from support.postgresql import SQLITE, Databases, writes

CLIENT, PUBLISHER = Role.CLIENT, Role.PUBLISHER


def open_store(path: Path, databases: Databases = SQLITE) -> tuple[Database, TrustStore]:
    metadata = sa.MetaData()
    table = trust_table(metadata)
    database = databases.open(path)
    with database.write() as connection:
        metadata.create_all(connection)
    return database, TrustStore(database, table)


@pytest.fixture
def database_and_store(
    tmp_path: Path, databases: Databases
) -> Iterator[tuple[Database, TrustStore]]:
    database, store = open_store(tmp_path / "trust.db", databases)
    with closing(database):
        yield database, store


@pytest.fixture
def store(database_and_store: tuple[Database, TrustStore]) -> TrustStore:
    return database_and_store[1]


def rows(store: TrustStore) -> dict[Fingerprint, Entry]:
    return {entry.fingerprint: entry for entry in (*store.list(), *store.list(revoked=True))}


def counts(applied: Applied) -> dict[str, int]:
    """How many had each outcome, those with none left out."""
    return {name: len(found) for name, found in vars(applied).items() if found}


# -- one thing at a time ------------------------------------------------------------------------


def test_added_with_everything_that_was_said(store: TrustStore) -> None:
    certificate = certify()
    wish = Wanted(certificate, PUBLISHER, "publisher:3", ("arm64", "amd64", "arm64"))
    applied = store.apply("juju", [wish], NOW)
    assert applied == Applied((certificate.fingerprint,), (), (), (), (), ())
    [entry] = store.list()
    assert (entry.role, entry.origin) == (PUBLISHER, "juju:publisher:3")
    assert (entry.architectures, entry.added, entry.last_used) == (("amd64", "arm64"), NOW, None)
    assert store.admit(certificate, NOW) == entry


def test_without_an_origin_it_is_the_owner(store: TrustStore) -> None:
    store.apply("juju", [Wanted(certify(), CLIENT)], NOW)
    assert [entry.origin for entry in store.list()] == ["juju"]


def test_the_same_again_writes_nothing(
    database_and_store: tuple[Database, TrustStore],
) -> None:
    database, store = database_and_store
    store.add(by_hand := certify(), CLIENT, now=NOW)
    wanted = [Wanted(certify(), CLIENT, "client:1"), Wanted(by_hand, CLIENT)]
    store.apply("juju", wanted, NOW)
    version = writes(database)
    assert counts(store.apply("juju", wanted, NOW + DAY / 2)) == {"unchanged": 1, "kept": 1}
    assert counts(store.apply("other", [], NOW)) == {}
    assert writes(database) == version


@pytest.mark.parametrize(
    "other",
    [
        {"role": PUBLISHER},
        {"origin": "client:2"},
        {"architectures": ("amd64",)},
    ],
)
def test_a_row_changes_in_place(store: TrustStore, other: dict[str, object]) -> None:
    wish = Wanted(certify(), CLIENT, "client:1")
    store.apply("juju", [wish], NOW)
    store.touch(store.list()[0], NOW + timedelta(hours=1))
    [before] = store.list()
    changed = replace(wish, **other)  # type: ignore[arg-type]
    assert counts(store.apply("juju", [changed], NOW + DAY / 2)) == {"changed": 1}
    [after] = store.list()
    assert (after.role, after.origin, after.architectures) == (
        changed.role,
        f"juju:{changed.origin}",
        changed.architectures,
    )
    assert (after.added, after.last_used) == (before.added, before.last_used)


def test_a_role_that_changed_acts_at_once(store: TrustStore) -> None:
    certificate = certify()
    store.apply("juju", [Wanted(certificate, PUBLISHER)], NOW)
    assert store.admit(certificate, NOW).role is PUBLISHER
    store.apply("juju", [Wanted(certificate, CLIENT)], NOW)
    assert store.admit(certificate, NOW).role is CLIENT
    store.apply("juju", [], NOW)
    with pytest.raises(Refused, match="not trusted"):
        store.admit(certificate, NOW)


@pytest.mark.parametrize("origin", [MANUAL, "juju2", "juju-x:client:1", "JUJU", "other:juju:"])
def test_rows_of_others_are_kept_as_they_are(store: TrustStore, origin: str) -> None:
    certificate = certify()
    entry = store.add(certificate, CLIENT, origin, now=NOW)
    applied = store.apply("juju", [Wanted(certificate, PUBLISHER)], NOW)
    assert applied.kept == (certificate.fingerprint,)
    assert counts(store.apply("juju", [], NOW)) == {}
    assert store.list() == [entry]


def test_origins_of_a_relation_id_alone_are_others(store: TrustStore) -> None:
    """`_` and `%` are no wildcards."""
    store.add(certify(), CLIENT, "a_b:1", now=NOW)
    store.add(certify(), CLIENT, "axb:1", now=NOW)
    store.apply("a-b", [], NOW)
    assert len(store.list()) == 2


def test_the_revoked_stay_out_and_say_when(store: TrustStore) -> None:
    key = new_key()
    old, new = certify(key), certify(key, name="renewed")
    store.apply("juju", [Wanted(old, CLIENT)], NOW)
    store.revoke(old.fingerprint, NOW)
    good = certify()
    applied = store.apply(
        "juju", [Wanted(old, CLIENT), Wanted(new, CLIENT), Wanted(good, CLIENT)], NOW + DAY / 2
    )
    assert counts(applied) == {"added": 1, "refused": 2}
    by_name = {item.fingerprint: item for item in applied.refused}
    for certificate in (old, new):
        refusal = by_name[certificate.fingerprint]
        assert refusal.reason == "revoked"
        assert "revoked on 2026-06-01 12:00 UTC" in refusal.message
        assert certificate.common_name in refusal.message
        with pytest.raises(Refused):
            store.admit(certificate, NOW)
    assert counts(store.apply("juju", [], NOW)) == {"removed": 1}
    [entry] = store.list(revoked=True)
    assert entry.fingerprint == old.fingerprint


def test_a_row_whose_key_was_revoked_goes(store: TrustStore) -> None:
    key = new_key()
    old, new = certify(key), certify(key)
    store.apply("juju", [Wanted(old, CLIENT), Wanted(new, CLIENT)], NOW)
    store.revoke(old.fingerprint, NOW)
    applied = store.apply("juju", [Wanted(new, CLIENT)], NOW)
    assert (applied.removed, counts(applied)) == (
        (new.fingerprint,),
        {"removed": 1, "refused": 1},
    )


@pytest.mark.parametrize(
    ("certificate", "reason", "words"),
    [
        (certify(start=NOW - 2 * DAY, end=NOW - DAY), "expired", "expired on 2026-05-31"),
        (certify(start=NOW + DAY, end=NOW + 2 * DAY), "not-yet-valid", "not valid before"),
        (certify(server=True), "not-a-client", "extended key usage"),
    ],
)
def test_the_unusable_are_refused_and_the_others_go_on(
    store: TrustStore, certificate: Certificate, reason: str, words: str
) -> None:
    wanted = [Wanted(certificate, CLIENT), Wanted(certify(), CLIENT)]
    applied = store.apply("juju", wanted, NOW, for_clients=True)
    assert counts(applied) == {"added": 1, "refused": 1}
    assert applied.refused[0].reason == reason
    assert words in applied.refused[0].message
    assert "\n" not in applied.refused[0].message


def test_a_servers_certificate_is_trusted_where_that_is_meant(store: TrustStore) -> None:
    assert counts(store.apply("juju", [Wanted(certify(server=True), CLIENT)], NOW)) == {"added": 1}


def test_twice_in_one_role_is_once(store: TrustStore) -> None:
    certificate = certify()
    wanted = [
        Wanted(certificate, PUBLISHER, "publisher:1", ("arm64",)),
        Wanted(certificate, PUBLISHER, "publisher:2", ("amd64",)),
    ]
    store.apply("juju", wanted, NOW)
    [entry] = store.list()
    assert (entry.origin, entry.architectures) == ("juju:publisher:1", ("amd64", "arm64"))
    store.apply("juju", [*wanted, Wanted(certificate, PUBLISHER)], NOW)
    assert store.list()[0].architectures == ()  # one of them isn't limited


def test_in_two_roles_is_refused_whole(store: TrustStore) -> None:
    kept = certify()
    store.apply("juju", [Wanted(kept, CLIENT)], NOW)
    before = rows(store)
    both = certify(name="torn")
    wanted = [Wanted(certify(), CLIENT), Wanted(both, CLIENT), Wanted(both, PUBLISHER)]
    with pytest.raises(Invalid, match=r"\(torn\) is wanted as client and as publisher"):
        store.apply("juju", wanted, NOW)
    assert rows(store) == before


@pytest.mark.parametrize(
    "owner", ["", "Juju", "juju:1", "1juju", "a" * 33, "ju ju", "jüjü", MANUAL]
)
def test_an_owners_name(store: TrustStore, owner: str) -> None:
    store.add(certify(), CLIENT, now=NOW)
    with pytest.raises(Invalid):
        store.apply(owner, [], NOW)
    assert len(store.list()) == 1


@pytest.mark.parametrize("origin", ["a b", "x" * 201, "ü", "a\n"])
def test_an_origin_that_cannot_be(origin: str) -> None:
    with pytest.raises(Invalid, match="is not an origin"):
        Wanted(certify(), CLIENT, origin)


def test_an_architecture_that_cannot_be() -> None:
    with pytest.raises(Invalid, match="is not an architecture"):
        Wanted(certify(), PUBLISHER, "", ("AMD 64",))


def test_within_the_callers_transaction(database_and_store: tuple[Database, TrustStore]) -> None:
    database, store = database_and_store
    certificate = certify()
    wanted = [Wanted(certificate, CLIENT)]
    with pytest.raises(RuntimeError, match="later"), database.write() as connection:
        store.apply("juju", wanted, NOW, connection=connection)
        prefix = certificate.fingerprint.short
        assert store.find(prefix, connection).fingerprint == certificate.fingerprint
        raise RuntimeError("later")
    assert store.list() == []
    with database.write() as connection:
        store.apply("juju", wanted, NOW, connection=connection)
    assert len(store.list()) == 1


# -- any mix --------------------------------------------------------------------------------------

KEYS = [new_key() for _ in range(4)]
POOL = [
    certify(KEYS[0]),
    certify(KEYS[0], end=NOW + 90 * DAY),
    certify(KEYS[1], end=NOW + 90 * DAY),
    certify(KEYS[2], end=NOW + 3 * DAY),
    certify(KEYS[3], start=NOW + 2 * DAY, end=NOW + 90 * DAY),
    certify(end=NOW + 90 * DAY, server=True),
]
KEY_OF = {certificate.fingerprint: certificate.key_hash for certificate in POOL}
OWNERS = ("juju", "juju-x", "j")

certificates = st.sampled_from(POOL)
wishes = st.builds(
    Wanted,
    certificates,
    st.sampled_from(Role),
    st.sampled_from(("", "client:1", "publisher:2")),
    st.sampled_from(((), ("amd64",), ("arm64", "amd64"))),
)
documents = st.lists(wishes, max_size=8, unique_by=lambda wish: wish.certificate.fingerprint)


@dataclass(frozen=True)
class Row:
    """A row as the model has it."""

    role: Role
    origin: str
    architectures: tuple[str, ...]
    revoked: bool = False

    @classmethod
    def of(cls, entry: Entry) -> Row:
        return cls(entry.role, entry.origin, entry.architectures, entry.revoked is not None)

    def owned_by(self, owner: str) -> bool:
        return self.origin.split(":")[0] == owner and not self.revoked


class Mix(RuleBasedStateMachine):
    """Owners apply, operators add, remove and revoke, days pass."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.database, self.store = open_store(Path(self.folder.name, "trust.db"))
        self.now = NOW
        self.model: dict[Fingerprint, Row] = {}

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    def key_is_revoked(self, fingerprint: Fingerprint) -> bool:
        return any(
            row.revoked and KEY_OF[other] == KEY_OF[fingerprint]
            for other, row in self.model.items()
        )

    def refusal(self, certificate: Certificate) -> str:
        if self.key_is_revoked(certificate.fingerprint):
            return "revoked"
        if certificate.expires < self.now:
            return "expired"
        if certificate.issued > self.now:
            return "not-yet-valid"
        return "" if certificate.client_usable else "not-a-client"

    @rule(owner=st.sampled_from(OWNERS), wanted=documents, seed=st.randoms(use_true_random=False))
    def apply(self, owner: str, wanted: list[Wanted], seed: random.Random) -> None:
        before = dict(self.model)
        expected: dict[str, set[Fingerprint]] = {}
        welcome = [wish for wish in wanted if not self.refusal(wish.certificate)]
        named = {wish.certificate.fingerprint for wish in welcome}
        for fingerprint, row in before.items():
            if row.owned_by(owner) and fingerprint not in named:
                del self.model[fingerprint]
                expected.setdefault("removed", set()).add(fingerprint)
        for wish in welcome:
            fingerprint = wish.certificate.fingerprint
            row = before.get(fingerprint)
            if row is not None and not row.owned_by(owner):
                outcome = "kept"
            else:
                origin = f"{owner}:{wish.origin}" if wish.origin else owner
                new = Row(wish.role, origin, tuple(sorted(wish.architectures)))
                outcome = "added" if row is None else "unchanged" if row == new else "changed"
                self.model[fingerprint] = new
            expected.setdefault(outcome, set()).add(fingerprint)

        version = self.database.version()
        applied = self.store.apply(owner, wanted, self.now, for_clients=True)
        outcomes = dict(vars(applied))
        refused = {item.fingerprint: item.reason for item in outcomes.pop("refused")}
        assert {name: set(found) for name, found in outcomes.items() if found} == expected
        assert refused == {
            wish.certificate.fingerprint: reason
            for wish in wanted
            if (reason := self.refusal(wish.certificate))
        }
        assert (self.database.version() != version) is (self.model != before)

        # Again, and in any order: nothing moves any more.
        version = self.database.version()
        seed.shuffle(wanted)
        again = self.store.apply(owner, wanted, self.now, for_clients=True)
        assert not again.added + again.changed + again.removed
        assert set(again.unchanged) == {*applied.added, *applied.changed, *applied.unchanged}
        assert (again.kept, again.refused) == (applied.kept, applied.refused)
        assert self.database.version() == version

    @rule(certificate=certificates, role=st.sampled_from(Role))
    def add_by_hand(self, certificate: Certificate, role: Role) -> None:
        refused = self.refusal(certificate) in ("revoked", "expired", "not-yet-valid")
        if refused or certificate.fingerprint in self.model:
            return
        self.store.add(certificate, role, now=self.now)
        self.model[certificate.fingerprint] = Row(role, MANUAL, ())

    @precondition(lambda self: any(not row.revoked for row in self.model.values()))
    @rule(data=st.data(), for_ever=st.booleans())
    def take_away(self, data: st.DataObject, for_ever: bool) -> None:
        trusted = sorted(name for name, row in self.model.items() if not row.revoked)
        fingerprint = data.draw(st.sampled_from(trusted))
        if for_ever:
            self.store.revoke(fingerprint, self.now)
            self.model[fingerprint] = replace(self.model[fingerprint], revoked=True)
        else:
            self.store.remove(fingerprint)
            del self.model[fingerprint]

    @rule()
    def wait(self) -> None:
        self.now += DAY

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        if not hasattr(self, "model"):
            return
        assert {name: Row.of(entry) for name, entry in rows(self.store).items()} == self.model

    @invariant()
    def nobody_revoked_gets_in(self) -> None:
        for certificate in POOL if hasattr(self, "model") else ():
            row = self.model.get(certificate.fingerprint)
            current = certificate.issued <= self.now <= certificate.expires
            welcome = bool(row and current and not self.key_is_revoked(certificate.fingerprint))
            assert admitted(self.store, certificate, self.now) is welcome


def admitted(store: TrustStore, certificate: Certificate, now: datetime) -> bool:
    try:
        store.admit(certificate, now)
    except Refused:
        return False
    return True


Mix.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=15,
    deadline=None,
)
TestAnyMix = Mix.TestCase


@settings(max_examples=40, deadline=None)
@given(documents, st.randoms(use_true_random=False))
def test_the_order_of_a_document_does_not_matter(
    wanted: list[Wanted], seed: random.Random
) -> None:
    """But for the origin of a certificate that is wanted twice, which is the first's."""
    twice = [*wanted, *(replace(wish, architectures=("s390x",)) for wish in wanted[::2])]
    shuffled = list(twice)
    seed.shuffle(shuffled)
    found = []
    for document in (twice, shuffled):
        with tempfile.TemporaryDirectory() as folder:
            database, store = open_store(Path(folder, "trust.db"))
            with closing(database):
                applied = store.apply("juju", document, NOW)
                found.append((applied, rows(store)))
    assert found[0] == found[1]

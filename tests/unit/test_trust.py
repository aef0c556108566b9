"""The trust store: added, removed, revoked for ever, and seen at once by everyone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import event

from aar_interface import Certificate, Fingerprint, Role
from regkit.database import Database
from regkit.errors import Conflict, Invalid, NotFound
from regkit.trust import LAST_USED_STEP, MANUAL, Refused, TrustStore, trust_table
from support.postgresql import SQLITE, Databases, settled

NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)


def certify(
    key: ec.EllipticCurvePrivateKey | None = None,
    start: datetime = NOW - DAY,
    end: datetime = NOW + DAY,
) -> Certificate:
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    return Certificate.from_der(made.public_bytes(serialization.Encoding.DER))


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


@pytest.fixture
def database(database_and_store: tuple[Database, TrustStore]) -> Database:
    return database_and_store[0]


@pytest.fixture
def other(tmp_path: Path, store: TrustStore, databases: Databases) -> Iterator[TrustStore]:
    """The same file through connections of its own, as another process has it."""
    database, second = open_store(tmp_path / "trust.db", databases)
    with closing(database):
        yield second


def test_an_added_certificate_is_admitted_with_what_was_said(store: TrustStore) -> None:
    certificate = certify()
    added = store.add(certificate, Role.PUBLISHER, "aar:7", ["arm64", "amd64", "arm64"], NOW)
    assert store.admit(certificate, NOW) == added == store.get(certificate.fingerprint)
    assert added.architectures == ("amd64", "arm64")
    assert (added.role, added.origin, added.state) == (Role.PUBLISHER, "aar:7", "trusted")
    assert (added.added, added.last_used, added.common_name) == (NOW, None, "site")
    assert Certificate.parse(added.certificate) == certificate
    assert store.list() == [added]
    assert store.list(revoked=True) == []


def test_the_origin_is_manual_unless_said(store: TrustStore) -> None:
    assert store.add(certify(), Role.CLIENT, now=NOW).origin == MANUAL


def test_twice_is_a_conflict_that_changes_nothing(store: TrustStore) -> None:
    certificate = certify()
    first = store.add(certificate, Role.CLIENT, now=NOW)
    with pytest.raises(Conflict, match=r"^certificate already exists$"):
        store.add(certificate, Role.PUBLISHER, now=NOW)
    assert store.list() == [first]


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (NOW - 2 * DAY, NOW - DAY, r"expired on 2026-05-31 12:00 UTC: make a new one"),
        (NOW + DAY, NOW + 2 * DAY, r"is not valid before 2026-06-02 12:00 UTC"),
    ],
)
def test_what_is_not_valid_now_is_not_added(
    store: TrustStore, start: datetime, end: datetime, message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        store.add(certify(start=start, end=end), Role.CLIENT, now=NOW)
    assert store.list() == []


def test_nobody_and_strangers_are_refused(store: TrustStore) -> None:
    with pytest.raises(Refused, match="no client certificate") as caught:
        store.admit(None, NOW)
    assert caught.value.fingerprint is None
    stranger = certify()
    with pytest.raises(Refused, match="not trusted") as caught:
        store.admit(stranger, NOW)
    assert caught.value.fingerprint == stranger.fingerprint
    assert caught.value.status == 403


def test_a_trusted_certificate_is_refused_once_it_expires(store: TrustStore) -> None:
    certificate = certify()
    store.add(certificate, Role.CLIENT, now=NOW)
    store.admit(certificate, NOW)
    with pytest.raises(Refused, match="expired on"):
        store.admit(certificate, NOW + 2 * DAY)


def test_a_certificate_on_a_trusted_key_is_still_a_stranger(store: TrustStore) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    store.add(certify(key), Role.CLIENT, now=NOW)
    with pytest.raises(Refused, match="not trusted"):
        store.admit(certify(key), NOW)


def test_removed_may_be_added_again(store: TrustStore) -> None:
    certificate = certify()
    store.add(certificate, Role.CLIENT, now=NOW)
    store.admit(certificate, NOW)
    store.remove(certificate.fingerprint)
    with pytest.raises(Refused, match="not trusted"):
        store.admit(certificate, NOW)
    store.add(certificate, Role.PUBLISHER, now=NOW)
    assert store.admit(certificate, NOW).role is Role.PUBLISHER


def test_unknown_ones_cannot_be_removed_or_revoked(store: TrustStore) -> None:
    unknown = Fingerprint("a" * 64)
    with pytest.raises(NotFound, match="a" * 64):
        store.remove(unknown)
    with pytest.raises(NotFound, match="a" * 64):
        store.revoke(unknown)
    assert store.get(unknown) is None


class TestRevoked:
    @pytest.fixture
    def key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    @pytest.fixture
    def revoked(self, store: TrustStore, key: ec.EllipticCurvePrivateKey) -> Certificate:
        certificate = certify(key)
        store.add(certificate, Role.CLIENT, now=NOW)
        store.admit(certificate, NOW)
        store.revoke(certificate.fingerprint, NOW)
        return certificate

    def test_is_refused_and_listed_apart(self, store: TrustStore, revoked: Certificate) -> None:
        with pytest.raises(Refused, match="was revoked"):
            store.admit(revoked, NOW)
        assert store.list() == []
        (entry,) = store.list(revoked=True)
        assert (entry.fingerprint, entry.state) == (revoked.fingerprint, "revoked")
        assert entry.revoked == NOW

    def test_cannot_be_undone(self, store: TrustStore, revoked: Certificate) -> None:
        when = r"revoked on 2026-06-01 12:00 UTC"
        with pytest.raises(Conflict, match=f"this certificate was {when}"):
            store.add(revoked, Role.CLIENT, now=NOW)
        with pytest.raises(Conflict, match=f"{when}; a revocation is kept for ever"):
            store.remove(revoked.fingerprint)
        with pytest.raises(Conflict, match=r"already revoked on 2026-06-01 12:00 UTC"):
            store.revoke(revoked.fingerprint, NOW + DAY)
        (entry,) = store.list(revoked=True)
        assert entry.revoked == NOW

    @pytest.mark.usefixtures("revoked")
    def test_its_key_comes_back_in_no_certificate(
        self, store: TrustStore, key: ec.EllipticCurvePrivateKey
    ) -> None:
        again = certify(key)
        with pytest.raises(Conflict, match="the key of this certificate was revoked on"):
            store.add(again, Role.CLIENT, now=NOW)
        with pytest.raises(Refused, match="was revoked"):
            store.admit(again, NOW)

    def test_revoking_shuts_out_other_certificates_on_the_key(
        self, store: TrustStore, key: ec.EllipticCurvePrivateKey
    ) -> None:
        old, new = certify(key), certify(key)
        store.add(old, Role.CLIENT, now=NOW)
        store.add(new, Role.CLIENT, now=NOW)
        store.admit(new, NOW)
        store.revoke(old.fingerprint, NOW)
        with pytest.raises(Refused, match="was revoked"):
            store.admit(new, NOW)

    @pytest.mark.usefixtures("revoked")
    def test_a_new_key_is_welcome(self, store: TrustStore) -> None:
        replacement = certify()
        store.add(replacement, Role.CLIENT, now=NOW)
        assert store.admit(replacement, NOW).state == "trusted"


class TestChangesOfOthers:
    def test_act_at_the_next_call(
        self, store: TrustStore, other: TrustStore, database: Database
    ) -> None:
        certificate = certify()
        with pytest.raises(Refused, match="not trusted"):
            store.admit(certificate, NOW)
        other.add(certificate, Role.CLIENT, now=NOW)
        settled(database)
        assert store.admit(certificate, NOW).role is Role.CLIENT
        other.remove(certificate.fingerprint)
        settled(database)
        with pytest.raises(Refused, match="not trusted"):
            store.admit(certificate, NOW)
        other.add(certificate, Role.PUBLISHER, now=NOW)
        settled(database)
        assert store.admit(certificate, NOW).role is Role.PUBLISHER
        other.revoke(certificate.fingerprint, NOW)
        settled(database)
        with pytest.raises(Refused, match="was revoked"):
            store.admit(certificate, NOW)

    def test_every_admission_sees_them(
        self, store: TrustStore, other: TrustStore, database: Database
    ) -> None:
        """As during a transfer, which asks again for every chunk."""
        certificate, bystander = certify(), certify()
        other.add(certificate, Role.CLIENT, now=NOW)
        other.add(bystander, Role.CLIENT, now=NOW)
        settled(database)
        for _ in range(100):
            store.admit(certificate, NOW)
        other.revoke(certificate.fingerprint, NOW)
        settled(database)
        with pytest.raises(Refused, match="was revoked"):
            store.admit(certificate, NOW)
        store.admit(bystander, NOW)

    def test_a_rolled_back_change_is_none(
        self, database_and_store: tuple[Database, TrustStore]
    ) -> None:
        database, store = database_and_store
        certificate = certify()
        store.add(certificate, Role.CLIENT, now=NOW)
        with pytest.raises(RuntimeError), database.write() as connection:
            connection.exec_driver_sql("DELETE FROM trust")
            raise RuntimeError("halfway")
        store.admit(certificate, NOW)

    def test_nothing_new_costs_no_query(
        self, database_and_store: tuple[Database, TrustStore]
    ) -> None:
        database, store = database_and_store
        certificate = certify()
        store.add(certificate, Role.CLIENT, now=NOW)
        store.admit(certificate, NOW)
        settled(database)
        store.admit(certificate, NOW)
        statements: list[str] = []
        event.listen(
            database.engine,
            "before_cursor_execute",
            lambda _conn, _cursor, statement, *_rest: statements.append(statement),
        )
        for _ in range(10):
            store.admit(certificate, NOW)
        assert statements == []
        store.list()
        assert statements


class TestFind:
    @pytest.fixture
    def filled(self, database_and_store: tuple[Database, TrustStore]) -> TrustStore:
        """Three rows whose fingerprints are known; the store itself can only compute them."""
        database, store = database_and_store
        digits = ("aaaaaaaab" + "0" * 55, "aaaaaaaac" + "0" * 55, "f" * 64)
        for wanted in digits:
            real = store.add(certify(), Role.CLIENT, now=NOW).fingerprint
            with database.write() as connection:
                connection.execute(
                    sa.text("UPDATE trust SET fingerprint = :wanted WHERE fingerprint = :real"),
                    {"wanted": wanted, "real": str(real)},
                )
        return store

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("aaaaaaaab", "aaaaaaaab" + "0" * 55),
            ("AA:AA:AA:AA:C0", "aaaaaaaac" + "0" * 55),
            (" ffffffff\n", "f" * 64),
            ("f" * 64, "f" * 64),
        ],
    )
    def test_one(self, filled: TrustStore, prefix: str, expected: str) -> None:
        assert str(filled.find(prefix).fingerprint) == expected

    def test_several(self, filled: TrustStore) -> None:
        with pytest.raises(Invalid, match="several fingerprints begin with aaaaaaaa"):
            filled.find("aaaaaaaa")

    def test_none(self, filled: TrustStore) -> None:
        with pytest.raises(NotFound, match="begins with 12345678"):
            filled.find("12345678")

    @pytest.mark.parametrize("prefix", ["", "fffffff", "f" * 65, "ffffffg0", "%%%%%%%%"])
    def test_no_prefix(self, filled: TrustStore, prefix: str) -> None:
        with pytest.raises(Invalid, match="give at least 8"):
            filled.find(prefix)

    def test_revoked_ones_are_found(self, filled: TrustStore) -> None:
        filled.revoke(Fingerprint("f" * 64), NOW)
        assert filled.find("ffffffff").state == "revoked"


def test_list_is_oldest_first(store: TrustStore) -> None:
    young = store.add(certify(), Role.CLIENT, now=NOW)
    old = store.add(certify(), Role.CLIENT, now=NOW - timedelta(hours=1))
    assert store.list() == [old, young]


def test_last_used_is_written_coarsely(store: TrustStore) -> None:
    def stored() -> datetime | None:
        entry = store.get(certificate.fingerprint)
        assert entry is not None
        return entry.last_used

    certificate = certify()
    store.touch(store.add(certificate, Role.CLIENT, now=NOW), NOW)
    assert stored() == NOW
    store.touch(store.admit(certificate, NOW), NOW + LAST_USED_STEP / 2)
    assert stored() == NOW
    store.touch(store.admit(certificate, NOW), NOW + LAST_USED_STEP)
    assert stored() == NOW + LAST_USED_STEP

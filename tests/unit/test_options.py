"""The options table: parsing, defaults, listeners, other processes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aar_interface import Certificate, Role
from ams import schema
from ams.options import OPTIONS, Options
from regkit.database import Database
from regkit.errors import Invalid
from regkit.trust import TrustStore
from support.postgresql import Databases, settled


@pytest.fixture
def database(tmp_path: Path, databases: Databases) -> Iterator[Database]:
    database = databases.open(tmp_path / "ams.db", "ams:migrations")
    yield database
    database.close()


@pytest.fixture
def options(database: Database) -> Options:
    return Options(database)


def certificate() -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return Certificate.parse(made.public_bytes(serialization.Encoding.PEM))


def test_defaults_as_the_reference_has_them(options: Options):
    assert options.show() == {
        "registry.url": "",
        "registry.fingerprint": "",
        "registry.mode": "pull",
        "registry.update_interval": "1h",
        "registry.spread": "0s",
        "registry.filter": "",
        "application.auto_publish": True,
        "application.auto_update": True,
        "application.max_published_versions": 3,
        "core.trust_password": False,
    }
    assert list(options.show()) == list(OPTIONS)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("registry.url", " HTTPS://Host.Example:3000/ ", ("https://host.example:3000",)),
        ("registry.url", "https://10.0.0.1", ("https://10.0.0.1",)),
        ("registry.url", "https://[fd00::1]:3000", ("https://[fd00::1]:3000",)),
        (
            "registry.url",
            "https://a:1, https://b:2,https://a:1",
            ("https://a:1", "https://b:2"),
        ),
        ("registry.mode", "push", "push"),
        ("registry.update_interval", "5m", timedelta(minutes=5)),
        ("registry.filter", "b, a,,b", ("a", "b")),
        ("application.auto_publish", "False", False),
        ("application.max_published_versions", "10", 10),
    ],
)
def test_values(options: Options, database: Database, name: str, text: str, value: object):
    default = options.get(name)
    options.set(name, text)
    assert options.get(name) == Options(database).get(name) == value
    options.set(name, "")
    assert options.get(name) == default


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("registry.url", "http://a:3000", "only https"),
        ("registry.url", "a:3000", "is not a registry's URL"),
        ("registry.url", "https://", "is not a registry's URL"),
        ("registry.url", "https://a:99999", "is not a registry's URL"),
        ("registry.url", "https://u:p@a:1", "is not a registry's URL"),
        ("registry.url", "https://a:1/v2", "no path"),
        ("registry.url", "https://a:1?x=y", "no path"),
        ("registry.url", "https://a:1,,https://b", "is not a registry's URL"),
        ("registry.url", "https://a b", "is not a registry's URL"),
        ("registry.url", ",".join(f"https://h{i}" for i in range(17)), "at most 16"),
        ("registry.fingerprint", "xyz", "is not a fingerprint"),
        ("registry.fingerprint", "ab" * 32, "amc config trust add"),
        ("registry.mode", "pish", "use one of pull, push, manual"),
        ("registry.update_interval", "soon", "is not a duration"),
        ("registry.update_interval", "5", "is not a duration"),
        ("registry.update_interval", "500ms", "is too short"),
        ("registry.update_interval", "-1h", "is not a duration"),
        ("application.auto_publish", "maybe", "neither true nor false"),
        ("application.max_published_versions", "0", "is not a number from 1"),
        ("application.max_published_versions", "many", "is not a number"),
        ("registry.filter", "a" * 300, "is not a tag"),
        ("registry.filter", "a" * 5000, "too long"),
        ("registry.fingerprnt", "x", "did you mean registry.fingerprint"),
        ("nonsense", "x", "'amc config show' lists them all"),
    ],
)
def test_refused_and_nothing_changed(options: Options, name: str, text: str, part: str):
    before = options.show()
    with pytest.raises(Invalid) as caught:
        options.set(name, text)
    assert part in str(caught.value)
    assert options.show() == before


def test_a_fingerprint_must_be_trusted_and_may_be_a_prefix(options: Options, database: Database):
    trust = TrustStore(database, schema.trust)
    entry = trust.add(certificate(), Role.CLIENT)
    full = str(entry.fingerprint)
    for given in (
        full,
        full.upper(),
        full[:12],
        ":".join(full[i : i + 2] for i in range(0, 64, 2)),
    ):
        options.set("registry.fingerprint", "")
        options.set("registry.fingerprint", given)
        assert options.get("registry.fingerprint") == full
    options.set("registry.fingerprint", "")
    trust.revoke(entry.fingerprint)
    with pytest.raises(Invalid, match="was revoked"):
        options.set("registry.fingerprint", full)


def test_the_password_is_never_kept_or_shown(options: Options, tmp_path: Path):
    assert not options.check_password("")
    options.set("core.trust_password", "s3cret ")
    assert options.get("core.trust_password") is True
    assert options.show()["core.trust_password"] is True
    assert options.check_password("s3cret ")
    assert not options.check_password("s3cret")
    for path in tmp_path.iterdir():
        assert b"s3cret" not in path.read_bytes()
    options.set("core.trust_password", "")
    assert not options.check_password("s3cret ")


def test_listeners_hear_of_changes_made_here_and_elsewhere(
    options: Options, database: Database, tmp_path: Path, databases: Databases
):
    heard: list[str] = []
    options.listen(heard.append)
    options.set("registry.mode", "push")
    options.set("registry.mode", "push")
    assert heard == ["registry.mode"]
    other_database = databases.open(tmp_path / "ams.db", "ams:migrations")
    other = Options(other_database)
    other.set("registry.update_interval", "5m")
    other.set("registry.mode", "")
    other_database.close()
    settled(database)
    assert options.get("registry.mode") == "pull"
    assert heard == ["registry.mode"]
    options.poll()
    options.poll()
    assert heard == ["registry.mode", "registry.mode", "registry.update_interval"]

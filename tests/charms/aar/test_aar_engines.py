"""What providers of PostgreSQL and S3 say, as they say it, and what becomes of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import yaml

from aar.settings import Settings
from options import InvalidOption, Options
from regkit.settings import read
from shared_engines import Database, Engines, ObjectStorage, Unusable
from support.engine_databags import (
    AUTHORITY,
    OLDER_POSTGRESQL,
    POSTGRESQL,
    S3_INTEGRATOR,
    SECOND,
)

FOLDER = Path("/var/snap/aar/common/conf")


def options(**config: object) -> Options:
    defaults = {"port": 3000, "location": "", "log-level": "info", "storage-config": ""}
    return Options.read({**defaults, **config})


def database(**more: str) -> Database:
    found = Database.read({**POSTGRESQL, **{k.replace("_", "-"): v for k, v in more.items()}})
    assert found
    return found


def storage(**more: str) -> ObjectStorage:
    bag = {**S3_INTEGRATOR, **{k.replace("_", "-"): v for k, v in more.items()}}
    found = ObjectStorage.read(bag)
    assert found
    return found


def test_charmed_postgresql() -> None:
    assert database().url(FOLDER) == (
        "postgresql://relation_id_7:s3cret%2F%40%3A%25@10.20.30.41:5432/aar?connect_timeout=5"
    )


def test_a_database_without_secrets_at_several_places() -> None:
    found = Database.read(OLDER_POSTGRESQL)
    assert found
    assert found.url(FOLDER) == (
        "postgresql://relation-7:plain@pg-0.internal:5432,[2001:db8::7]:5433/aar"
        "?connect_timeout=5&target_session_attrs=read-write&sslmode=require"
    )


def test_an_authority_is_checked_against() -> None:
    found = database(tls="true", tls_ca=AUTHORITY)
    engines = Engines(found, storage(tls_ca_chain=""))
    ((name, content),) = engines.files.items()
    assert content == AUTHORITY
    assert found.url(FOLDER).endswith(f"&sslmode=verify-ca&sslrootcert={FOLDER / name}")


def test_the_s3_integrator() -> None:
    found = storage()
    settings = found.settings(FOLDER, redirects=True)
    assert Path(settings.pop("ca-file")).parent == FOLDER
    assert settings == {
        "bucket": "fleet",
        "access-key": "AKIAEXAMPLE",
        "secret-access-key": "s3cret+/=",
        "endpoint": "https://s3.example.com",
        "region": "eu-north-1",
        "prefix": "registry",
        "addressing-style": "virtual",
        "redirect": False,
    }
    assert found.authority == AUTHORITY + SECOND


def test_downloads_are_redirected_where_every_client_can_check_the_server() -> None:
    assert "redirect" not in storage(tls_ca_chain="").settings(FOLDER, redirects=True)
    plain = storage(tls_ca_chain="", endpoint="http://192.0.2.7:7480", s3_uri_style="path")
    assert plain.settings(FOLDER, redirects=True)["redirect"] is False
    assert plain.settings(FOLDER, redirects=True)["addressing-style"] == "path"
    aws = {key: S3_INTEGRATOR[key] for key in ("access-key", "secret-key", "bucket", "region")}
    found = ObjectStorage.read(aws)
    assert found
    assert found.settings(FOLDER, redirects=True).keys() == {
        "bucket",
        "access-key",
        "secret-access-key",
        "region",
    }


def test_what_is_not_all_there_is_waited_for() -> None:
    for name in ("endpoints", "username", "password"):
        assert Database.read({k: v for k, v in POSTGRESQL.items() if k != name}) is None
    for name in ("access-key", "secret-key", "bucket"):
        assert ObjectStorage.read({k: v for k, v in S3_INTEGRATOR.items() if k != name}) is None
    assert Database.read({}) is None
    assert ObjectStorage.read({}) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("endpoints", "not a host"),
        ("endpoints", "10.0.0.1:99999"),
        ("endpoints", "10.0.0.1@evil.example:5432"),
        ("endpoints", ","),
        ("endpoints", "x" * 5000),
        ("password", "two\nlines: true"),
        ("username", "\x1b[2J"),
        ("tls-ca", "nonsense"),
        ("tls-ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
        ("tls-ca", "A" * 100_000),
    ],
)
def test_a_database_that_cannot_be_used(field: str, value: str) -> None:
    with pytest.raises(Unusable) as caught:
        Database.read({**POSTGRESQL, field: value})
    assert str(caught.value).startswith(f"{field}: ")
    assert "\n" not in str(caught.value)
    assert POSTGRESQL["password"] not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("endpoint", "ftp://s3.example.com"),
        ("endpoint", "https://user:password@s3.example.com"),
        ("endpoint", "https://[broken"),
        ("endpoint", "s3.example.com"),
        ("s3-uri-style", "sideways"),
        ("secret-key", "two\nlines"),
        ("tls-ca-chain", "["),
        ("tls-ca-chain", "[1]"),
        ("tls-ca-chain", "[" * 50_000),
        ("tls-ca-chain", '["nonsense"]'),
    ],
)
def test_a_storage_that_cannot_be_used(field: str, value: str) -> None:
    with pytest.raises(Unusable) as caught:
        ObjectStorage.read({**S3_INTEGRATOR, field: value})
    assert str(caught.value).startswith(f"{field}: ")
    assert S3_INTEGRATOR["secret-key"] not in str(caught.value)


def test_no_secret_is_shown_by_accident() -> None:
    engines = Engines(database(), storage())
    for secret in ("s3cret", "AKIAEXAMPLE", "relation_id_7"):
        assert secret not in repr(engines)


def test_what_a_provider_says_stays_one_value_of_the_settings() -> None:
    """YAML's own marks in it make no other key."""
    found = storage(bucket="a: {b", region="'\"#", access_key="- x", tls_ca_chain="")
    text = options().configuration(engines=Engines(database(), found))
    written = yaml.safe_load(text)
    assert written.keys() == {"http", "log", "database", "storage"}
    assert written["storage"]["s3"]["bucket"] == "a: {b"
    assert written["storage"]["s3"]["region"] == "'\"#"


def test_two_places_for_blobs_are_one_too_many() -> None:
    engines = Engines(database(), storage())
    chosen = options(**{"storage-config": "fs: {root-directory: /srv/aar}"})
    with pytest.raises(InvalidOption, match="storage-config: empty it"):
        chosen.configuration(engines=engines)


def test_the_registry_itself_takes_these_settings() -> None:
    engines = Engines(database(tls="true", tls_ca=AUTHORITY), storage())
    text = options().configuration(engines=engines)
    read(io.BytesIO(text.encode()), "main.yaml", Settings)

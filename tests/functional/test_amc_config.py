"""`amc config …` as processes against a running service: the page's commands, and wrong input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from support import pairs
from support.ams import Service, running

DEFAULTS = {
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


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


def test_show_prints_every_option_under_config(service: Service) -> None:
    shown = service.ok("config", "show")
    assert shown.startswith("config:\n  registry.url: ''\n")
    assert yaml.safe_load(shown) == {"config": DEFAULTS}
    assert json.loads(service.ok("config", "show", "--format", "json")) == {"config": DEFAULTS}


@pytest.mark.parametrize(
    ("name", "value", "shown", "default"),
    [
        ("registry.mode", "push", "push", "pull"),
        ("registry.update_interval", "5m", "5m", "1h"),
        ("registry.update_interval", "90m", "1h30m", "1h"),
        ("registry.url", "https://192.168.178.45:3000", "https://192.168.178.45:3000", ""),
        ("registry.filter", "b, a", "a,b", ""),
        ("application.auto_publish", "false", "false", "true"),
        ("application.max_published_versions", "5", "5", "3"),
    ],
)
def test_set_and_get(service: Service, name: str, value: str, shown: str, default: str) -> None:
    assert not service.ok("config", "set", name, value)
    assert service.ok("config", "get", name) == shown + "\n"
    service.ok("config", "set", name, "")
    assert service.ok("config", "get", name) == default + "\n"


def test_the_trust_password_is_never_shown(service: Service) -> None:
    service.ok("config", "set", "core.trust_password", "-", stdin="correct horse\n")
    assert service.ok("config", "get", "core.trust_password") == "true\n"
    assert "correct horse" not in service.ok("config", "show")
    assert not service.logged("correct horse")
    service.ok("config", "set", "core.trust_password", "")
    assert service.ok("config", "get", "core.trust_password") == "false\n"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("registry.update_interval", "5 minutes", "write it like 30s, 5m or 1h30m"),
        ("registry.update_interval", "1ms", "too short"),
        ("registry.update_interval", "-5m", "not a duration"),
        ("registry.url", "192.168.178.45:3000", "https://192.168.178.45:3000"),
        ("registry.url", "http://192.168.178.45:3000", "only https"),
        ("registry.url", "https://host:3000/path", "no path"),
        ("registry.fingerprint", "not-hex", "is not a fingerprint"),
        ("registry.fingerprint", "ab" * 32, "amc config trust add"),
        ("registry.mode", "both", "pull, push, manual"),
        ("application.auto_publish", "perhaps", "neither true nor false"),
        ("application.max_published_versions", "0", "not a number from 1"),
        ("registry.interval", "5m", "did you mean registry.update_interval"),
        ("nonsense", "5m", "amc config show"),
    ],
)
def test_a_bad_value_is_refused_and_changes_nothing(
    service: Service, name: str, value: str, words: str
) -> None:
    before = service.state()
    message = service.fails("config", "set", "--", name, value)
    assert words in message
    assert service.state() == before


def test_get_of_an_unknown_option(service: Service) -> None:
    assert "amc config show" in service.fails("config", "get", "nonsense")


@pytest.mark.parametrize(
    "arguments",
    [
        ("config", "set", "registry.mode"),
        ("config", "set", "registry.mode", "push", "extra"),
        ("config", "set", "registry.mode", "push", "--timeout", "soon"),
        ("config", "show", "--format", "table"),
        ("config", "unknown"),
        ("config", "trust", "remove"),
    ],
)
def test_wrong_usage_is_exit_code_2(service: Service, arguments: tuple[str, ...]) -> None:
    before = service.state()
    assert "--help'" in service.fails(*arguments, code=2)
    assert service.state() == before


# Trust, in the order of the page


def test_the_pages_commands_with_a_registrys_certificate(service: Service, tmp_path: Path) -> None:
    pair = pairs.make(tmp_path, "registry", usage="server")
    fingerprint = str(pair.certificate.fingerprint)
    assert fingerprint in service.ok("config", "trust", "add", pair.cert_path)
    listed = service.ok("config", "trust", "list")
    for heading in ("FINGERPRINT", "COMMON NAME", "ISSUE DATE", "EXPIRY DATE"):
        assert heading in listed
    assert fingerprint[:12] in listed
    # What the table shows is enough for every other command.
    service.ok("config", "set", "registry.fingerprint", fingerprint[:12])
    assert service.ok("config", "get", "registry.fingerprint") == fingerprint + "\n"
    service.ok("config", "set", "registry.fingerprint", "")
    removed = service.ok("config", "trust", "remove", fingerprint[:12])
    assert removed == f"Certificate {fingerprint} is no longer trusted\n"


def test_add_from_standard_input_and_list_for_programs(service: Service, tmp_path: Path) -> None:
    pair = pairs.make(tmp_path, "client-a", usage="client")
    pem = pair.cert_path.read_text()
    service.ok("config", "trust", "add", "-", stdin=pem)
    (row,) = json.loads(service.ok("config", "trust", "ls", "--format", "json"))
    assert row["fingerprint"] == str(pair.certificate.fingerprint)
    assert row["common_name"] == "client-a"
    assert row["certificate"] == pair.certificate.pem
    assert yaml.safe_load(service.ok("config", "trust", "list", "--format", "yaml")) == [row]
    csv = service.ok("config", "trust", "list", "--format", "csv").splitlines()
    assert csv[0] == "FINGERPRINT,COMMON NAME,ISSUE DATE,EXPIRY DATE"
    assert csv[1].startswith(f"{row['fingerprint']},client-a,")
    service.ok("config", "trust", "rm", row["fingerprint"].upper())
    assert service.ok("config", "trust", "list", "--format", "json") == "[]\n"
    assert service.ok("config", "trust", "list", "--format", "yaml") == "[]\n"


def test_a_duplicate_is_refused(service: Service, tmp_path: Path) -> None:
    pair = pairs.make(tmp_path, "twice", usage="client")
    service.ok("config", "trust", "add", pair.cert_path)
    before = service.state()
    assert service.fails("config", "trust", "add", pair.cert_path) == "certificate already exists"
    assert service.state() == before
    service.ok("config", "trust", "remove", str(pair.certificate.fingerprint))


def test_what_is_no_usable_certificate_is_refused(service: Service, tmp_path: Path) -> None:
    pair = pairs.make(tmp_path, "good", usage="client")
    key = pair.key_path.read_text()
    expired = pairs.make(tmp_path, "old", ends=timedelta(hours=-1))
    pem = pair.cert_path.read_text()
    text = tmp_path / "notes.txt"
    text.write_text("nothing of the kind")
    before = service.state()
    cases = [
        (pair.key_path, "private key"),
        (expired.cert_path, "expired on"),
        (text, "not an X.509 certificate"),
        (tmp_path / "missing.crt", "missing.crt"),
        (tmp_path, "directory"),
    ]
    for path, words in cases:
        message = service.fails("config", "trust", "add", path)
        assert words.lower() in message.lower()
    for stdin, words in [("", "empty"), (pem + pem, "2 certificates"), (key, "private key")]:
        assert words in service.fails("config", "trust", "add", "-", stdin=stdin)
    body = key.splitlines()[1]
    assert not service.logged(body)
    assert service.state() == before


@pytest.mark.parametrize(
    ("fingerprint", "words"),
    [("00" * 32, "no certificate"), ("abc", "at least 8"), ("zz" * 32, "not a fingerprint")],
)
def test_remove_of_what_is_not_there(service: Service, fingerprint: str, words: str) -> None:
    before = service.state()
    assert words in service.fails("config", "trust", "remove", fingerprint)
    assert service.state() == before

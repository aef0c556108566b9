"""The charm's registry against the real `aar`: what one says, the other understands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from machine_service import CommandFailed, MachineServiceError
from registry import PROGRAM, Registry
from support.commands import Commands
from support.databags import certificate


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    home = tmp_path / PROGRAM.home.relative_to("/")
    environ = {**os.environ, PROGRAM.home_variable: str(home)}
    return Registry(Commands(PROGRAM, tmp_path, environ))  # type: ignore[arg-type]


def row(name: str, role: str = "client", origin: str = "client:3", *limits: str) -> dict[str, Any]:
    return {
        "certificate": certificate(name).pem,
        "role": role,
        "origin": origin,
        "architectures": list(limits),
    }


def fingerprint(name: str) -> str:
    return str(certificate(name).fingerprint)


def held(registry: Registry) -> dict[str, tuple[str, str, list[str]]]:
    return {
        entry["Fingerprint"]: (entry["Role"], entry["Origin"], entry["Architectures"])
        for entry in registry.trusted()
    }


def test_the_relations_rows_are_exactly_those_wanted(registry: Registry) -> None:
    registry.trust(certificate("by-hand").pem, publisher=True, architectures=["arm64"])
    by_hand = {fingerprint("by-hand"): ("publisher", "manual", ["arm64"])}
    assert held(registry) == by_hand

    wanted = [row("one"), row("two", "publisher", "publisher:4", "amd64"), row("by-hand")]
    assert registry.trust_exactly(wanted) == ()
    assert held(registry) == by_hand | {
        fingerprint("one"): ("client", "juju:client:3", []),
        fingerprint("two"): ("publisher", "juju:publisher:4", ["amd64"]),
    }
    assert registry.trust_exactly([]) == ()
    assert held(registry) == by_hand


def test_what_was_revoked_is_refused_and_said(registry: Registry) -> None:
    registry.trust_exactly([row("one"), row("two")])
    registry.revoke(fingerprint("one")[:12])
    (refusal,) = registry.trust_exactly([row("one"), row("two")])
    assert refusal.fingerprint == fingerprint("one")
    assert "revoked" in refusal.message
    assert held(registry).keys() == {fingerprint("two")}
    assert [entry["Fingerprint"] for entry in registry.trusted(revoked=True)] == [
        fingerprint("one")
    ]


def test_a_refused_command_is_one_line(registry: Registry) -> None:
    registry.trust_exactly([row("one")])
    with pytest.raises(CommandFailed, match=r"^certificate already exists$"):
        registry.trust(certificate("one").pem, publisher=False, architectures=[])
    with pytest.raises(CommandFailed, match="no certificate has a fingerprint"):
        registry.distrust("0123456789ab")
    with pytest.raises(CommandFailed, match="is not a fingerprint"):
        registry.revoke("--help")
    with pytest.raises(CommandFailed, match="game"):
        registry.delete("game", None, None)


def test_an_empty_registry_lists_nothing(registry: Registry) -> None:
    assert registry.trusted() == []
    assert registry.applications() == []


def configured(tmp_path: Path, text: str = "") -> None:
    settings = tmp_path / PROGRAM.home.relative_to("/") / "conf/main.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text(text)


def test_a_certificate_goes_from_one_unit_to_another(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(MachineServiceError, match="there is no certificate"):
        registry.key_and_certificate()
    made = registry.rotate_certificate()
    assert registry.certificate() == made
    pair = registry.key_and_certificate()
    again = registry.rotate_certificate()
    assert again != made
    registry.take_certificate(pair)
    assert registry.certificate() == made
    with pytest.raises(CommandFailed, match="exactly one private key"):
        registry.take_certificate(again.pem)
    assert registry.certificate() == made


def test_what_would_be_missed_is_data(registry: Registry, tmp_path: Path) -> None:
    assert not registry.has_data(), "it has never been configured"
    configured(tmp_path)
    assert not registry.has_data()
    registry.trust_exactly([row("one")])
    assert not registry.has_data(), "the relation asks for it again"
    registry.trust(certificate("by-hand").pem, publisher=False, architectures=[])
    assert registry.has_data()
    registry.distrust(fingerprint("by-hand"))
    assert not registry.has_data()
    registry.revoke(fingerprint("one"))
    assert registry.has_data(), "a revocation is for ever"


def test_shared_is_what_the_settings_say(registry: Registry, tmp_path: Path) -> None:
    assert not registry.is_shared
    configured(tmp_path, "database: {url: 'postgresql://a:b@192.0.2.1:5432/aar'}\n")
    assert registry.is_shared


@pytest.mark.parametrize(
    "text", ["", "[]", "database: []", "database: {url: [1]}", "{", "database: {url: sqlite://x}"]
)
def test_other_settings_are_not(registry: Registry, tmp_path: Path, text: str) -> None:
    configured(tmp_path, text)
    assert not registry.is_shared


def test_a_registry_that_never_ran_has_no_certificate(registry: Registry) -> None:
    with pytest.raises(MachineServiceError, match=r"server\.crt can't be used"):
        registry.certificate()

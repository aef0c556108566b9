"""`amc config apply` and its REST resource against a running service, as the charm uses them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from aar_interface import Certificate
from regkit import pinned
from regkit.identity import Identity
from support import pairs
from support.ams import Service, running

URL = "https://192.168.178.45:3000"
RELATED = ("registry.url", "registry.fingerprint", "registry.mode")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


@pytest.fixture
def service(shared: Service) -> Iterator[Service]:
    """The service as it was at first, which every test leaves behind."""
    before = shared.state()
    yield shared
    for owner in ("juju", "other"):
        assert shared.api("PUT", f"/1.0/config/managed/{owner}", json={"config": {}}).ok
    assert shared.state() == before


@pytest.fixture
def registry(tmp_path: Path) -> pairs.Pair:
    return pairs.make(tmp_path, "registry", usage="server")


def related(certificate: Certificate, mode: str = "pull") -> dict[str, object]:
    """What a relation with a registry wants."""
    return {
        "config": {
            "registry.url": URL,
            "registry.fingerprint": str(certificate.fingerprint),
            "registry.mode": mode,
        },
        "certificates": [certificate.pem],
    }


def apply(service: Service, document: object, owner: str = "juju") -> dict[str, object]:
    said = json.loads(
        service.ok("config", "apply", "--owner", owner, "-", stdin=json.dumps(document))
    )
    certificates = {name: found for name, found in said.pop("certificates").items() if found}
    assert set(said) == {"changed"}
    return {**said, **certificates}


def test_a_relation_comes_changes_and_goes(service: Service, registry: pairs.Pair) -> None:
    certificate = registry.certificate
    fingerprint = str(certificate.fingerprint)
    service.ok("config", "set", "registry.update_interval", "5m")
    service.ok("config", "set", "registry.mode", "manual")

    said = apply(service, related(certificate))
    assert said == {"changed": list(RELATED), "added": [fingerprint]}
    config = yaml.safe_load(service.ok("config", "show"))["config"]
    assert [config[name] for name in RELATED] == [URL, fingerprint, "pull"]
    assert config["registry.update_interval"] == "5m"
    assert apply(service, related(certificate)) == {"changed": [], "unchanged": [fingerprint]}

    message = service.fails("config", "set", "registry.url", "https://10.0.0.1:3000")
    assert message.startswith("registry.url is managed by juju: ")
    assert apply(service, related(certificate, "push"))["changed"] == ["registry.mode"]
    assert "managed by juju" in service.fails(
        "config", "apply", "--owner", "other", stdin='{"config": {"registry.mode": "pull"}}'
    )

    nothing: dict[str, object] = {"config": {}, "certificates": []}
    assert apply(service, nothing) == {"changed": list(RELATED), "removed": [fingerprint]}
    config = yaml.safe_load(service.ok("config", "show"))["config"]
    assert [config[name] for name in RELATED] == ["", "", "manual"]
    assert config["registry.update_interval"] == "5m"
    assert apply(service, nothing) == {"changed": []}
    service.ok("config", "set", "registry.update_interval", "")
    service.ok("config", "set", "registry.mode", "")


def test_a_certificate_trusted_by_hand_stays(
    service: Service, registry: pairs.Pair, tmp_path: Path
) -> None:
    service.ok("config", "trust", "add", registry.cert_path)
    fingerprint = str(registry.certificate.fingerprint)
    assert apply(service, related(registry.certificate))["kept"] == [fingerprint]
    apply(service, {"certificates": []})
    assert fingerprint in service.ok("config", "trust", "list", "--format", "json")
    service.ok("config", "trust", "remove", fingerprint)


def test_show_says_who_set_what(service: Service) -> None:
    service.ok("config", "set", "registry.filter", "games")
    document = {"config": {"registry.mode": "push", "application.auto_publish": False}}
    apply(service, document)
    shown = json.loads(service.ok("config", "show", "--origin", "--format", "json"))["config"]
    assert shown["registry.mode"] == {"value": "push", "origin": "juju"}
    assert shown["application.auto_publish"] == {"value": False, "origin": "juju"}
    assert shown["registry.filter"] == {"value": "games", "origin": "manual"}
    assert shown["registry.url"] == {"value": "", "origin": "default"}
    plain = json.loads(service.ok("config", "show", "--format", "json"))["config"]
    assert plain == {name: item["value"] for name, item in shown.items()}
    service.ok("config", "set", "registry.filter", "")


def test_documents_in_yaml_keep_their_texts(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "wanted.yaml"
    path.write_text(
        "config:\n  application.auto_publish: no\n  application.max_published_versions: 5\n"
        "  registry.update_interval: 90m\n  core.trust_password: 0123\n"
    )
    said = service.ok("config", "apply", path, "--owner", "juju", "--format", "yaml")
    assert yaml.safe_load(said)["changed"] == [
        "registry.update_interval",
        "application.auto_publish",
        "application.max_published_versions",
        "core.trust_password",
    ]
    config = json.loads(service.ok("config", "show", "--format", "json"))["config"]
    assert config["application.auto_publish"] is False
    assert config["application.max_published_versions"] == 5
    assert config["registry.update_interval"] == "1h30m"
    assert json.loads(service.ok("config", "apply", path, "--owner", "juju"))["changed"] == []
    managed = service.api("GET", "/1.0/config/managed/juju").json()["metadata"]
    assert managed == {
        "config": {
            "registry.update_interval": "1h30m",
            "application.auto_publish": "false",
            "application.max_published_versions": "5",
            "core.trust_password": "true",
        },
        "certificates": [],
    }


def test_faults_are_one_line_and_change_nothing(
    service: Service, registry: pairs.Pair, tmp_path: Path
) -> None:
    apply(service, related(registry.certificate))
    before = service.state()
    old = pairs.make(tmp_path, "old", ends=timedelta(hours=-1)).certificate
    key = registry.key_path.read_text()
    pin = str(registry.certificate.fingerprint)
    cases: list[tuple[object, tuple[str, ...]]] = [
        (
            {"config": {"registry.ulr": "x", "registry.mode": "both"}},
            ("did you mean registry.url", "registry.mode: 'both' is not a mode"),
        ),
        ({"config": {"registry.fingerprint": pin}}, ("no trusted certificate", pin)),
        ({"config": {"registry.url": None}}, ("config.registry.url: must be a text",)),
        ({"config": {"registry.url": [URL]}}, ("config.registry.url: must be a text",)),
        ({"config": [], "certificates": {}}, ("config: ", "certificates: ")),
        ({"konfig": {}}, ("konfig: unknown key",)),
        ({}, ("give config, certificates or both",)),
        ({"certificates": [old.pem]}, ("(old) expired on",)),
        ({"certificates": [old.pem, "text"]}, ("certificates[1]: ",)),
        ({"certificates": [5]}, ("certificates[0]: must be a text",)),
    ]
    for document, words in cases:
        answer = service.api("PUT", "/1.0/config/managed/juju", json=document)
        assert answer.status_code == 400
        assert all(word in answer.json()["error"] for word in words), answer.text
        assert service.state() == before
    for owner in ("manual", "default", "Juju", "a b", "x" * 33):
        answer = service.api("PUT", f"/1.0/config/managed/{owner}", json={"config": {}})
        assert (answer.status_code, owner in answer.json()["error"]) == (400, True)
        assert service.api("GET", f"/1.0/config/managed/{owner}").status_code == 400

    def refused(document: str, words: str, owner: str = "juju") -> None:
        assert words in service.fails("config", "apply", "--owner", owner, stdin=document)
        assert service.state() == before

    refused(json.dumps(cases[0][0]), "did you mean registry.url")
    refused(json.dumps({"certificates": [key]}), "standard input: certificates[0]: ")
    refused("config: {}\nconfig: {}\n", "there twice")
    refused("#" * 600_000, "too large")
    refused("", "must hold keys and values")
    refused('{"config": {}}', "is not an owner's name", owner="..")
    service.fails("config", "apply", code=2)
    assert not service.logged(key.splitlines()[1])


def test_over_tls_it_takes_trust(service: Service, tmp_path: Path) -> None:
    host, port = service.address()
    pin = Certificate.parse((service.home / "server" / "ams.crt").read_bytes()).fingerprint
    stranger = pairs.make(tmp_path, "stranger")
    own = Identity(stranger.certificate, stranger.cert_path, stranger.key_path)
    with pinned.session(pin, own) as session:
        for method, path in [
            ("PUT", "/1.0/config/managed/juju"),
            ("GET", "/1.0/config/managed/juju"),
            ("GET", "/1.0/config/origins"),
        ]:
            answer = session.request(
                method, f"https://{host}:{port}{path}", json={"config": {"registry.mode": "push"}}
            )
            assert answer.status_code == 403

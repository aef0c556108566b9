"""Who may use the API over TLS: certificates decide, at once, and refusals are logged."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from aar_interface import Certificate
from ams.client import Client
from ams.web import swagger
from regkit import pinned
from regkit.errors import Forbidden
from regkit.identity import Identity
from support import pairs
from support.ams import Service, running, until


class Remote:
    """The service as a caller elsewhere sees it."""

    def __init__(self, service: Service) -> None:
        host, port = service.address()
        self.url = f"https://{host}:{port}"
        pem = (service.home / "server" / "ams.crt").read_text()
        self.pin = Certificate.parse(pem).fingerprint

    def call(
        self, pair: pairs.Pair | None, method: str, path: str, **arguments: object
    ) -> requests.Response:
        with pinned.session(self.pin, identity(pair) if pair else None) as session:
            return session.request(method, self.url + path, **arguments)  # type: ignore[arg-type]


def identity(pair: pairs.Pair) -> Identity:
    return Identity(pair.certificate, pair.cert_path, pair.key_path)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


@pytest.fixture(scope="module")
def remote(service: Service) -> Remote:
    return Remote(service)


def refused(response: requests.Response, *words: str) -> None:
    body = response.json()
    assert (response.status_code, body["type"], body["error_code"]) == (403, "error", 403)
    for word in words:
        assert word in body["error"]


def test_a_trusted_client_may_everything(service: Service, remote: Remote, tmp_path: Path) -> None:
    pair = pairs.make(tmp_path, "trusted")
    service.ok("config", "trust", "add", pair.cert_path)
    status = remote.call(pair, "GET", "/1.0").json()["metadata"]
    assert status["auth"] == "trusted"
    with Client.remote(remote.url, remote.pin, identity(pair)) as client:
        client.wait(client.set_config("registry.filter", "remote"), 30)
        assert client.config()["registry.filter"] == "remote"
        client.wait(client.set_config("registry.filter", ""), 30)
    # Trust that is taken away is gone at once, on a connection that is kept open too.
    with pinned.session(remote.pin, identity(pair)) as session:
        assert session.get(f"{remote.url}/1.0/config").status_code == 200
        service.ok("config", "trust", "remove", str(pair.certificate.fingerprint))
        refused(session.get(f"{remote.url}/1.0/config"), "not trusted")


def test_what_is_open_to_all(remote: Remote, tmp_path: Path) -> None:
    for pair in (None, pairs.make(tmp_path, "stranger")):
        for path in ("/", "/1.0", "/1.0/version"):
            assert remote.call(pair, "GET", path).status_code == 200
        status = remote.call(pair, "GET", "/1.0").json()["metadata"]
        assert status["auth"] == "untrusted"


def closed() -> list[tuple[str, str]]:
    """Every described request that needs trust, and one that isn't described."""
    found = [("GET", "/1.0/there-is-none"), ("GET", "/1.0/containers")]
    for path, methods in swagger.document()["paths"].items():
        asked = path.replace("{number}", "0").replace("{prefix}", "00000000")
        for method, operation in methods.items():
            if operation.get("security") != [{}]:
                found.append((method.upper(), re.sub(r"\{\w+\}", "x", asked)))
    return [*found, ("POST", "/1.0/certificates")]  # open to who has the trust password


def test_strangers_may_nothing_and_are_logged(
    service: Service, remote: Remote, tmp_path: Path
) -> None:
    before = service.state()
    stranger = pairs.make(tmp_path, "stranger")
    requests_ = closed()
    assert len(requests_) > 30
    for method, path in requests_:
        refused(remote.call(stranger, method, path), "not authorized", "not trusted")
        mark = str(stranger.certificate.fingerprint)
        until(lambda m=method, p=path, f=mark: service.logged("refused", m, p, f))
    refused(remote.call(None, "GET", "/1.0/config"), "no client certificate")
    assert service.state() == before


def test_a_servers_certificate_in_the_trust_store_is_no_key_to_the_api(
    service: Service, remote: Remote, tmp_path: Path
) -> None:
    """A registry's certificate is imported for pinning only; a thief of its key gets nothing."""
    registry = pairs.make(tmp_path, "registry", usage="server")
    service.ok("config", "trust", "add", registry.cert_path)
    refused(remote.call(registry, "GET", "/1.0/config"), "server's")
    until(lambda: service.logged("refused", "server's", str(registry.certificate.fingerprint)))
    service.ok("config", "trust", "remove", str(registry.certificate.fingerprint))
    # Without the extension a certificate may stand for either side (RFC 5280, 4.2.1.12).
    plain = pairs.make(tmp_path, "plain", usage=None)
    service.ok("config", "trust", "add", plain.cert_path)
    assert remote.call(plain, "GET", "/1.0/config").status_code == 200
    service.ok("config", "trust", "remove", str(plain.certificate.fingerprint))


def test_a_client_registers_itself_with_the_trust_password(
    service: Service, remote: Remote, tmp_path: Path
) -> None:
    pair = pairs.make(tmp_path, "newcomer")
    body = {"certificate": pair.certificate.pem, "trust-password": "correct horse"}
    refused(remote.call(pair, "POST", "/1.0/certificates", json=body), "not trusted")
    service.ok("config", "set", "core.trust_password", "-", stdin="correct horse")
    wrong = {**body, "trust-password": "battery staple"}
    refused(remote.call(pair, "POST", "/1.0/certificates", json=wrong), "password is wrong")
    assert not service.logged("battery staple")
    assert remote.call(pair, "POST", "/1.0/certificates", json=body).status_code == 200
    assert remote.call(pair, "GET", "/1.0/config").status_code == 200
    service.ok("config", "set", "core.trust_password", "")
    service.ok("config", "trust", "remove", str(pair.certificate.fingerprint))


def test_an_expired_certificate(service: Service, remote: Remote, tmp_path: Path) -> None:
    hour = timedelta(hours=1)
    for pair, words in [
        (pairs.make(tmp_path, "old", ends=-hour), "expired"),
        (pairs.make(tmp_path, "early", starts=hour, ends=2 * hour), "not valid before"),
    ]:
        assert words in service.fails("config", "trust", "add", pair.cert_path)
        refused(remote.call(pair, "GET", "/1.0/config"), words)


def test_the_client_tells_refusals_apart(remote: Remote, tmp_path: Path) -> None:
    stranger = pairs.make(tmp_path, "stranger")
    with (
        Client.remote(remote.url, remote.pin, identity(stranger)) as client,
        pytest.raises(Forbidden, match="not trusted"),
    ):
        client.config()


def test_the_servers_certificate_suits_the_public_sdk(service: Service) -> None:
    """`GetTLSConfig` of the SDK needs a DNS name in it."""
    certificate = Certificate.parse((service.home / "server" / "ams.crt").read_text())
    assert any(not name.replace(".", "").isdigit() for name in certificate.names)
    assert (service.home / "server" / "ams.key").stat().st_mode & 0o077 == 0
    client = Certificate.parse((service.home / "registry" / "client.crt").read_text())
    assert client.client_usable
    assert (service.home / "registry" / "client.key").stat().st_mode & 0o077 == 0


def test_only_current_tls(service: Service) -> None:
    host, port = service.address()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((host, port), 10) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
        context.wrap_socket(plain) as wrapped,
    ):
        wrapped.recv(1)

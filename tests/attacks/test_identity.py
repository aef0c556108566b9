"""Who somebody is: only the key of a certificate says so, never a word that they send."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator

import pytest
from OpenSSL import SSL

from aar_interface import Role
from support.distribution import push_application, push_blob
from support.registry import RunningRegistry, make_identity, running
from support.wire import context, dialled, everything, exchange

PATIENCE = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    settings = {"http": {"addr": "127.0.0.1:0", "workers": 2, "minimum-tls": "1.2"}}
    with running(tmp_path_factory.mktemp("aar"), settings=settings) as server:
        yield server


def ask(connection: ssl.SSLSocket, path: str = "/v2/") -> bytes:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return everything(connection)


def test_a_client_of_another_deployment_is_nobody(
    server: RunningRegistry, tmp_path_factory: pytest.TempPathFactory
):
    with running(tmp_path_factory.mktemp("other")) as other:
        foreigner = server.new_session(other.publisher.identity)
        assert other.publisher.get("/v2/").status_code == 200
        for method, path in (("GET", "/v2/"), ("GET", "/1.0/changes"), ("DELETE", "/v2/a/b")):
            assert foreigner.request(method, path).status_code == 403
        # Nor is the other registry itself: a server's certificate opens nothing.
        pair = other.home / "test" / "pair.pem"
        pair.write_bytes(
            (other.home / "certs/server.key").read_bytes()
            + (other.home / "certs/server.crt").read_bytes()
        )
        with dialled(server.port, pair) as connection:
            assert b" 403 " in ask(connection).split(b"\r\n")[0]


def test_a_certificate_that_only_names_another_is_not_it(server: RunningRegistry):
    """Same name, same serial, same issuer: what counts is the whole and its key."""
    twin = make_identity(server.home / "twin", "publisher")
    assert twin.certificate.common_name == server.publisher.certificate.common_name
    assert server.new_session(twin).get("/v2/").status_code == 403


HEADERS: tuple[str, ...] = (
    "X-SSL-Client-Cert", "X-SSL-CERT", "SSL-Client-Cert", "SSL_CLIENT_CERT", "X-Client-Cert",
    "X-Forwarded-Client-Cert", "X-Forwarded-Tls-Client-Cert", "Client-Cert", "X-ARR-ClientCert",
    "X-SSL-Client-Verify", "X-SSL-Client-Fingerprint", "X-SSL-Client-SHA1", "SSL-Client-Verify",
    "X-Amzn-Mtls-Clientcert", "Gunicorn.Socket", "gunicorn-socket", "Wsgi.Input", "Remote-User",
    "X-Remote-User", "Authorization", "X-Forwarded-User", "X-AAR-Role", "Role", "Cookie",
)  # fmt: skip


def test_no_header_makes_anybody_somebody(server: RunningRegistry):
    publisher = server.publisher.certificate
    values = [
        publisher.pem.replace("\n", "%0A"),
        "".join(publisher.pem.splitlines()[1:-1]),
        str(publisher.fingerprint),
        "SUCCESS",
        "publisher",
    ]
    for session in (server.stranger, server.nobody):
        for value in values:
            # Not all at once: 100 headers are the most that a request may have.
            headers = dict.fromkeys(HEADERS, value)
            assert session.get("/v2/", headers=headers).status_code == 403
            root = session.get("/1.0", headers=headers).json()["metadata"]
            assert (root["auth"], root["role"]) == ("untrusted", "")
    headers = dict.fromkeys(HEADERS, "publisher")
    pushed = server.client.post("/v2/a/blobs/uploads/", headers=headers)
    assert pushed.status_code == 403


@pytest.mark.parametrize(
    "header",
    [
        "X-HTTP-Method-Override: GET", "X-Method-Override: GET", "X-HTTP-Method: GET",
        "X-Original-URL: /1.0/status", "X-Rewrite-URL: /1.0/status", "Script-Name: /1.0/status",
        "SCRIPT_NAME: /1.0/status", "PATH_INFO: /1.0/status", "Path-Info: /1.0/status",
        "X-Forwarded-Prefix: /1.0/status", "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1",
        "Forwarded: for=127.0.0.1;proto=https;host=localhost", "X-Forwarded-Proto: https",
        "X-Forwarded-Host: localhost", "X-Forwarded-Ssl: on", "Host: /1.0/status",
        "Host: localhost", "Upgrade: h2c", "Transfer-Encoding: identity",
    ],
)  # fmt: skip
def test_no_header_makes_a_request_another_one(server: RunningRegistry, header: str):
    host = "" if header.startswith("Host") else "Host: x\r\n"
    assert server.client.identity is not None
    request = f"DELETE /1.0/applications/a HTTP/1.1\r\n{host}{header}\r\nConnection: close\r\n\r\n"
    mark = server.log_mark()
    answer = exchange(server.port, server.client.identity.path, request.encode())
    assert answer.split(b" ")[1] in (b"403", b"400"), answer
    if b" 403 " in answer:
        refused = server.logged("refused", mark)
        assert (refused["method"], refused["path"]) == ("DELETE", "/1.0/applications/a")
        assert refused["address"] == "127.0.0.1"


def test_roles_are_the_registrys_word(server: RunningRegistry):
    """A client stays one whatever it says, and becomes a publisher only there."""
    push_application(server.publisher, "roles")
    confused = server.add_session("client")
    for question in ("?role=publisher", "?publisher=1", "?mode=publisher"):
        assert confused.post(f"/v2/roles/blobs/uploads/{question}").status_code == 403
        assert confused.delete(f"/1.0/applications/roles{question}").status_code == 403
    root = confused.get("/1.0?role=publisher", headers={"X-Role": "publisher"}).json()
    assert root["metadata"]["role"] == "client"
    # The same connection, before and after it was made a publisher and a client again.
    server.remove(confused)
    server.trust(confused.certificate, Role.PUBLISHER)
    push_blob(confused, "roles", b"now it may")
    server.remove(confused)
    server.trust(confused.certificate, Role.CLIENT)
    assert confused.post("/v2/roles/blobs/uploads/").status_code == 403


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_resumed_after_a_revocation_opens_nothing(
    server: RunningRegistry, version: ssl.TLSVersion
):
    """A ticket holds the certificate as it was: whether it is trusted is asked anew."""
    victim = server.add_session("client")
    assert victim.identity is not None
    made = context(victim.identity.path)
    made.minimum_version = made.maximum_version = version

    def dial(session: ssl.SSLSession | None) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        return made.wrap_socket(plain, session=session)

    with dial(None) as first:
        assert b" 200 " in ask(first)
        session = first.session
    with dial(session) as again:
        assert again.session_reused
        assert b" 200 " in ask(again)
        session = again.session or session
    server.revoke(victim)
    with dial(session) as resumed:
        assert resumed.session_reused, "else this proves nothing"
        assert b" 403 " in ask(resumed).split(b"\r\n")[0]


def test_nobody_renegotiates(server: RunningRegistry):
    """TLS 1.2 can begin anew in the middle, as somebody else: here it can't."""
    assert server.client.identity is not None
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_max_proto_version(SSL.TLS1_2_VERSION)
    client.use_certificate_file(str(server.client.identity.path))
    client.use_privatekey_file(str(server.client.identity.path))
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain:
        plain.settimeout(None)  # pyOpenSSL wants a blocking one
        connection = SSL.Connection(client, plain)
        connection.set_connect_state()
        connection.do_handshake()
        assert connection.get_protocol_version_name() == "TLSv1.2"
        connection.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in connection.recv(65536)
        assert connection.renegotiate()
        with pytest.raises(SSL.Error):
            connection.do_handshake()
            connection.recv(1)  # the server's alert, if not before


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_below_the_lowest_floor_nobody_shakes_hands(server: RunningRegistry, version: str):
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    old = {"-tls1": SSL.TLS1_VERSION, "-tls1_1": SSL.TLS1_1_VERSION}[version]
    client.set_min_proto_version(old)
    client.set_max_proto_version(old)
    client.set_cipher_list(b"ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain:
        plain.settimeout(None)
        connection = SSL.Connection(client, plain)
        connection.set_connect_state()
        with pytest.raises(SSL.Error, match=r"protocol version|no protocols"):
            connection.do_handshake()


def test_what_is_refused_tells_nothing(server: RunningRegistry):
    """A stranger can't tell what exists from what doesn't."""
    push_application(server.publisher, "secret-name")
    for known, unknown in (
        ("/v2/secret-name/tags/list", "/v2/other-names/tags/list"),
        ("/1.0/applications/secret-name", "/1.0/applications/other-names"),
        ("/v2/secret-name/manifests/0-amd64", "/v2/secret-name/manifests/9-amd64"),
        ("/v2/", "/no-such-thing"),
    ):
        answers = [server.stranger.get(path) for path in (known, unknown)]
        assert {answer.status_code for answer in answers} == {403}
        told = [json.dumps(answer.json()) for answer in answers]
        if known.startswith("/v2/") == unknown.startswith("/v2/"):
            assert told[0] == told[1]

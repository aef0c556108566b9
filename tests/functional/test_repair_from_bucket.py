"""`aar verify --repair` from a registry whose blobs are in a bucket: its redirects, with care."""

from __future__ import annotations

import json
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aar_interface import Certificate, Role
from regkit import identity, pinned
from regkit.errors import Unavailable
from regkit.oci.digest import Digest
from regkit.upkeep.sources import Registry
from support import engines, pairs
from support.distribution import digest_of, push_application
from support.operator import Operator
from support.radosgw import make_authority
from support.registry import RunningRegistry, running

APK = bytes(range(256)) * 40_000  # 10 MB: two parts in a bucket
DIGEST = digest_of(APK)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningRegistry]:
    with running(tmp_path / "state") as server:
        push_application(server.publisher, "candy", files={"app.apk": APK})
        hexa = DIGEST.partition(":")[2]
        (server.home / "data" / "blobs" / "sha256" / hexa[:2] / hexa).write_bytes(b"?")
        yield server


def repaired(operator: Operator, *options: str) -> dict[str, Any]:
    done = operator.aar("verify", "--repair", "--format", "json", *options)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_lost_content_comes_from_a_peers_bucket(server: RunningRegistry, tmp_path: Path):
    gateway, operator = engines.radosgw(), Operator(tmp_path)
    storage = {"storage": {"s3": gateway.settings(gateway.new_prefix())}}
    with running(tmp_path / "peer", settings=storage) as peer:
        push_application(peer.publisher, "candy", files={"app.apk": APK})
        options = "--from", peer.url, "--fingerprint", str(peer.certificate.fingerprint)
        assert "answered 403" in repaired(operator, *options)["notes"][0]
        own = Certificate.parse((server.home / "certs" / "client.crt").read_bytes())
        peer.trust(own, Role.CLIENT)

        gateway.kill()
        try:
            (note,) = repaired(operator, *options)["notes"]
            assert "answered 503" in note
        finally:
            gateway.start()

        (mended,) = repaired(operator, *options)["damaged"]
        assert mended["restored"] == peer.url
    assert server.client.get(f"/v2/candy/blobs/{DIGEST}").content == APK


@dataclass
class _Host:
    """An HTTPS server that keeps what it was asked with."""

    url: str
    certificate: Path
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    seen: list[dict[str, str]] = field(default_factory=list)
    presented: list[bytes | None] = field(default_factory=list)


def _serve(stack: ExitStack, certificate: Path, key: Path, clients: Path) -> _Host:
    """Start one that asks for a client certificate, and would take the one in `clients`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(clients)
    context.verify_mode = ssl.CERT_OPTIONAL

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            connection: Any = self.connection
            host.presented.append(connection.getpeercert(True))
            host.seen.append({name.lower(): value for name, value in self.headers.items()})
            status, headers, body = host.answers[self.path]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    host = _Host(f"https://127.0.0.1:{server.server_port}", certificate)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    stack.callback(thread.join)
    stack.callback(server.shutdown)
    return host


@dataclass
class _Peer:
    """A registry that redirects, where it redirects to, and how it is asked."""

    front: _Host
    storage: _Host
    source: Registry

    def redirects(self, location: str, authorities: str | None = None) -> None:
        if authorities is None:
            authorities = self.storage.certificate.with_name("ca.pem").read_text()
        told = json.dumps({"metadata": {"storage_authorities": authorities}}).encode()
        self.front.answers = {
            f"/v2/candy/blobs/{DIGEST}": (307, {"Location": location}, b""),
            "/1.0": (200, {}, told),
        }

    def read(self) -> bytes:
        pieces = self.source.read(Digest.parse(DIGEST), ["candy"])
        assert pieces is not None
        return b"".join(pieces)


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[_Peer]:
    own = identity.ensure(tmp_path / "own.crt", tmp_path / "own.key", "aar", (), usage="client")
    pair = pairs.make(tmp_path, "peer", usage="server")
    authority = make_authority(tmp_path)
    with ExitStack() as stack:
        front = _serve(stack, pair.cert_path, pair.key_path, tmp_path / "own.crt")
        storage = _serve(
            stack, authority.server_certificate, authority.server_key, tmp_path / "own.crt"
        )
        session = pinned.session(pair.certificate.fingerprint, own)
        source = Registry(front.url, session)
        stack.callback(source.close)
        yield _Peer(front, storage, source)


def test_the_other_host_learns_nothing_but_the_url(peer: _Peer):
    peer.redirects(f"{peer.storage.url}/b?X-Amz-Signature=1")
    peer.storage.answers["/b?X-Amz-Signature=1"] = (200, {"Set-Cookie": "a=1"}, APK)
    for _ in range(2):
        assert peer.read() == APK
    assert all(peer.front.presented), "the registry is shown the certificate"
    assert peer.storage.presented == [None, None]
    host = peer.storage.url.removeprefix("https://")
    assert peer.storage.seen == [{"host": host, "accept-encoding": "identity"}] * 2


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://127.0.0.1/b?X-Amz-Signature=1", "no https URL"),
        ("file:///etc/passwd?X-Amz-Signature=1", "no https URL"),
        ("https://user:X-Amz-Signature@127.0.0.1/b", "no https URL"),
        ("", "no https URL"),
        ("https://127.0.0.1:1/b?X-Amz-Signature=1", "keeps its files, can't be reached"),
        ("{storage}/again?X-Amz-Signature=1", "answers 307"),
        ("{storage}/gone?X-Amz-Signature=1", "answers 404"),
    ],
)
def test_nothing_else_is_followed_and_no_link_is_told(peer: _Peer, location: str, says: str):
    peer.redirects(location.replace("{storage}", peer.storage.url))
    peer.storage.answers["/again?X-Amz-Signature=1"] = (307, {"Location": peer.storage.url}, b"")
    peer.storage.answers["/gone?X-Amz-Signature=1"] = (404, {}, b"")
    with pytest.raises(Unavailable, match=says) as told:
        peer.read()
    assert "X-Amz-Signature" not in str(told.value)
    assert "\n" not in str(told.value)


def test_only_an_authority_that_the_registry_names_may_vouch(peer: _Peer):
    peer.redirects(f"{peer.storage.url}/b", authorities="")
    with pytest.raises(Unavailable, match="can't be reached"):
        peer.read()
    assert peer.storage.seen == []


@pytest.mark.parametrize(
    "answer", [b"[]", b'{"metadata": 1}', b"{", b"[" * 100_000, b" " * 1_100_000]
)
def test_a_registry_that_names_nothing_readable(peer: _Peer, answer: bytes):
    peer.redirects(f"{peer.storage.url}/b")
    peer.front.answers["/1.0"] = (200, {}, answer)
    with pytest.raises(Unavailable, match=r"says not where it keeps|too much"):
        peer.read()


@pytest.mark.parametrize(
    "spoil",
    [lambda apk: apk[:-1] + b"?", lambda apk: apk + b"?", lambda apk: apk[:-1], lambda _: b""],
    ids=["other", "longer", "shorter", "empty"],
)
def test_what_the_bucket_gives_is_compared(
    server: RunningRegistry, peer: _Peer, tmp_path: Path, spoil: Callable[[bytes], bytes]
):
    peer.redirects(f"{peer.storage.url}/b")
    peer.storage.answers["/b"] = (200, {}, spoil(APK))
    for name in ("crt", "key"):  # the certificate that both servers know
        shutil.copy(tmp_path / f"own.{name}", server.home / "certs" / f"client.{name}")
    pin = Certificate.parse(peer.front.certificate.read_bytes()).fingerprint
    found = repaired(Operator(tmp_path), "--from", peer.front.url, "--fingerprint", str(pin))
    assert "damaged as well" in found["notes"][0]
    assert server.client.get(f"/v2/candy/blobs/{DIGEST}").status_code == 404

"""A site that pulls from a registry on a bucket: redirects, followed once, with care, resumed."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aar_interface import Role
from ams.service import Service
from ams.settings import Settings
from ams.sync.transfer import stage_name
from regkit.elsewhere import Elsewhere, host_of
from regkit.errors import Unavailable
from regkit.oci.digest import Digest
from support import engines
from support.distribution import push_application
from support.radosgw import Authority, RadosGateway, make_authority
from support.registry import RunningRegistry, running

BIG = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def gateway() -> RadosGateway:
    return engines.radosgw()


@pytest.fixture(scope="module")
def registry(gateway, tmp_path_factory) -> Iterator[RunningRegistry]:
    storage = {"storage": {"s3": gateway.settings(gateway.new_prefix())}}
    with running(tmp_path_factory.mktemp("aar"), settings=storage) as server:
        yield server


@pytest.fixture
def service(tmp_path, registry) -> Iterator[Service]:
    with Service(tmp_path / "ams", Settings(architecture="amd64")) as service:
        registry.trust(service.identity.certificate, Role.CLIENT)
        service.trust.add(registry.certificate, Role.CLIENT)
        service.options.set("registry.url", registry.url)
        service.options.set("registry.fingerprint", str(registry.certificate.fingerprint))
        yield service


def test_a_site_pulls_through_redirects_with_no_settings_of_its_own(service, registry):
    push_application(registry.publisher, "bucketed", files={"app.apk": BIG, "small": b"s"})
    assert "import bucketed 0-amd64" in service.sync.sync_now().done
    assert b"".join(service.blobs.read(Digest.of(BIG))) == BIG


def test_a_download_goes_on_where_it_was_cut(service, registry):
    content = os.urandom(2_000_000)
    push_application(registry.publisher, "resumed", files={"app.apk": content})
    with service.blobs.stage(stage_name(Digest.of(content))) as staged:
        staged.write(content[:1_500_000])
        staged.sync()
    done = service.sync.sync_now()
    assert "import resumed 0-amd64" in done.done
    assert b"".join(service.blobs.read(Digest.of(content))) == content
    assert 500_000 <= done.bytes < 600_000 + len(BIG)


def test_a_storage_that_is_gone_is_a_fault_to_try_again(service, registry, gateway):
    push_application(registry.publisher, "waiting", files={"app.apk": BIG[:100_000]})
    gateway.kill()
    try:
        answer = registry.client.get("/v2/waiting/manifests/0-amd64")
        assert answer.status_code == 200
        layer = answer.json()["layers"][0]["digest"]
        answer = registry.client.get(f"/v2/waiting/blobs/{layer}", allow_redirects=False)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    finally:
        gateway.start()
    assert "import waiting 0-amd64" in service.sync.sync_now().done


class _Storage(BaseHTTPRequestHandler):
    """Keeps what it was asked with, and answers `answer`."""

    seen: list[dict[str, str]]
    status = 200

    def do_GET(self) -> None:
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(self.status)
        self.send_header("Set-Cookie", "session=1")
        self.send_header("Location", "https://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def storage(tmp_path) -> Iterator[tuple[str, Authority, type[_Storage]]]:
    """A server that asks for client certificates: its URL, authority and handler."""
    authority = make_authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.server_certificate, authority.server_key)
    handler = type("Handler", (_Storage,), {"seen": []})
    with ExitStack() as stack:
        server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        yield f"https://127.0.0.1:{server.server_port}", authority, handler


def test_the_other_server_learns_nothing_but_the_url_and_the_range(storage):
    url, authority, handler = storage
    elsewhere = Elsewhere(authority.certificate.read_text())
    for _ in range(2):  # the second time it would have a cookie
        with elsewhere.get(f"{url}/blob?signature=1", "bytes=1-") as response:
            assert response.content == b"ok"
    elsewhere.close()
    host = url.removeprefix("https://")
    assert handler.seen == [{"host": host, "accept-encoding": "identity", "range": "bytes=1-"}] * 2


def test_a_redirect_of_a_redirect_is_not_followed(storage):
    url, authority, handler = storage
    handler.status = 307
    elsewhere = Elsewhere(authority.certificate.read_text())
    with pytest.raises(Unavailable, match="answers 307") as caught:
        elsewhere.get(f"{url}/blob?X-Amz-Signature=abc")
    assert "abc" not in str(caught.value)
    elsewhere.close()


def test_only_known_authorities_may_vouch_for_it(storage):
    url, _, handler = storage
    elsewhere = Elsewhere()
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        elsewhere.get(f"{url}/blob")
    assert handler.seen == []
    elsewhere.close()


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1/x", "ftp://host/x", "//host/x", "/x", "", "https://", "https://a@b/x",
     "https://host:99999/x", "https://host/\x01", "https://h/" + "x" * 9000, "file:///etc/passwd"],
)  # fmt: skip
def test_other_targets_are_refused(location):
    with pytest.raises(Unavailable, match="no https URL"):
        host_of(location)


def test_authorities_that_cannot_be_read_are_told():
    with pytest.raises(Unavailable, match=r"storage\.s3\.ca-file"):
        Elsewhere("no certificate")

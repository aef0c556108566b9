"""Who gets in: every kind of certificate at every kind of door, and trust that ends at once."""

from __future__ import annotations

import hashlib
import threading

import pytest

from aar_interface import Role
from support.distribution import EMPTY, codes, digest_of, image_manifest, push_blob, push_image
from support.registry import RunningRegistry, running

MISSING = "sha256:" + "0" * 64
READS = [
    ("GET", "/v2/"),
    ("GET", "/v2/_catalog"),
    ("GET", "/v2/app/tags/list"),
    ("GET", "/v2/app/manifests/v1"),
    ("HEAD", "/v2/app/manifests/v1"),
    ("GET", f"/v2/app/blobs/{digest_of(EMPTY)}"),
    ("HEAD", f"/v2/app/blobs/{digest_of(EMPTY)}"),
    ("GET", f"/v2/app/referrers/{MISSING}"),
    ("GET", "/1.0/applications"),
    ("GET", "/1.0/applications/app"),
    ("GET", "/1.0/changes"),
]
WRITES = [
    ("POST", "/v2/app/blobs/uploads/"),
    ("POST", f"/v2/app/blobs/uploads/?digest={digest_of(EMPTY)}"),
    ("POST", f"/v2/other/blobs/uploads/?mount={digest_of(EMPTY)}&from=app"),
    ("GET", "/v2/app/blobs/uploads/" + "0" * 32),
    ("PATCH", "/v2/app/blobs/uploads/" + "0" * 32),
    ("PUT", f"/v2/app/blobs/uploads/{'0' * 32}?digest={digest_of(EMPTY)}"),
    ("DELETE", "/v2/app/blobs/uploads/" + "0" * 32),
    ("PUT", "/v2/app/manifests/v2"),
    ("DELETE", "/v2/app/manifests/v1"),
    ("DELETE", f"/v2/app/blobs/{digest_of(EMPTY)}"),
    ("DELETE", "/1.0/applications/app"),
    ("DELETE", "/1.0/applications/app/0"),
]
UNKNOWN = [("GET", "/v2/x"), ("GET", "/1.0/x"), ("GET", "/"), ("BREW", "/v2/"), ("POST", "/1.0")]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("access")) as server:
        push_image(server.publisher, "app", "v1")
        yield server


def refused(server: RunningRegistry, session, method: str, path: str, reason: str) -> None:
    mark = server.log_mark()
    response = session.request(method, path, data=b"" if method in {"GET", "HEAD"} else b"body")
    assert response.status_code == 403
    if method != "HEAD":
        body = response.json()
        if path.startswith("/v2"):
            assert codes(response) == ["DENIED"]
            assert reason in body["errors"][0]["message"]
        else:
            assert (body["type"], body["error_code"]) == ("error", 403)
            assert reason in body["error"]
    event = server.logged("refused", mark)
    fingerprint = session.fingerprint
    assert event["fingerprint"] == (str(fingerprint) if fingerprint else "none")
    assert (event["method"], event["path"]) == (method, path)
    assert reason in event["reason"]


@pytest.mark.parametrize(("method", "path"), READS + WRITES + UNKNOWN)
def test_strangers_are_refused_everywhere(server: RunningRegistry, method, path):
    refused(server, server.stranger, method, path, "not trusted")


@pytest.mark.parametrize(("method", "path"), READS[:1] + WRITES[:1] + READS[-1:])
def test_no_certificate(server: RunningRegistry, method, path):
    refused(server, server.nobody, method, path, "no client certificate")


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_clients_never_write(server: RunningRegistry, method, path):
    refused(server, server.client, method, path, "the role client only reads")
    assert server.client.head("/v2/app/manifests/v1").status_code == 200


@pytest.mark.parametrize(("method", "path"), READS)
def test_clients_read(server: RunningRegistry, method, path):
    assert server.client.request(method, path).status_code in {200, 404}


@pytest.mark.parametrize("kind", ["expired", "not_yet_valid"])
def test_out_of_time(server: RunningRegistry, kind):
    session = server.add_out_of_time_session(kind)
    reason = "expired on" if kind == "expired" else "not valid before"
    refused(server, session, "GET", "/v2/", reason)
    refused(server, session, "GET", "/1.0/applications", reason)
    assert session.get("/1.0").json()["metadata"]["auth"] == "untrusted"


def test_revoked_on_a_connection_that_is_open(server: RunningRegistry):
    session = server.add_session("publisher")
    assert session.get("/v2/").status_code == 200
    server.revoke(session)
    refused(server, session, "GET", "/v2/", "revoked")
    refused(server, session, "POST", "/v2/app/blobs/uploads/", "revoked")


def test_the_key_of_a_revoked_certificate(server: RunningRegistry):
    session = server.add_session("client")
    server.revoke(session)
    again = server.reissue(session)
    assert again.fingerprint != session.fingerprint
    refused(server, again, "GET", "/v2/", "revoked")


def test_removed_and_added_again(server: RunningRegistry):
    session = server.add_session("client")
    assert session.get("/v2/").status_code == 200
    server.remove(session)
    refused(server, session, "GET", "/v2/", "not trusted")
    server.trust(session.certificate, Role.PUBLISHER)
    assert session.post("/v2/app/blobs/uploads/").status_code == 202


def test_last_used_is_written_coarsely(server: RunningRegistry):
    session = server.add_session("client")
    assert server.entry(session).last_used is None
    session.get("/v2/")
    first = server.entry(session).last_used
    assert first is not None
    session.get("/v2/")
    assert server.entry(session).last_used == first


# -- running transfers -------------------------------------------------------------------------

SIZE = 256 * 1024 * 1024


@pytest.fixture(scope="module")
def large(server: RunningRegistry) -> str:
    piece = bytes(1024 * 1024)
    whole = hashlib.sha256()
    for _ in range(SIZE // len(piece)):
        whole.update(piece)
    digest = "sha256:" + whole.hexdigest()
    response = server.publisher.post(
        f"/v2/app/blobs/uploads/?digest={digest}",
        data=(piece for _ in range(SIZE // len(piece))),
    )
    assert response.status_code == 201, response.text
    return digest


@pytest.mark.parametrize("how", ["revoke", "remove"])
def test_running_download_is_cut(server: RunningRegistry, large, how):
    session = server.add_session("client")
    response = session.get(f"/v2/app/blobs/{large}", stream=True)
    assert response.status_code == 200
    raw = response.raw
    before = len(raw.read(1024 * 1024))
    assert before == 1024 * 1024
    mark = server.log_mark()
    getattr(server, how)(session)
    after = 0
    with pytest.raises(Exception) as fault:
        while True:
            chunk = raw.read(256 * 1024)
            if not chunk:
                break
            after += len(chunk)
        raise AssertionError(f"the download ended without an error after {after} bytes")
    assert not isinstance(fault.value, AssertionError), fault.value
    # What the kernel's buffers on both sides held may still arrive, nothing beyond.
    assert after < 32 * 1024 * 1024
    event = server.logged("refused", mark)
    assert event["path"] == f"/v2/app/blobs/{large}"
    assert event["fingerprint"] == str(session.fingerprint)


def test_running_upload_is_cut(server: RunningRegistry):
    session = server.add_session("publisher")
    location = session.post("/v2/app/blobs/uploads/").headers["Location"]
    revoked = threading.Event()
    sent_after = 0

    def body():
        nonlocal sent_after
        for count in range(SIZE // 65536):
            if count == 32:
                server.revoke(session)
                revoked.set()
            sent_after += 65536 * revoked.is_set()
            yield bytes(65536)

    try:
        response = session.patch(location, data=body())
    except OSError:
        response = None  # cut while sending: the answer was lost with the connection
    assert revoked.is_set()
    assert response is None or response.status_code == 403
    assert sent_after < 32 * 1024 * 1024
    # What was there before stays with the session, for a publisher who is trusted.
    status = server.publisher.get(location)
    assert status.status_code == 204
    kept = int(status.headers["Range"].partition("-")[2]) + 1
    assert kept < 40 * 1024 * 1024


def test_large_blob_is_whole(server: RunningRegistry, large):
    whole = hashlib.sha256()
    with server.client.get(f"/v2/app/blobs/{large}", stream=True) as response:
        for chunk in response.iter_content(1024 * 1024):
            whole.update(chunk)
    assert "sha256:" + whole.hexdigest() == large


def test_strangers_cannot_make_the_server_read(server: RunningRegistry):
    """A refused upload is answered before its body is read."""
    answer = server.raw(
        "PATCH",
        "/v2/app/blobs/uploads/" + "0" * 32,
        headers={"Content-Length": str(2**40)},
        identity=server.stranger.identity,
    )
    assert answer.status == 403
    assert answer.closed


def test_publishing_goes_on(server: RunningRegistry):
    push_blob(server.publisher, "app", b"still here")
    assert push_image(server.publisher, "app", "v3") == digest_of(image_manifest())

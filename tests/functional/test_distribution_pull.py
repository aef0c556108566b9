"""Pulling: end-1 (support), end-2 (blobs), end-3 (manifests)."""

from __future__ import annotations

import pytest

from regkit.oci.manifests import INDEX, MANIFEST
from support.distribution import (
    EMPTY,
    codes,
    digest_of,
    image_manifest,
    index_manifest,
    push_blob,
    push_image,
    put_manifest,
)
from support.registry import RunningRegistry, running

BLOB = bytes(range(256)) * 4096  # 1 MiB, every offset tells its place modulo 256
MISSING = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def server(pair, tmp_path_factory):
    with running(tmp_path_factory.mktemp("pull"), settings=pair) as server:
        push_image(server.publisher, "library/demo", "v1", BLOB)
        push_blob(server.publisher, "library/other", b"something else")
        yield server


def assert_described(response) -> None:
    """What the registry tells of a blob, whether it sends it or says who does."""
    told = response.history[0] if response.history else response
    assert told.headers["Docker-Content-Digest"] == digest_of(BLOB)
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Accept-Ranges"] == "bytes"
    if response.history:
        assert (told.status_code, told.headers["Cache-Control"]) == (307, "no-store")
    else:
        assert response.headers["ETag"] == f'"{digest_of(BLOB)}"'


@pytest.mark.parametrize("path", ["/v2/", "/v2"], ids=["end-1", "end-1-no-slash"])
def test_support(server: RunningRegistry, path):
    response = server.client.get(path)
    assert response.status_code == 200
    assert response.headers["Docker-Distribution-API-Version"] == "registry/2.0"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_whole_blob(server: RunningRegistry, method):
    response = server.client.request(method, f"/v2/library/demo/blobs/{digest_of(BLOB)}")
    assert response.status_code == 200
    assert response.headers["Content-Length"] == str(len(BLOB))
    assert_described(response)
    assert response.content == (BLOB if method == "GET" else b"")


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-299", 100, 300),
        ("bytes=1048575-", 1048575, 1048576),
        ("bytes=-7", 1048569, 1048576),
        ("bytes=-99999999", 0, 1048576),
        ("bytes=300000-99999999", 300000, 1048576),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_range(server: RunningRegistry, method, header, start, stop):
    response = server.client.request(
        method, f"/v2/library/demo/blobs/{digest_of(BLOB)}", headers={"Range": header}
    )
    assert response.status_code == 206
    assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(BLOB)}"
    assert response.headers["Content-Length"] == str(stop - start)
    assert_described(response)
    assert response.content == (BLOB[start:stop] if method == "GET" else b"")


@pytest.mark.parametrize("header", ["bytes=1048576-", "bytes=9999999-10000000", "bytes=-0"])
def test_range_after_the_end(server: RunningRegistry, header):
    response = server.client.get(
        f"/v2/library/demo/blobs/{digest_of(BLOB)}", headers={"Range": header}
    )
    assert response.status_code == 416
    assert response.headers["Content-Range"] == f"bytes */{len(BLOB)}"
    assert codes(response)


@pytest.mark.parametrize(
    "header", ["bytes=5-2", "bytes=0-1,4-5", "lines=0-1", "bytes=a-b", "bytes=" + "9" * 30 + "-"]
)
def test_a_range_that_is_none_gives_the_whole(server: RunningRegistry, header):
    response = server.client.get(
        f"/v2/library/demo/blobs/{digest_of(BLOB)}", headers={"Range": header}
    )
    assert (response.status_code, response.content) == (200, BLOB)


def test_if_range_with_another_tag_gives_the_whole(server: RunningRegistry):
    path = f"/v2/library/demo/blobs/{digest_of(BLOB)}"
    same = server.client.get(
        path, headers={"Range": "bytes=0-9", "If-Range": f'"{digest_of(BLOB)}"'}
    )
    other = server.client.get(path, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    # Elsewhere nobody knows the tag, so that the whole may come; it is never a part of another.
    assert same.status_code in ({200, 206} if same.history else {206})
    assert same.content == (BLOB[:10] if same.status_code == 206 else BLOB)
    assert (other.status_code, other.content) == (200, BLOB)


def test_blob_that_the_client_has(server: RunningRegistry):
    response = server.client.get(
        f"/v2/library/demo/blobs/{digest_of(BLOB)}",
        headers={"If-None-Match": f'"{digest_of(BLOB)}"'},
    )
    assert (response.status_code, response.content) == (304, b"")


def test_empty_blob(server: RunningRegistry):
    digest = push_blob(server.publisher, "library/demo", b"")
    response = server.client.get(f"/v2/library/demo/blobs/{digest}", headers={"Range": "bytes=0-"})
    assert response.status_code == 416
    response = server.client.get(f"/v2/library/demo/blobs/{digest}")
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("reference", ["v1", digest_of(image_manifest(BLOB))])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_manifest(server: RunningRegistry, method, reference):
    content = image_manifest(BLOB)
    response = server.client.request(method, f"/v2/library/demo/manifests/{reference}")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == MANIFEST
    assert response.headers["Content-Length"] == str(len(content))
    assert response.headers["Docker-Content-Digest"] == digest_of(content)
    assert response.headers["ETag"] == f'"{digest_of(content)}"'
    assert response.content == (content if method == "GET" else b"")


def test_manifest_that_the_client_has(server: RunningRegistry):
    tag = f'"{digest_of(image_manifest(BLOB))}"'
    response = server.client.get("/v2/library/demo/manifests/v1", headers={"If-None-Match": tag})
    assert (response.status_code, response.content) == (304, b"")


def test_index(server: RunningRegistry):
    content = index_manifest(image_manifest(BLOB))
    response = put_manifest(server.publisher, "library/demo", "many", content, INDEX)
    assert response.status_code == 201
    response = server.client.get("/v2/library/demo/manifests/many")
    assert (response.headers["Content-Type"], response.content) == (INDEX, content)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        pytest.param(f"/v2/library/demo/blobs/{MISSING}", 404, "BLOB_UNKNOWN", id="end-2-unknown"),
        pytest.param(
            f"/v2/library/other/blobs/{digest_of(EMPTY)}",
            404,
            "BLOB_UNKNOWN",
            id="end-2-only-in-another-repository",
        ),
        pytest.param(
            "/v2/library/demo/blobs/sha256:abc", 400, "DIGEST_INVALID", id="end-2-short-digest"
        ),
        pytest.param(
            "/v2/library/demo/blobs/md5:" + "0" * 32, 400, "DIGEST_INVALID", id="end-2-md5"
        ),
        pytest.param("/v2/Library/blobs/" + MISSING, 400, "NAME_INVALID", id="end-2-bad-name"),
        pytest.param("/v2/library/demo/manifests/v9", 404, "MANIFEST_UNKNOWN", id="end-3-tag"),
        pytest.param(
            f"/v2/library/demo/manifests/{MISSING}", 404, "MANIFEST_UNKNOWN", id="end-3-digest"
        ),
        pytest.param("/v2/a/../b/manifests/v1", 400, "NAME_INVALID", id="end-3-dots"),
        pytest.param("/v2/UPPER/manifests/v1", 400, "NAME_INVALID", id="end-3-bad-name"),
        pytest.param("/v2/library/nowhere", 404, "NAME_UNKNOWN", id="no-such-path"),
        pytest.param("/v2//manifests/v1", 404, "NAME_UNKNOWN", id="no-name"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_faults(server: RunningRegistry, method, path, status, code):
    answer = server.raw(method, path)
    assert answer.status == status, answer.body
    if method == "GET":
        assert answer.codes() == [code]
    else:
        assert answer.body == b""


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/"),
        ("PUT", f"/v2/library/demo/blobs/{MISSING}"),
        ("POST", "/v2/library/demo/manifests/v1"),
        ("DELETE", "/v2/library/demo/tags/list"),
        ("PATCH", f"/v2/library/demo/referrers/{MISSING}"),
    ],
)
def test_method_not_allowed(server: RunningRegistry, method, path):
    response = server.publisher.request(method, path)
    assert response.status_code == 405
    assert codes(response) == ["UNSUPPORTED"]
    assert "GET" in response.headers["Allow"]

"""Pushing: end-4 to end-6, end-11 and end-13 (blobs), end-7 (manifests)."""

from __future__ import annotations

import hashlib
import json

import pytest

from regkit.oci.manifests import INDEX, MANIFEST
from support.distribution import (
    EMPTY,
    codes,
    descriptor,
    digest_of,
    image_manifest,
    index_manifest,
    push_blob,
    push_image,
    put_manifest,
)
from support.registry import RunningRegistry, running

MISSING = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def server(pair, tmp_path_factory):
    with running(tmp_path_factory.mktemp("push"), settings=pair) as server:
        yield server


@pytest.fixture
def repo(request) -> str:
    """A repository of the test's own, so that tests can share the server."""
    return "push/" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]


def start(server: RunningRegistry, repo: str) -> str:
    response = server.publisher.post(f"/v2/{repo}/blobs/uploads/")
    assert response.status_code == 202
    assert response.headers["Range"] in {"0-0", "0--1"}
    assert response.headers["Docker-Upload-UUID"]
    return response.headers["Location"]


def finish(server: RunningRegistry, location: str, digest: str, data: bytes = b"", **headers):
    joint = "&" if "?" in location else "?"
    return server.publisher.put(f"{location}{joint}digest={digest}", data=data, headers=headers)


def assert_stored(server: RunningRegistry, repo: str, content: bytes) -> None:
    response = server.client.get(f"/v2/{repo}/blobs/{digest_of(content)}")
    assert (response.status_code, response.content) == (200, content)


def assert_absent(server: RunningRegistry, repo: str, content: bytes) -> None:
    assert server.client.head(f"/v2/{repo}/blobs/{digest_of(content)}").status_code == 404


# -- end-4b: everything in one POST ------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 3 * 1024 * 1024 + 7])
def test_single_post(server: RunningRegistry, repo, size):
    content = b"x" * size
    response = server.publisher.post(
        f"/v2/{repo}/blobs/uploads/", params={"digest": digest_of(content)}, data=content
    )
    assert response.status_code == 201
    assert response.headers["Location"].endswith(f"/v2/{repo}/blobs/{digest_of(content)}")
    assert response.headers["Docker-Content-Digest"] == digest_of(content)
    assert_stored(server, repo, content)


def test_single_post_with_sha512(server: RunningRegistry, repo):
    digest = "sha512:" + hashlib.sha512(b"long digest").hexdigest()
    response = server.publisher.post(
        f"/v2/{repo}/blobs/uploads/", params={"digest": digest}, data=b"long digest"
    )
    assert response.status_code == 201
    assert server.client.get(f"/v2/{repo}/blobs/{digest}").content == b"long digest"


def test_single_post_of_other_content(server: RunningRegistry, repo):
    response = server.publisher.post(
        f"/v2/{repo}/blobs/uploads/", params={"digest": digest_of(b"right")}, data=b"wrong"
    )
    assert (response.status_code, codes(response)) == (400, ["DIGEST_INVALID"])
    assert_absent(server, repo, b"right")
    assert_absent(server, repo, b"wrong")


# -- end-4a, end-6: POST, then PUT -------------------------------------------------------------


def test_post_then_put(server: RunningRegistry, repo):
    content = b"in two steps" * 100_000
    response = finish(server, start(server, repo), digest_of(content), content)
    assert response.status_code == 201
    assert response.headers["Location"].endswith(f"/v2/{repo}/blobs/{digest_of(content)}")
    assert response.headers["Docker-Content-Digest"] == digest_of(content)
    assert_stored(server, repo, content)


def test_chunked_transfer_encoding(server: RunningRegistry, repo):
    pieces = [b"a" * 70_000, b"", b"b", b"c" * 300_000]
    content = b"".join(pieces)
    location = start(server, repo)
    response = server.publisher.patch(location, data=(piece for piece in pieces if piece))
    assert response.status_code == 202
    assert response.headers["Range"] == f"0-{len(content) - 1}"
    assert finish(server, response.headers["Location"], digest_of(content)).status_code == 201
    assert_stored(server, repo, content)


# -- end-5: chunks -----------------------------------------------------------------------------


@pytest.mark.parametrize("last_in_put", [False, True], ids=["empty-put", "last-chunk-in-put"])
@pytest.mark.parametrize("ranges", [False, True], ids=["stream", "content-range"])
def test_chunks(server: RunningRegistry, repo, ranges, last_in_put):
    chunks = [b"1" * 1000, b"2" * 2000, b"3" * 500]
    content = b"".join(chunks)
    location, offset = start(server, repo), 0
    for chunk in chunks[:-1] if last_in_put else chunks:
        headers = {"Content-Type": "application/octet-stream"}
        if ranges:
            headers["Content-Range"] = f"{offset}-{offset + len(chunk) - 1}"
        response = server.publisher.patch(location, data=chunk, headers=headers)
        offset += len(chunk)
        assert response.status_code == 202, response.text
        assert response.headers["Range"] == f"0-{offset - 1}"
        location = response.headers["Location"]
    headers = {}
    if last_in_put and ranges:
        headers["Content-Range"] = f"{offset}-{len(content) - 1}"
    last = chunks[-1] if last_in_put else b""
    assert finish(server, location, digest_of(content), last, **headers).status_code == 201
    assert_stored(server, repo, content)


@pytest.mark.parametrize(
    ("content_range", "status", "code"),
    [
        pytest.param("50-59", 416, "BLOB_UPLOAD_INVALID", id="end-5-gap"),
        pytest.param("0-9", 416, "BLOB_UPLOAD_INVALID", id="end-5-again"),
        pytest.param("10-24", 400, "SIZE_INVALID", id="end-5-length-differs"),
        pytest.param("19-10", 400, "BLOB_UPLOAD_INVALID", id="end-5-backwards"),
        pytest.param("ten-twenty", 400, "BLOB_UPLOAD_INVALID", id="end-5-no-range"),
    ],
)
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_wrong_chunks_change_nothing(
    server: RunningRegistry, repo, method, content_range, status, code
):
    location = start(server, repo)
    location = server.publisher.patch(location, data=b"0123456789").headers["Location"]
    response = server.publisher.request(
        method,
        location,
        params={"digest": digest_of(b"0123456789" * 2)} if method == "PUT" else None,
        data=b"0123456789",
        headers={"Content-Range": content_range},
    )
    assert (response.status_code, codes(response)) == (status, [code])
    if status == 416:
        assert response.headers["Range"] == "0-9"
        assert response.headers["Location"]
    status_now = server.publisher.get(location)
    assert (status_now.status_code, status_now.headers["Range"]) == (204, "0-9")


def test_finishing_with_another_digest_can_be_mended(server: RunningRegistry, repo):
    location = start(server, repo)
    location = server.publisher.patch(location, data=b"right").headers["Location"]
    response = finish(server, location, digest_of(b"wrong"))
    assert (response.status_code, codes(response)) == (400, ["DIGEST_INVALID"])
    assert_absent(server, repo, b"right")


@pytest.mark.parametrize("digest", ["", "sha256:xyz", "md5:" + "0" * 32, "latest"])
def test_finishing_with_no_digest(server: RunningRegistry, repo, digest):
    response = finish(server, start(server, repo), digest, b"content")
    assert (response.status_code, codes(response)) == (400, ["DIGEST_INVALID"])


# -- end-13 and DELETE: status and end of an upload --------------------------------------------


def test_status(server: RunningRegistry, repo):
    location = start(server, repo)
    response = server.publisher.get(location)
    assert response.status_code == 204
    assert response.headers["Location"]
    server.publisher.patch(location, data=b"0123456789")
    assert server.publisher.get(location).headers["Range"] == "0-9"


def test_cancel(server: RunningRegistry, repo):
    location = start(server, repo)
    server.publisher.patch(location, data=b"0123456789")
    assert server.publisher.delete(location).status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        response = server.publisher.request(method, location, data=b"x" * (method == "PATCH"))
        assert (response.status_code, codes(response)) == (404, ["BLOB_UPLOAD_UNKNOWN"]), method
    response = finish(server, location, digest_of(b"0123456789"))
    assert (response.status_code, codes(response)) == (404, ["BLOB_UPLOAD_UNKNOWN"])


def test_upload_belongs_to_its_repository(server: RunningRegistry, repo):
    location = start(server, repo)
    response = server.publisher.get(location.replace(repo, repo + "-other"))
    assert (response.status_code, codes(response)) == (404, ["BLOB_UPLOAD_UNKNOWN"])


@pytest.mark.parametrize("session", ["none", "..", "%2e%2e%2fblobs", "a" * 500, "%00", "%E9"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
def test_hostile_sessions(server: RunningRegistry, repo, method, session):
    answer = server.raw(method, f"/v2/{repo}/blobs/uploads/{session}?digest={MISSING}", b"data")
    assert answer.status in {400, 404}
    assert answer.codes()[0] in {"BLOB_UPLOAD_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN"}


def test_raw_bytes_in_a_request_line(server: RunningRegistry, repo):
    """What isn't HTTP gets one short line that repeats nothing of it, and the connection ends."""
    answer = server.raw("GET", f"/v2/{repo}/blobs/uploads/é")
    assert (answer.status, answer.body, answer.closed) == (400, b"bad request\n", True)


# -- end-11: mount -----------------------------------------------------------------------------


def test_mount(server: RunningRegistry, repo):
    digest = push_blob(server.publisher, repo + "/source", b"to be mounted")
    response = server.publisher.post(
        f"/v2/{repo}/blobs/uploads/", params={"mount": digest, "from": repo + "/source"}
    )
    assert response.status_code == 201
    assert response.headers["Location"].endswith(f"/v2/{repo}/blobs/{digest}")
    assert_stored(server, repo, b"to be mounted")


@pytest.mark.parametrize("source", ["nowhere", None], ids=["unknown-source", "no-source"])
def test_mount_of_what_is_not_there_starts_an_upload(server: RunningRegistry, repo, source):
    params = {"mount": digest_of(repo.encode())} | ({"from": source} if source else {})
    response = server.publisher.post(f"/v2/{repo}/blobs/uploads/", params=params)
    assert response.status_code == 202
    content = repo.encode()
    done = finish(server, response.headers["Location"], digest_of(content), content)
    assert done.status_code == 201


def test_mount_with_a_bad_digest(server: RunningRegistry, repo):
    response = server.publisher.post(
        f"/v2/{repo}/blobs/uploads/", params={"mount": "sha256:1", "from": "x"}
    )
    assert (response.status_code, codes(response)) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize("path", ["/v2/Bad/blobs/uploads/", "/v2/a--/blobs/uploads/"])
def test_upload_into_a_bad_name(server: RunningRegistry, path):
    response = server.publisher.post(path)
    assert (response.status_code, codes(response)) == (400, ["NAME_INVALID"])


# -- end-7: manifests --------------------------------------------------------------------------


def test_manifest_by_tag_and_digest(server: RunningRegistry, repo):
    for blob in (EMPTY, b"layer"):
        push_blob(server.publisher, repo, blob)
    content = image_manifest(b"layer")
    for reference in ("v1", digest_of(content)):
        response = put_manifest(server.publisher, repo, reference, content)
        assert response.status_code == 201
        assert response.headers["Location"].endswith(
            f"/v2/{repo}/manifests/{digest_of(content)}"
        ) or response.headers["Location"].endswith(f"/v2/{repo}/manifests/{reference}")
        assert response.headers["Docker-Content-Digest"] == digest_of(content)
        assert "OCI-Subject" not in response.headers


def test_tag_moves(server: RunningRegistry, repo):
    push_image(server.publisher, repo, "latest", b"one")
    second = push_image(server.publisher, repo, "latest", b"two")
    response = server.client.head(f"/v2/{repo}/manifests/latest")
    assert response.headers["Docker-Content-Digest"] == second


def test_subject_is_confirmed(server: RunningRegistry, repo):
    subject = descriptor(image_manifest(b"not here yet"), MANIFEST)
    push_blob(server.publisher, repo, EMPTY)
    content = image_manifest(subject=subject, artifactType="application/vnd.example.signature")
    response = put_manifest(server.publisher, repo, digest_of(content), content)
    assert response.status_code == 201
    assert response.headers["OCI-Subject"] == subject["digest"]


def test_media_type_with_parameters_or_missing(server: RunningRegistry, repo):
    push_blob(server.publisher, repo, EMPTY)
    content = image_manifest()
    typed = put_manifest(server.publisher, repo, "typed", content, MANIFEST + "; charset=utf-8")
    untyped = server.publisher.put(f"/v2/{repo}/manifests/untyped", data=content)
    assert (typed.status_code, untyped.status_code) == (201, 201)
    assert server.client.get(f"/v2/{repo}/manifests/untyped").headers["Content-Type"] == MANIFEST


LACKING = image_manifest(b"never pushed")


@pytest.mark.parametrize(
    ("reference", "content", "media_type", "status", "code"),
    [
        pytest.param("v1", LACKING, MANIFEST, 404, "MANIFEST_BLOB_UNKNOWN", id="end-7-no-blob"),
        pytest.param(
            "v1", index_manifest(LACKING), INDEX, 404, "MANIFEST_BLOB_UNKNOWN", id="end-7-no-child"
        ),
        pytest.param("v1", b"{not json", MANIFEST, 400, "MANIFEST_INVALID", id="end-7-no-json"),
        pytest.param("v1", b"", MANIFEST, 400, "MANIFEST_INVALID", id="end-7-empty"),
        pytest.param("v1", b"[]", MANIFEST, 400, "MANIFEST_INVALID", id="end-7-a-list"),
        pytest.param(
            "v1", image_manifest(), "text/plain", 400, "MANIFEST_INVALID", id="end-7-other-type"
        ),
        pytest.param(
            "v1", image_manifest(), INDEX, 400, "MANIFEST_INVALID", id="end-7-type-contradicts"
        ),
        pytest.param(
            MISSING, image_manifest(), MANIFEST, 400, "DIGEST_INVALID", id="end-7-wrong-digest"
        ),
        pytest.param(
            "-bad-", image_manifest(), MANIFEST, 400, "MANIFEST_INVALID", id="end-7-bad-tag"
        ),
        pytest.param(
            "v1", b" " * (4 * 1024 * 1024 + 1), MANIFEST, 413, "SIZE_INVALID", id="end-7-too-large"
        ),
    ],
)
def test_manifest_faults(
    server: RunningRegistry, repo, reference, content, media_type, status, code
):
    push_blob(server.publisher, repo, EMPTY)
    response = put_manifest(server.publisher, repo, reference, content, media_type)
    assert (response.status_code, codes(response)) == (status, [code]), response.text
    if code == "MANIFEST_BLOB_UNKNOWN":
        assert response.json()["errors"][0]["detail"]
    assert server.client.get(f"/v2/{repo}/tags/list").json().get("tags", []) in ([], None) or (
        "v1" not in server.client.get(f"/v2/{repo}/tags/list").json()["tags"]
    )


def test_largest_manifest(server: RunningRegistry, repo):
    push_blob(server.publisher, repo, EMPTY)
    content = image_manifest()
    content += b" " * (4 * 1024 * 1024 - len(content))
    assert put_manifest(server.publisher, repo, "large", content).status_code == 201


def test_manifest_of_unannounced_length_is_limited(server: RunningRegistry, repo):
    endless = (b" " * 65536 for _ in range(1000))
    try:
        response = server.publisher.put(
            f"/v2/{repo}/manifests/v1", data=endless, headers={"Content-Type": MANIFEST}
        )
    except OSError:
        return  # cut while we were still sending, which is as good
    assert response.status_code == 413


def test_error_says_what_is_missing(server: RunningRegistry, repo):
    push_blob(server.publisher, repo, EMPTY)
    response = put_manifest(server.publisher, repo, "v1", LACKING)
    assert digest_of(b"never pushed") in json.dumps(response.json()["errors"][0])

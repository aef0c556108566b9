"""Finding and deleting: end-8 (tags), end-12 (referrers), `_catalog`; end-9, end-10 (delete)."""

from __future__ import annotations

import hashlib
import re

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
    with running(tmp_path_factory.mktemp("discovery"), settings=pair) as server:
        yield server


@pytest.fixture
def repo(request) -> str:
    """A repository of the test's own, so that tests can share the server."""
    return "find/" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]


def next_page(response) -> str | None:
    link = response.headers.get("Link")
    if link is None:
        return None
    match = re.fullmatch(r'<([^>]+)>; rel="next"', link)
    assert match, link
    return match[1]


# -- end-8: tags -------------------------------------------------------------------------------

TAGS = ["1.0", "2", "a", "B", "latest", "z_9"]


def test_tags(server: RunningRegistry, repo):
    for tag in reversed(TAGS):
        push_image(server.publisher, repo, tag)
    response = server.client.get(f"/v2/{repo}/tags/list")
    assert response.status_code == 200
    assert response.json() == {"name": repo, "tags": TAGS}
    assert next_page(response) is None


@pytest.mark.parametrize("size", [1, 2, 5, 6, 100])
def test_tags_in_pages(server: RunningRegistry, repo, size):
    for tag in TAGS:
        push_image(server.publisher, repo, tag)
    found, url, pages = [], f"/v2/{repo}/tags/list?n={size}", 0
    while url:
        response = server.client.get(url)
        page = response.json()["tags"]
        assert len(page) <= size
        found += page
        pages += 1
        url = next_page(response)
    assert (found, pages) == (TAGS, -(-len(TAGS) // size))


def test_tags_after_last(server: RunningRegistry, repo):
    for tag in TAGS:
        push_image(server.publisher, repo, tag)
    response = server.client.get(f"/v2/{repo}/tags/list", params={"last": "a", "n": "2"})
    assert response.json()["tags"] == ["B", "latest"]
    assert server.client.get(f"/v2/{repo}/tags/list?last=zzz").json()["tags"] == []
    assert server.client.get(f"/v2/{repo}/tags/list?n=0").json()["tags"] == []


# -- end-12: referrers -------------------------------------------------------------------------


def test_referrers(server: RunningRegistry, repo):
    push_image(server.publisher, repo, "v1", b"subject")
    subject = image_manifest(b"subject")
    of_subject = {"subject": descriptor(subject, MANIFEST)}
    signature = image_manifest(
        **of_subject, artifactType="application/vnd.example.sig", annotations={"by": "me"}
    )
    bill = image_manifest(b"subject", **of_subject)  # its type is its config's
    lists = index_manifest(subject, **of_subject, artifactType="application/vnd.example.list")
    for content, kind in ((signature, MANIFEST), (bill, MANIFEST), (lists, INDEX)):
        pushed = put_manifest(server.publisher, repo, digest_of(content), content, kind)
        assert pushed.headers["OCI-Subject"] == digest_of(subject)

    response = server.client.get(f"/v2/{repo}/referrers/{digest_of(subject)}")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == INDEX
    assert "OCI-Filters-Applied" not in response.headers
    index = response.json()
    assert (index["schemaVersion"], index["mediaType"]) == (2, INDEX)
    found = {entry["digest"]: entry for entry in index["manifests"]}
    assert set(found) == {digest_of(signature), digest_of(bill), digest_of(lists)}
    assert found[digest_of(signature)] == descriptor(
        signature, MANIFEST, artifactType="application/vnd.example.sig", annotations={"by": "me"}
    )
    assert found[digest_of(bill)]["artifactType"] == "application/vnd.oci.empty.v1+json"
    assert found[digest_of(lists)]["mediaType"] == INDEX

    response = server.client.get(
        f"/v2/{repo}/referrers/{digest_of(subject)}",
        params={"artifactType": "application/vnd.example.sig"},
    )
    assert response.headers["OCI-Filters-Applied"] == "artifactType"
    assert [entry["digest"] for entry in response.json()["manifests"]] == [digest_of(signature)]

    assert server.publisher.delete(f"/v2/{repo}/manifests/{digest_of(signature)}").ok
    response = server.client.get(f"/v2/{repo}/referrers/{digest_of(subject)}")
    assert digest_of(signature) not in response.text


@pytest.mark.parametrize("name", ["find/nowhere", "find/known"])
def test_no_referrers_is_an_empty_index(server: RunningRegistry, name):
    push_image(server.publisher, "find/known", "v1")
    response = server.client.get(f"/v2/{name}/referrers/{MISSING}")
    assert (response.status_code, response.json()["manifests"]) == (200, [])


# -- _catalog ----------------------------------------------------------------------------------


def test_catalog_in_pages(server: RunningRegistry, repo):
    names = [f"{repo}/{letter}" for letter in "abc"]
    for name in names:
        push_image(server.publisher, name, "v1")
    found, url = [], f"/v2/_catalog?n=2&last={repo}/"
    while url and not set(names) <= set(found):
        response = server.client.get(url)
        assert response.status_code == 200
        assert len(response.json()["repositories"]) <= 2
        found += response.json()["repositories"]
        url = next_page(response)
    assert found[:3] == names
    everything = server.client.get("/v2/_catalog").json()["repositories"]
    assert everything == sorted(everything)
    assert set(names) <= set(everything)


# -- end-9: delete a manifest or tag -----------------------------------------------------------


def test_delete_tag(server: RunningRegistry, repo):
    digest = push_image(server.publisher, repo, "v1")
    assert server.publisher.delete(f"/v2/{repo}/manifests/v1").status_code == 202
    response = server.client.get(f"/v2/{repo}/manifests/v1")
    assert (response.status_code, codes(response)) == (404, ["MANIFEST_UNKNOWN"])
    assert server.client.head(f"/v2/{repo}/manifests/{digest}").status_code == 200


def test_delete_manifest_takes_its_tags(server: RunningRegistry, repo):
    digest = push_image(server.publisher, repo, "v1")
    push_image(server.publisher, repo, "v2")
    assert server.publisher.delete(f"/v2/{repo}/manifests/{digest}").status_code == 202
    for reference in (digest, "v1", "v2"):
        assert server.client.head(f"/v2/{repo}/manifests/{reference}").status_code == 404
    assert server.client.get(f"/v2/{repo}/tags/list").json()["tags"] == []


# -- end-10: delete a blob ---------------------------------------------------------------------


def test_delete_blob(server: RunningRegistry, repo):
    digest = push_blob(server.publisher, repo, b"short-lived")
    push_blob(server.publisher, repo, EMPTY)
    assert server.publisher.delete(f"/v2/{repo}/blobs/{digest}").status_code == 202
    for method in ("GET", "DELETE"):
        response = server.publisher.request(method, f"/v2/{repo}/blobs/{digest}")
        assert (response.status_code, codes(response)) == (404, ["BLOB_UNKNOWN"])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", "nowhere/tags/list", 404, "NAME_UNKNOWN", id="end-8-unknown"),
        pytest.param("GET", "Nowhere/tags/list", 400, "NAME_INVALID", id="end-8-bad-name"),
        pytest.param("GET", "known/tags/list?n=-1", 400, "UNSUPPORTED", id="end-8-bad-n"),
        pytest.param("GET", "known/tags/list?n=many", 400, "UNSUPPORTED", id="end-8-no-number"),
        pytest.param("GET", "_catalog?n=x", 400, "UNSUPPORTED", id="catalog-bad-n"),
        pytest.param("GET", "known/referrers/v1", 400, "DIGEST_INVALID", id="end-12-tag"),
        pytest.param("GET", f"K/referrers/{MISSING}", 400, "NAME_INVALID", id="end-12-bad-name"),
        pytest.param("DELETE", "known/manifests/v9", 404, "MANIFEST_UNKNOWN", id="end-9-tag"),
        pytest.param(
            "DELETE", f"known/manifests/{MISSING}", 404, "MANIFEST_UNKNOWN", id="end-9-digest"
        ),
        pytest.param(
            "DELETE", "known/manifests/sha256:1", 400, "DIGEST_INVALID", id="end-9-bad-digest"
        ),
        pytest.param(
            "DELETE", f"nowhere/manifests/{MISSING}", 404, "NAME_UNKNOWN", id="end-9-unknown-name"
        ),
        pytest.param("DELETE", f"known/blobs/{MISSING}", 404, "BLOB_UNKNOWN", id="end-10"),
        pytest.param("DELETE", "known/blobs/none", 400, "DIGEST_INVALID", id="end-10-bad-digest"),
        pytest.param(
            "DELETE", f"nowhere/blobs/{MISSING}", 404, "NAME_UNKNOWN", id="end-10-unknown-name"
        ),
    ],
)
def test_faults(server: RunningRegistry, method, path, status, code):
    push_image(server.publisher, "known", "v1")
    response = server.publisher.request(method, f"/v2/{path}")
    assert (response.status_code, codes(response)) == (status, [code]), response.text

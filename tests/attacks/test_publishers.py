"""A publisher who wants more than it may: others' architectures, fixed versions, foreign blobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from regkit.oci.manifests import INDEX
from support.distribution import (
    application_parts,
    codes,
    digest_of,
    image_manifest,
    index_manifest,
    push_application,
    push_blob,
    push_image,
    put_manifest,
)
from support.registry import RegistrySession, RunningRegistry, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running(tmp_path_factory.mktemp("aar")) as server:
        yield server


@pytest.fixture(scope="module")
def arm(server: RunningRegistry) -> RegistrySession:
    """A publisher of arm64 only."""
    return server.add_session("publisher", architectures=["arm64"])


def seen(server: RunningRegistry, name: str) -> tuple[object, ...]:
    """All that a client sees of an application: its versions, tags and what they name."""
    tags = server.client.get(f"/v2/{name}/tags/list").json()["tags"]
    manifests = [server.client.get(f"/v2/{name}/manifests/{tag}").content for tag in tags]
    return server.client.get(f"/1.0/applications/{name}").json()["metadata"], tags, manifests


def test_another_architecture_is_out_of_reach_by_every_door(
    server: RunningRegistry, arm: RegistrySession
):
    digest = push_application(server.publisher, "doors", 0, "amd64")
    push_application(arm, "doors", 0, "arm64")
    _, manifest, config, files = application_parts("doors", 1, "amd64", {"app.apk": b"evil"})
    for blob in (config, *files.values()):
        push_blob(arm, "doors", blob)
    before = seen(server, "doors")
    empty = image_manifest()
    push_blob(arm, "doors", b"{}")
    blob = digest_of(b"apk of doors")
    attempts = [
        put_manifest(arm, "doors", "1-amd64", manifest),
        put_manifest(arm, "doors", digest_of(manifest), manifest),
        put_manifest(arm, "doors", "0-amd64", empty),
        put_manifest(arm, "doors", "1-amd64", empty),
        put_manifest(arm, "doors", "0", empty),
        put_manifest(arm, "doors", "7", index_manifest(), INDEX),
        arm.delete("/v2/doors/manifests/0-amd64"),
        arm.delete(f"/v2/doors/manifests/{digest}"),
        arm.delete("/v2/doors/manifests/0"),
        arm.delete(f"/v2/doors/blobs/{blob}"),
        arm.delete("/1.0/applications/doors"),
        arm.delete("/1.0/applications/doors/0"),
        arm.delete("/1.0/applications/doors/0/amd64"),
    ]
    assert {answer.status_code for answer in attempts} <= {403, 409}, attempts
    assert seen(server, "doors") == before
    assert server.client.get(f"/v2/doors/blobs/{blob}").content == b"apk of doors"


def test_no_plain_push_gets_around_a_fixed_version(server: RunningRegistry):
    """By another tag, digest, algorithm, media type, subject: what was published stays."""
    digest = push_application(server.publisher, "fixed", 3, "amd64")
    before = seen(server, "fixed")
    push_blob(server.publisher, "fixed", b"{}")
    index = server.client.get("/v2/fixed/manifests/3")
    other = index_manifest(server.client.get("/v2/fixed/manifests/3-amd64").content)
    docker = image_manifest(mediaType="application/vnd.docker.distribution.manifest.v2+json")
    attempts = [
        put_manifest(server.publisher, "fixed", "3-amd64", image_manifest()),
        put_manifest(server.publisher, "fixed", "3", image_manifest()),
        put_manifest(server.publisher, "fixed", "3", other, INDEX),
        put_manifest(server.publisher, "fixed", "3", index.content, INDEX),
        put_manifest(
            server.publisher, "fixed", "3-amd64", docker,
            "application/vnd.docker.distribution.manifest.v2+json",
        ),
        put_manifest(server.publisher, "fixed", digest, image_manifest()),
        server.publisher.delete("/v2/fixed/manifests/3"),
        server.publisher.delete(f"/v2/fixed/manifests/{digest_of(index.content)}"),
        server.publisher.delete(f"/v2/fixed/blobs/{digest_of(b'apk of fixed')}"),
    ]  # fmt: skip
    assert {answer.status_code for answer in attempts} <= {400, 403, 409}, attempts
    assert seen(server, "fixed") == before


def test_a_tag_that_was_there_first_does_not_stand_in_for_a_version(server: RunningRegistry):
    """Somebody takes the tags of a version before the application exists."""
    for tag in ("0-amd64", "0", "1"):
        push_image(server.publisher, "squatted", tag, b"squatter")
    digest = push_application(server.publisher, "squatted", 0, "amd64")
    answer = server.client.get("/v2/squatted/manifests/0-amd64")
    assert answer.headers["Docker-Content-Digest"] == digest
    index = server.client.get("/v2/squatted/manifests/0").json()
    assert [entry["digest"] for entry in index["manifests"]] == [digest]


def test_a_blob_that_another_repository_uses_stays(server: RunningRegistry):
    shared = b"shared by two"
    push_application(server.publisher, "mine", files={"app.apk": shared})
    digest = push_blob(server.publisher, "yours", shared)
    assert server.publisher.delete(f"/v2/yours/blobs/{digest}").status_code == 202
    assert server.client.get(f"/v2/yours/blobs/{digest}").status_code == 404
    assert server.client.get(f"/v2/mine/blobs/{digest}").content == shared
    # What a version uses is not deleted by its own repository's door either.
    refused = server.publisher.delete(f"/v2/mine/blobs/{digest}")
    assert (refused.status_code, codes(refused)) == (409, ["DENIED"])
    # And by the janitor's neither, once nobody else has it.
    assert server.client.get(f"/v2/mine/blobs/{digest}").content == shared


def test_a_mount_gives_nobody_what_it_may_not_read(server: RunningRegistry):
    """Blobs are for whoever is trusted, for nobody else: mounting must not be a side door."""
    digest = push_blob(server.publisher, "source", b"to be mounted")
    query = {"mount": digest, "from": "source"}
    for session in (server.client, server.stranger, server.nobody):
        assert session.post("/v2/thief/blobs/uploads/", params=query).status_code == 403
        if session is not server.client:
            assert session.get(f"/v2/source/blobs/{digest}").status_code == 403
    for source in ("../source", "source%00", "SOURCE", "", "a" * 300):
        answer = server.publisher.post(
            "/v2/thief/blobs/uploads/", params={"mount": "sha256:" + "0" * 64, "from": source}
        )
        assert answer.status_code in (202, 400), (source, answer.status_code)
    assert server.client.get(f"/v2/thief/blobs/{digest}").status_code == 404


def test_an_upload_is_found_by_nobody_who_did_not_begin_it(server: RunningRegistry):
    """Ids aren't guessable, hold for one repository, and tell a client nothing."""
    ids = {
        server.publisher.post("/v2/own/blobs/uploads/").headers["Docker-Upload-UUID"]
        for _ in range(20)
    }
    assert len({one[:24] for one in ids}) == 20
    one = ids.pop()
    assert server.client.get(f"/v2/own/blobs/uploads/{one}").status_code == 403
    for method in ("GET", "PATCH", "DELETE"):
        answer = server.publisher.request(method, f"/v2/others/blobs/uploads/{one}", data=b"x")
        assert answer.status_code == 404

"""`/1.0`: the root, status, applications and removal; publishing rules as a client meets them."""

from __future__ import annotations

import re

import pytest

from regkit.oci.names import repository_of
from support.distribution import (
    application_parts,
    codes,
    digest_of,
    push_application,
    push_blob,
    put_manifest,
)
from support.registry import RunningRegistry, running


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("api")) as server:
        yield server


def metadata(response, status: int = 200):
    assert response.status_code == status, response.text
    body = response.json()
    assert (body["type"], body["status_code"], body["error"]) == ("sync", 200, "")
    return body["metadata"]


def error(response) -> tuple[int, str]:
    body = response.json()
    assert (body["type"], body["error_code"]) == ("error", response.status_code)
    assert body["error"]
    assert "\n" not in body["error"]
    return response.status_code, body["error"]


def test_root_of_the_trusted(server: RunningRegistry):
    for session, role in ((server.publisher, "publisher"), (server.client, "client")):
        root = metadata(session.get("/1.0"))
        assert (root["auth"], root["role"]) == ("trusted", role)
        assert "changes_wait" in root["api_extensions"]
        assert re.fullmatch(r"[0-9a-f]{32}", root["epoch"])
        assert root["server_version"]


def test_root_of_strangers_tells_nothing(server: RunningRegistry):
    for session in (server.stranger, server.nobody):
        root = metadata(session.get("/1.0"))
        assert root["auth"] == "untrusted"
        assert (root["role"], root["epoch"], root["server_version"]) == ("", "", "")


def test_status_needs_no_certificate(server: RunningRegistry):
    assert metadata(server.nobody.get("/1.0/status")) == {"status": "ready"}


def test_applications(server: RunningRegistry):
    digest = push_application(server.publisher, "listed", 0, "amd64", tags=("game", "test"))
    push_application(server.publisher, "listed", 0, "arm64", tags=("game",))
    push_application(server.publisher, "listed", 1, "amd64")

    assert "/1.0/applications/listed" in metadata(server.client.get("/1.0/applications"))
    found = metadata(server.client.get("/1.0/applications/listed"))
    assert found["name"] == "listed"
    assert [(v["number"], v["architecture"]) for v in found["versions"]] == [
        (0, "amd64"),
        (0, "arm64"),
        (1, "amd64"),
    ]
    first = found["versions"][0]
    assert first["digest"] == digest
    assert first["tags"] == ["game", "test"]
    assert first["size"] == len(b"apk of listed")
    assert first["published_by"] == str(server.publisher.fingerprint)

    def listed(query: str) -> list[tuple[int, str]]:
        response = server.client.get(f"/1.0/applications?recursion=1&{query}")
        applications = {app["name"]: app for app in metadata(response)}
        versions = applications.get("listed", {"versions": []})["versions"]
        return [(version["number"], version["architecture"]) for version in versions]

    assert listed("tag=test") == [(0, "amd64")]
    assert listed("architecture=amd64") == [(0, "amd64"), (1, "amd64")]
    assert listed("tag=game&architecture=arm64") == [(0, "arm64")]
    assert listed("tag=nothing") == []


def test_removal_takes_exactly_what_is_named(server: RunningRegistry):
    for number in (0, 1):
        for architecture in ("amd64", "arm64"):
            push_application(server.publisher, "going", number, architecture)

    def remove(path: str) -> list[tuple[int, str]]:
        removed = metadata(server.publisher.delete(f"/1.0/applications/going{path}"))["removed"]
        return [(version["number"], version["architecture"]) for version in removed]

    def index_status(number: int) -> int:
        return server.client.head(f"/v2/going/manifests/{number}").status_code

    assert remove("/0/arm64") == [(0, "arm64")]
    assert server.client.head("/v2/going/manifests/0-arm64").status_code == 404
    children = server.client.get("/v2/going/manifests/0").json()["manifests"]
    assert [child["platform"]["architecture"] for child in children] == ["amd64"]
    assert remove("/0") == [(0, "amd64")]
    assert (index_status(0), index_status(1)) == (404, 200)
    assert remove("") == [(1, "amd64"), (1, "arm64")]
    assert error(server.client.get("/1.0/applications/going"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/1.0/applications/none", 404),
        ("GET", "/1.0/applications/...", 404),
        ("GET", "/1.0/applications?recursion=2", 400),
        ("GET", "/1.0/applications?recursion=yes", 400),
        ("DELETE", "/1.0/applications/none", 404),
        ("DELETE", "/1.0/applications/none/0", 404),
        ("DELETE", "/1.0/applications/none/zero", 404),
        ("DELETE", "/1.0/applications/none/0/amd64", 404),
        ("GET", "/1.0/nothing", 404),
        ("GET", "/", 404),
        ("GET", "/v20/", 404),
        ("POST", "/1.0/applications", 405),
        ("DELETE", "/1.0/changes", 405),
    ],
)
def test_faults_are_envelopes(server: RunningRegistry, method, path, status):
    assert error(server.publisher.request(method, path))[0] == status


# -- what publishing means, seen from outside --------------------------------------------------


def test_published_is_for_ever(server: RunningRegistry):
    push_application(server.publisher, "fixed", files={"app.apk": b"one"})
    key, manifest, config, _ = application_parts("fixed", files={"app.apk": b"two"})
    for blob in (config, b"two"):
        push_blob(server.publisher, "fixed", blob)
    response = put_manifest(server.publisher, "fixed", key.tag, manifest)
    assert (response.status_code, codes(response)) == (409, ["DENIED"])
    server.publisher.delete("/1.0/applications/fixed")
    response = put_manifest(server.publisher, "fixed", key.tag, manifest)
    assert (response.status_code, codes(response)) == (409, ["DENIED"])
    push_application(server.publisher, "fixed", files={"app.apk": b"one"})


def test_the_index_is_the_registrys(server: RunningRegistry):
    push_application(server.publisher, "indexed", 3, "amd64")
    index = server.client.get("/v2/indexed/manifests/3")
    response = put_manifest(
        server.publisher, "indexed", "3", index.content, index.headers["Content-Type"]
    )
    assert (response.status_code, codes(response)) == (403, ["DENIED"])


@pytest.mark.parametrize("tag", ["latest", "1-amd64", "0-arm64", "0"])
def test_a_version_has_one_tag(server: RunningRegistry, tag):
    _, manifest, config, files = application_parts("tagged")
    for blob in (config, *files.values()):
        push_blob(server.publisher, "tagged", blob)
    response = put_manifest(server.publisher, "tagged", tag, manifest)
    assert (response.status_code, codes(response)) == (400, ["MANIFEST_INVALID"])
    assert "0-amd64" in response.json()["errors"][0]["message"]


def test_names_that_are_no_oci_names(server: RunningRegistry):
    push_application(server.publisher, "My.App_")
    found = metadata(server.client.get("/1.0/applications/My.App_"))
    assert found["versions"][0]["number"] == 0
    repository = repository_of("My.App_")
    assert repository.startswith("x--")
    assert server.client.get(f"/v2/{repository}/tags/list").json()["tags"] == ["0", "0-amd64"]


def test_publisher_of_one_architecture(server: RunningRegistry):
    arm = server.add_session("publisher", architectures=["arm64"])
    push_application(arm, "limited", 0, "arm64")
    push_application(server.publisher, "limited", 0, "amd64")
    _, manifest, config, _ = application_parts("limited", 1, "amd64", {"app.apk": b"x"})
    for blob in (config, b"x"):
        push_blob(arm, "limited", blob)
    response = put_manifest(arm, "limited", "1-amd64", manifest)
    assert (response.status_code, codes(response)) == (403, ["DENIED"])
    assert error(arm.delete("/1.0/applications/limited"))[0] == 403
    assert metadata(arm.delete("/1.0/applications/limited/0/arm64"))["removed"]


# -- /metrics ----------------------------------------------------------------------------------


def test_metrics(server: RunningRegistry):
    push_application(server.publisher, "counted")
    before = samples(server)
    content = b"counted bytes" * 1000
    digest = push_blob(server.publisher, "counted", content)
    assert server.client.get(f"/v2/counted/blobs/{digest}").content == content
    after = samples(server)

    def grew(name: str) -> float:
        return after[name] - before.get(name, 0)

    pulled = 'method="GET",route="/v2/<path:name>/blobs/<digest>",status="200"'
    assert grew(f"aar_http_requests_total{{{pulled}}}") == 1
    assert grew("aar_http_received_bytes_total") == len(content)
    assert grew("aar_http_sent_bytes_total") >= len(content)
    assert after['aar_versions{architecture="amd64"}'] >= 1
    assert after["aar_feed_sequence"] >= 1
    assert after["aar_waiting_clients"] == 0


def test_metrics_for_the_trusted_and_this_machine(server: RunningRegistry):
    # Both sessions come from loopback; a stranger from elsewhere is a matter of `access`.
    assert server.stranger.get("/metrics").status_code == 200
    assert server.client.get("/metrics").status_code == 200


def samples(server: RunningRegistry) -> dict[str, float]:
    response = server.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_digest_helper_agrees_with_the_server(server: RunningRegistry):
    _, manifest, _, _ = application_parts("agreed")
    assert push_application(server.publisher, "agreed") == digest_of(manifest)
    response = server.client.head("/v2/agreed/manifests/0-amd64")
    assert response.headers["Docker-Content-Digest"] == digest_of(manifest)

"""`PATCH /1.0/applications/{id}` with JSON: single fields over REST, and If-Match everywhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from support.ams import Service, running, write_package

PATH = "/1.0/applications/candy"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


@pytest.fixture
def candy(service: Service, tmp_path: Path) -> Iterator[dict[str, Any]]:
    package = write_package(tmp_path / "candy", "candy", tags=["game"], addons=["ssh"])
    service.ok("application", "create", package)
    yield shown(service)
    service.api("DELETE", PATH, json={})


def shown(service: Service) -> dict[str, Any]:
    return service.api("GET", PATH).json()["metadata"]


def patched(service: Service, body: object, **headers: str) -> requests.Response:
    return service.api("PATCH", PATH, json=body, headers=headers)


def test_names_may_have_hyphens_or_underscores(service: Service, candy: dict[str, Any]) -> None:
    for body in (
        {"instance_type": "a2.3", "node-selector": ["a"], "resources": {"disk_size": "2GB"}},
        {"instance-type": "a4.4", "node_selector": ["b"], "resources": {"disk-size": "3GB"}},
    ):
        answer = patched(service, body)
        assert (answer.status_code, answer.json()["metadata"]["status_code"]) == (202, 200)
    item = shown(service)
    assert (item["instance_type"], item["node_selector"]) == ("a4.4", ["b"])
    assert item["resources"]["disk-size"] == "3GB"
    assert item["versions"] == candy["versions"]


def test_a_new_version_is_told(service: Service, candy: dict[str, Any]) -> None:
    operation = patched(service, {"features": ["f"]}).json()["metadata"]
    (first,) = candy["versions"]
    assert operation["metadata"] == {"version": first["number"] + 1}
    assert operation["resources"] == {"applications": [f"/1.0/applications/{candy['id']}"]}
    assert patched(service, {"features": ["f"]}).json()["metadata"]["metadata"] == {}
    assert [v["features"] for v in shown(service)["versions"]] == [[], ["f"]]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"colour": "red"}, "unknown key"),
        ({"tags": "game"}, "tags"),
        ({"tags": [1]}, "tags[0]"),
        ({"inhibit_auto_updates": "yes"}, "inhibit_auto_updates"),
        ({"resources": {"cpus": "2"}}, "resources.cpus"),
        ({"resources": {"cpus": True}}, "resources.cpus"),
        ({"resources": {"colour": 1}}, "unknown key"),
        ({"services": [{"name": "x"}]}, "services[0].port: is missing"),
        ({"services": [{"name": "x", "port": 70000, "protocols": ["tcp"]}]}, "services[0].port"),
        ({"manifest_version": "x" * 51}, "version"),
        ({"video_encoder": "vpu"}, "video-encoder"),
        ({"tags": ["\ud800"]}, "not JSON"),
        ({"name": "other"}, "unknown key"),
        ([], "JSON object"),
    ],
)
def test_what_is_refused(
    service: Service, candy: dict[str, Any], body: object, words: str
) -> None:
    answer = patched(service, body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert shown(service) == candy


def test_only_as_it_was_seen(service: Service, candy: dict[str, Any], tmp_path: Path) -> None:
    other = write_package(tmp_path / "other", "other")
    service.ok("application", "create", other)
    tags = [
        service.api("GET", f"/1.0/applications/{name}").headers["ETag"]
        for name in ("candy", "other")
    ]
    assert patched(service, {"tags": ["a"]}, **{"If-Match": tags[0]}).status_code == 202
    after = service.api("GET", PATH)
    octets = {"Content-Type": "application/octet-stream"}
    stale = {"If-Match": tags[0]}
    for method, path, arguments in [
        ("PATCH", PATH, {"json": {"tags": ["b"]}}),
        ("PATCH", PATH, {"json": {"features": ["b"]}}),
        ("PATCH", PATH, {"data": b"package", "headers": {**octets, **stale}}),
        ("DELETE", "/1.0/applications", {"json": {"ids": ["other", "candy"]}}),
        ("DELETE", "/1.0/applications", {"json": {"ids": ["candy"]}}),
    ]:
        answer = service.api(method, path, **{"headers": stale, **arguments})
        assert answer.status_code == 412, (method, path)
        assert "has changed since you looked at it" in answer.json()["error"]
    assert service.api("GET", PATH).headers["ETag"] == after.headers["ETag"]
    # Several may be named; a star is whatever there is.
    fresh = {"If-Match": f'"x", {after.headers["ETag"]}, {tags[1]}'}
    both = {"ids": ["candy", "other"]}
    assert patched(service, {}, **{"If-Match": "*"}).status_code == 202
    deleted = service.api("DELETE", "/1.0/applications", json=both, headers=fresh)
    assert deleted.status_code == 202
    done = service.api("GET", f"{deleted.json()['operation']}/wait").json()["metadata"]
    assert done["status"] == "Success", done
    assert service.api("GET", PATH).status_code == 404


def test_a_package_is_checked_again_once_it_is_there(
    service: Service, candy: dict[str, Any], tmp_path: Path
) -> None:
    """The upload of a package may take an hour, in which somebody else changes the application."""
    etag = service.api("GET", PATH).headers["ETag"]
    folder = write_package(tmp_path / "next", "candy")
    archive = tmp_path / "next.zip"
    shutil.make_archive(str(archive.with_suffix("")), "zip", folder)

    def body() -> Iterator[bytes]:
        content = archive.read_bytes()
        yield content[:100]
        assert patched(service, {"tags": ["meanwhile"]}).status_code == 202
        yield content[100:]

    headers = {"Content-Type": "application/octet-stream", "If-Match": etag}
    answer = service.api("PATCH", PATH, data=body(), headers=headers)
    assert answer.status_code == 202
    ended = service.api("GET", f"{answer.json()['operation']}/wait").json()["metadata"]
    assert ended["status"] == "Failure"
    assert "has changed since you looked at it" in ended["err"]
    item = shown(service)
    assert (item["tags"], item["versions"]) == (["meanwhile"], candy["versions"])


def test_manifests_say_what_was_set(service: Service, candy: dict[str, Any]) -> None:
    patched(service, {"tags": ["set"], "image": "noble"})
    accept = {"Accept": "application/json"}
    whole = service.api("GET", f"{PATH}/manifest", headers=accept).json()["metadata"]
    number = candy["versions"][0]["number"]
    packed = service.api("GET", f"{PATH}/{number}/manifest", headers=accept).json()["metadata"]
    assert (whole["tags"], whole["image"]) == (["set"], "noble")
    assert (packed["tags"], packed.get("image")) == (["game"], None)

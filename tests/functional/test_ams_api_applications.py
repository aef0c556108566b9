"""`/1.0/applications` over the unix socket: shapes, paging, ETag, uploads, exports."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import yaml

from ams.client.transport import BASE_URL
from support.ams import Service, running, until

OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        for letter in "abc":
            create(started, f"app-{letter}")
        yield started


def package(name: str, content: bytes = b"apk", **more: object) -> bytes:
    manifest = {"name": name, "version": "1.0", "instance-type": "a4.3", **more}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, body in [("manifest.yaml", yaml.safe_dump(manifest).encode()), ("a", content)]:
            info = tarfile.TarInfo(path)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def ended(service: Service, response: requests.Response) -> dict[str, Any]:
    """Check that the answer names an operation, and return that as it ended."""
    body = response.json()
    assert response.status_code == 202, body
    assert (body["type"], body["status"], body["status_code"]) == (
        "async",
        "Operation created",
        100,
    )
    operation = body["metadata"]
    assert body["operation"] == f"/1.0/operations/{operation['id']}"
    assert response.headers["Location"] == body["operation"]
    waited = service.api("GET", f"{body['operation']}/wait?timeout=30")
    assert waited.status_code == 200
    return waited.json()["metadata"]


def create(service: Service, name: str, **more: Any) -> dict[str, Any]:
    body = package(name, **more)
    headers = {**OCTETS, "X-AMS-Fingerprint": hashlib.sha256(body).hexdigest()}
    operation = ended(
        service, service.api("POST", "/1.0/applications", data=body, headers=headers)
    )
    assert operation["status_code"] == 200, operation
    (url,) = operation["resources"]["applications"]
    return service.api("GET", url).json()["metadata"]


def error(response: requests.Response, status: int, *words: str) -> None:
    """Check an answer that refuses: its envelope, and one line with `words`."""
    body = response.json()
    assert (response.status_code, body["type"], body["error_code"]) == (status, "error", status)
    assert body["error"] and "\n" not in body["error"]
    for word in words:
        assert word in body["error"]


def test_the_types_of_the_public_sdk(service: Service) -> None:
    item = create(service, "typed", tags=["game"], addons=["ssh"], features=["f"])
    expected: dict[str, type] = {
        "id": str, "name": str, "status_code": int, "status": str, "instance_type": str,
        "boot_package": str, "parent_image_id": str, "published": bool, "versions": list,
        "addons": list, "created_at": int, "immutable": bool, "tags": list, "resources": dict,
        "abi": str, "inhibit_auto_updates": bool, "node_selector": list, "vm": bool,
    }  # fmt: skip
    assert {key: type(item[key]) for key in expected} == expected
    (version,) = item["versions"]
    expected = {
        "number": int, "manifest_version": str, "parent_image_id": str,
        "parent_image_version": int, "status_code": int, "status": str, "published": bool,
        "created_at": int, "boot_activity": str, "required_permissions": list, "addons": list,
        "extra_data": dict, "error_message": str, "watchdog": dict, "services": list,
        "features": list, "hooks": dict, "bootstrap": dict,
    }  # fmt: skip
    assert {key: type(version[key]) for key in expected} == expected
    assert (item["status_code"], item["status"]) == (2, "ready")
    assert (version["status_code"], version["status"]) == (3, "active")
    assert version["addons"] == [{"name": "ssh", "version": 0}]
    assert item["abi"] == "x86_64"


def test_lists_pages_and_filters(service: Service) -> None:
    body = service.api("GET", "/1.0/applications?name=app-a").json()
    assert (body["type"], body["status"], body["status_code"]) == ("sync", "Success", 200)
    assert body["total_size"] == 1
    (url,) = body["metadata"]
    assert service.api("GET", url).json()["metadata"]["name"] == "app-a"

    everything = service.api("GET", "/1.0/applications?recursion=1").json()
    names = [item["name"] for item in everything["metadata"]]
    assert names == sorted(names)
    assert everything["total_size"] == len(names) >= 3
    for offset in range(len(names) + 1):
        page = service.api("GET", f"/1.0/applications?recursion=1&offset={offset}&limit=2").json()
        assert [item["name"] for item in page["metadata"]] == names[offset : offset + 2]
        assert page["total_size"] == len(names)
    for both in ("instance_type", "instance-type"):
        found = service.api("GET", f"/1.0/applications?{both}=a4.3&name=app-b").json()
        assert found["total_size"] == 1
    none = service.api("GET", "/1.0/applications?tags=nobody-has-this").json()
    assert (none["metadata"], none["total_size"]) == ([], 0)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("offset=-1", "offset"),
        ("limit=many", "limit"),
        ("recursion=perhaps", "recursion"),
        ("published=perhaps", "true nor false"),
        ("status=happy", "not a status"),
        ("colour=red", "not a filter"),
    ],
)
def test_bad_queries(service: Service, query: str, words: str) -> None:
    error(service.api("GET", f"/1.0/applications?{query}"), 400, words)


def test_etag_and_if_match(service: Service) -> None:
    id_ = create(service, "tagged")["id"]
    first = service.api("GET", f"/1.0/applications/{id_}")
    etag = first.headers["ETag"]
    same = service.api("GET", "/1.0/applications/tagged", headers={"If-None-Match": etag})
    assert (same.status_code, same.content) == (304, b"")
    revoked = service.api(
        "PATCH",
        f"/1.0/applications/{id_}/0",
        json={"published": False},
        headers={"If-Match": etag},
    )
    assert ended(service, revoked)["status"] == "Success"
    changed = service.api("GET", f"/1.0/applications/{id_}", headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag
    for method, path, body in [
        ("DELETE", f"/1.0/applications/{id_}", {}),
        ("DELETE", f"/1.0/applications/{id_}/0", {}),
        ("PATCH", f"/1.0/applications/{id_}/0", {"published": True}),
    ]:
        error(service.api(method, path, json=body, headers={"If-Match": etag}), 412, "look again")
    now = service.api("GET", f"/1.0/applications/{id_}")
    assert now.headers["ETag"] == changed.headers["ETag"]


def test_quick_changes_are_finished_when_they_are_answered(service: Service) -> None:
    """So that a client which waits for an event of the operation has nothing to wait for."""
    create(service, "quick")
    answer = service.api("PATCH", "/1.0/applications/quick/0", json={"published": False})
    assert answer.json()["metadata"]["status_code"] == 200
    error(service.api("PATCH", "/1.0/applications/quick/4", json={"published": True}), 404)


def test_uploads_that_must_be_refused(service: Service) -> None:
    body = package("refused")
    before = service.state()
    wrong = {**OCTETS, "X-AMS-Fingerprint": "00" * 32}
    path = "/1.0/applications"
    error(service.api("POST", path, data=body, headers=wrong), 400, "SHA-256", "send it again")
    malformed = {**OCTETS, "X-AMS-Fingerprint": "short"}
    error(service.api("POST", path, data=body, headers=malformed), 400, "64 hexadecimal")
    error(service.api("POST", path, data=b"", headers=OCTETS), 400, "no body")
    error(service.api("POST", path, json={"name": "x"}), 400, "application/octet-stream")
    bad_fields = {**OCTETS, "X-AMS-Request": "{"}
    error(service.api("POST", path, data=body, headers=bad_fields), 400, "X-AMS-Request")
    operation = ended(service, service.api("POST", path, data=b"nonsense", headers=OCTETS))
    assert operation["status_code"] == 400
    assert "not a package" in operation["err"]
    error(service.api("PATCH", "/1.0/applications/app-a", data=b"tags=x"), 400, "octet-stream")
    error(service.api("PATCH", "/1.0/applications/nobody", data=body, headers=OCTETS), 404)
    assert service.state() == before


def test_a_chunked_upload(service: Service) -> None:
    body = package("chunked", content=bytes(3_000_000))
    pieces = (body[i : i + 100_000] for i in range(0, len(body), 100_000))
    sent = service.api("POST", "/1.0/applications?vm=true", data=pieces, headers=OCTETS)
    assert ended(service, sent)["status"] == "Success"
    assert service.api("GET", "/1.0/applications/chunked").json()["metadata"]["vm"] is True


def test_update_export_manifest_delete(service: Service) -> None:
    id_ = create(service, "life")["id"]
    body = package("life", content=b"second")
    updated = service.api("PATCH", "/1.0/applications/life", data=body, headers=OCTETS)
    assert ended(service, updated)["status"] == "Success"

    exported = service.api("GET", f"/1.0/applications/{id_}/1")
    assert exported.status_code == 200
    assert exported.headers["X-AMS-Fingerprint"] == hashlib.sha256(exported.content).hexdigest()
    # The public SDK takes all behind the first dot for the file's extension.
    disposition = exported.headers["Content-Disposition"]
    assert disposition.split(".", 1)[1] == "tar.bz2"
    assert int(exported.headers["Content-Length"]) == len(exported.content)
    with tarfile.open(fileobj=io.BytesIO(exported.content), mode="r:bz2") as archive:
        member = archive.extractfile("a")
        assert member is not None
        assert member.read() == b"second"

    for path in ("life/manifest", f"{id_}/1/manifest"):
        accept = {"Accept": "application/json"}
        answer = service.api("GET", f"/1.0/applications/{path}", headers=accept)
        manifest = answer.json()["metadata"]
        assert (manifest["name"], manifest["version"]) == ("life", "1.0")
        text = service.api("GET", f"/1.0/applications/{path}")  # as the reference answers
        assert text.headers["Content-Type"].startswith("application/yaml")
        assert yaml.safe_load(text.text) == manifest
    error(service.api("GET", f"/1.0/applications/{id_}/9"), 404, "no version 9")
    error(service.api("GET", f"/1.0/applications/{id_}/9/manifest"), 404, "no version 9")

    assert ended(service, service.api("DELETE", f"/1.0/applications/{id_}/0", json={}))
    error(service.api("DELETE", f"/1.0/applications/{id_}/1", json={}), 409, "at least one")
    # The SDK sends {"force": false} without a content type.
    plain = service.api("DELETE", f"/1.0/applications/{id_}", data=b'{"force":false}')
    assert ended(service, plain)["status"] == "Success"
    error(service.api("GET", f"/1.0/applications/{id_}"), 404)


def test_bulk_delete_is_all_or_nothing_at_the_door(service: Service) -> None:
    ids = [create(service, f"bulk-{n}")["id"] for n in range(2)]
    both = {"ids": [ids[0], "nobody"], "force": False}
    error(service.api("DELETE", "/1.0/applications", json=both), 404, "nobody")
    assert service.api("GET", f"/1.0/applications/{ids[0]}").status_code == 200
    for wrong in ({}, {"ids": []}, {"ids": "x"}, {"ids": ids, "colour": 1}):
        error(service.api("DELETE", "/1.0/applications", json=wrong), 400, "can't be used")
    deleted = service.api("DELETE", "/1.0/applications", json={"ids": [ids[0], "bulk-1"]})
    assert ended(service, deleted)["status"] == "Success"
    for id_ in ids:
        error(service.api("GET", f"/1.0/applications/{id_}"), 404)


def test_bodies_that_are_not_what_they_should_be(service: Service) -> None:
    path = "/1.0/applications/app-a/0"
    before = service.state()
    error(service.api("PATCH", path, data=b"{"), 400, "not JSON")
    error(service.api("PATCH", path, data=b"[]"), 400, "JSON object")
    error(service.api("PATCH", path, data=b"[" * 200_000), 400)
    error(service.api("PATCH", path, json={}), 400, "published")
    error(service.api("PATCH", path, json={"published": "perhaps"}), 400, "published")
    error(service.api("PATCH", path, data=b" " * 2_000_000), 413, "too large")
    error(service.api("PUT", path, json={}), 405)
    error(service.api("GET", "/1.0/nonsense"), 404)
    error(service.api("GET", "/1.0/applications/app-a/minus"), 404)
    assert service.state() == before


def test_a_cut_upload_leaves_nothing(service: Service) -> None:
    before = service.state()

    def pieces() -> Iterator[bytes]:
        yield bytes(200_000)
        until(lambda: service.open_uploads() == 1)
        raise OSError("the test ends the connection here")

    with service.session() as session, pytest.raises(requests.ConnectionError):
        session.post(f"{BASE_URL}/1.0/applications", data=pieces(), headers=OCTETS, timeout=30)
    until(lambda: service.open_uploads() == 0)
    assert service.state() == before

"""What programs on the public Go SDK rely on, call by call, over mutual TLS as the SDK sets it up.

Each answer is read into the SDK's structs as Go would, and held to `/1.0/swagger.json` as well.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aar_interface import Certificate
from support import ams, gosdk, gotypes, pairs
from support.ams import Service
from support.contract import Contract
from support.gosdk import Sdk, SdkError
from support.gotypes import APPLICATION, many
from support.sdkcalls import create, join, package, retrieve

TAGGED = {"tags": ["game", "beta"], "addons": ["ssh"]}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with ams.running(tmp_path_factory.mktemp("ams")) as started:
        yield started


@pytest.fixture(scope="module")
def contract(service: Service) -> Contract:
    return Contract(service.api("GET", "/1.0/swagger.json").json())


@pytest.fixture(scope="module")
def sdk(service: Service, contract: Contract, tmp_path_factory: pytest.TempPathFactory) -> Sdk:
    return join(service, contract, tmp_path_factory.mktemp("client"))


def patch(**fields: object) -> dict[str, object]:
    """`ApplicationPatch` as Go writes it: what has no `omitempty` is there as null."""
    always = (
        "image", "instance-type", "tags", "addons", "inhibit_auto_updates", "watchdog",
        "boot_activity", "required_permissions", "manifest_version", "features",
    )  # fmt: skip
    return {**dict.fromkeys(always), **fields}


def change(sdk: Sdk, id_: str, **fields: object) -> dict[str, Any]:
    """`UpdateApplicationWithDetails`."""
    path = f"/1.0/applications/{id_}"
    return sdk.json("PATCH", path, patch(**fields), **{"Content-Type": "application/json"})


# Service


def test_tls_as_the_sdk_sets_it_up(service: Service) -> None:
    server = gosdk.remote_certificate(service.address())
    pem = (service.home / "server" / "ams.crt").read_bytes()
    assert Certificate.parse(pem).der == server.public_bytes(gosdk.Encoding.DER)


def test_status_extensions_and_version(sdk: Sdk) -> None:
    status = sdk.call("GET", "/1.0", gotypes.SERVICE_STATUS).metadata
    assert (status["auth"], status["api_version"]) == ("trusted", "1.0")
    needed = {"vm_support", "zip_archive_support", "application_image_export"}
    assert needed <= set(sdk.extensions)
    # Without these the SDK takes other ways, or says itself what isn't supported.
    assert not {"instance_support", "instance_publish"} & set(sdk.extensions)
    assert sdk.call("GET", "/1.0/version", gotypes.VERSION_GET).metadata["version"]


# Applications


@pytest.mark.parametrize("form", ["tar.bz2", "zip"])
def test_create_and_retrieve(sdk: Sdk, form: str) -> None:
    name = f"created-{form.replace('.', '-')}"
    manifest: dict[str, Any] = {
        **TAGGED,
        "boot-package": "com.example.app",
        "boot-activity": "com.example.app.Main",
        "image": "jammy:android13:amd64",
        "video-encoder": "gpu-preferred",
        "required-permissions": ["android.permission.CAMERA"],
        "features": ["one"],
        "watchdog": {"disabled": True, "allowed-packages": ["com.example.other"]},
        "services": [
            {"name": "web", "port": 80, "port-end": 90, "protocols": ["tcp"], "expose": True}
        ],
        "resources": {"cpus": 2, "memory": "2GB", "disk-size": "4GB", "gpu-slots": 1},
        "hooks": {"timeout": "5m"},
        "bootstrap": {"keep": ["app.apk"]},
        "node-selector": ["gpu=nvidia"],
    }
    done = sdk.upload(
        "POST", "/1.0/applications", package(name, form=form, **manifest), {"vm": "true"}
    )
    (url,) = done["resources"]["applications"]
    item = sdk.call("GET", url, APPLICATION).metadata
    version = item.pop("versions")[0]
    assert {key: value for key, value in item.items() if key != "created_at"} == {
        "id": url.rpartition("/")[2],
        "name": name,
        "status_code": 2,
        "status": "ready",
        "instance_type": "a4.3",
        "boot_package": "com.example.app",
        "parent_image_id": "jammy:android13:amd64",
        "published": True,
        "addons": ["ssh"],
        "immutable": False,
        "tags": ["game", "beta"],
        "resources": {
            "cpus": 2, "memory": "2GB", "disk-size": "4GB", "gpu-slots": 1, "vpu-slots": -1,
        },
        "abi": "x86_64",
        "inhibit_auto_updates": False,
        "node_selector": ["gpu=nvidia"],
        "vm": True,
    }  # fmt: skip
    assert {key: value for key, value in version.items() if key != "created_at"} == {
        "number": 0,
        "manifest_version": "1.0",
        "parent_image_id": "jammy:android13:amd64",
        "parent_image_version": 0,
        "status_code": 3,
        "status": "active",
        "published": True,
        "boot_activity": "com.example.app.Main",
        "required_permissions": ["android.permission.CAMERA"],
        "addons": [{"name": "ssh", "version": 0}],
        "extra_data": {},
        "error_message": "",
        "video_encoder": "gpu-preferred",
        "watchdog": {"disabled": True, "allowed-packages": ["com.example.other"]},
        "services": [
            {"name": "web", "port": 80, "port_end": 90, "protocols": ["tcp"], "expose": True}
        ],
        "features": ["one"],
        "hooks": {"timeout": "5m"},
        "bootstrap": {"keep": ["app.apk"]},
    }
    with pytest.raises(SdkError, match="exists already"):
        sdk.upload("POST", "/1.0/applications", package(name, form=form))


def test_what_a_package_does_not_say(sdk: Sdk) -> None:
    item = retrieve(sdk, create(sdk, "bare"))
    assert (item["tags"], item["addons"], item["node_selector"]) == ([], [], [])
    # To Go an absent number is 0, which would mean: no slot at all.
    assert item["resources"] == {"gpu-slots": -1, "vpu-slots": -1}
    (version,) = item["versions"]
    assert version["watchdog"] == {"disabled": False, "allowed-packages": []}
    assert (version["services"], version["hooks"], version["bootstrap"]) == ([], {}, {})


def test_list_with_every_filter_of_the_sdk(sdk: Sdk) -> None:
    id_ = create(sdk, "filtered-one", **TAGGED, **{"boot-package": "com.example.one"})
    create(sdk, "filtered-two")
    change(sdk, id_, inhibit_auto_updates=True)
    everything = sdk.call(
        "GET", "/1.0/applications", many(APPLICATION), params={"recursion": "1"}
    ).metadata
    assert [item["name"] for item in everything] == sorted(item["name"] for item in everything)
    values = {
        "id": id_, "name": "filtered-one", "status": "ready", "instance_type": "a4.3",
        "boot_package": "com.example.one", "published": "true", "immutable": "false",
        "abi": "x86_64", "addons": "ssh", "inhibit_auto_updates": "true", "tags": "game,beta",
    }  # fmt: skip
    assert set(values) == set(gotypes.APPLICATION_FILTERS)
    one = retrieve(sdk, id_)
    for name, value in values.items():
        assert one in sdk.filtered([f"{name}={value}"]), name
    assert sdk.filtered([f"{name}={value}" for name, value in values.items()]) == [one]
    for nothing in ("id=x", "boot_package=x", "abi=arm64-v8a", "immutable=true", "status=error"):
        assert sdk.filtered([nothing]) == []
    found = sdk.filtered(["name=filtered-*"])  # FindApplicationsByName takes a pattern
    assert [item["name"] for item in found] == ["filtered-one", "filtered-two"]
    with pytest.raises(SdkError, match="'colour' is not a filter"):
        sdk.filtered(["colour=red"])


def test_update_with_details(sdk: Sdk) -> None:
    id_ = create(sdk, "detailed", **TAGGED)
    change(sdk, id_)  # nothing but nulls
    change(
        sdk,
        id_,
        image="noble",
        **{"instance-type": "a2.3"},
        tags=["new"],
        addons=[],
        resources={"cpus": 4, "memory": "3GB", "gpu-slots": 0},
        inhibit_auto_updates=True,
        node_selector=["cpu=intel"],
    )
    item = retrieve(sdk, id_)
    assert len(item["versions"]) == 1
    assert (item["parent_image_id"], item["instance_type"]) == ("noble", "a2.3")
    assert (item["tags"], item["addons"], item["node_selector"]) == (["new"], [], ["cpu=intel"])
    assert item["inhibit_auto_updates"] is True
    assert item["resources"] == {"cpus": 4, "memory": "3GB", "gpu-slots": 0, "vpu-slots": -1}
    service_spec = {"port": 22, "protocols": ["tcp"], "expose": False, "name": "ssh"}
    change(
        sdk,
        id_,
        services=[service_spec],
        watchdog={"disabled": True, "allowed-packages": None},
        boot_activity=".Main",
        required_permissions=["*"],
        video_encoder="software",
        manifest_version="2.0",
        features=["f"],
        hooks={"timeout": "1m"},
        bootstrap={"keep": ["app.apk"]},
    )
    item = retrieve(sdk, id_)
    old, new = item["versions"]
    assert (old["number"], old["manifest_version"], old["features"]) == (0, "1.0", [])
    assert (new["number"], new["manifest_version"], new["published"]) == (1, "2.0", True)
    assert (new["boot_activity"], new["required_permissions"]) == (".Main", ["*"])
    assert (new["video_encoder"], new["features"]) == ("software", ["f"])
    assert new["watchdog"] == {"disabled": True, "allowed-packages": []}
    assert (new["services"], new["hooks"]) == ([service_spec], {"timeout": "1m"})
    assert new["bootstrap"] == {"keep": ["app.apk"]}
    assert (item["tags"], item["inhibit_auto_updates"]) == (["new"], True)
    with pytest.raises(SdkError, match=r"hooks\.timeout.*15m"):
        change(sdk, id_, hooks={"timeout": "1h"})
    assert len(retrieve(sdk, id_)["versions"]) == 2


def test_update_without_anything(sdk: Sdk) -> None:
    id_ = create(sdk, "renewed")
    before = retrieve(sdk, id_)
    sdk.operation(
        "PATCH", f"/1.0/applications/{id_}", headers={"Content-Type": "application/json"}
    )
    assert retrieve(sdk, id_) == before


def test_update_publish_revoke_export_delete(sdk: Sdk) -> None:
    id_ = create(sdk, "lived")
    path = f"/1.0/applications/{id_}"
    sdk.upload("PATCH", path, package("lived", b"second"))
    etag = sdk.call("GET", path).etag
    assert etag
    # ChangeApplicationVersion and the deletions send JSON without saying so.
    sdk.json("PATCH", f"{path}/1", {"published": False})
    assert [v["published"] for v in retrieve(sdk, id_)["versions"]] == [True, False]
    assert [v["status"] for v in retrieve(sdk, id_)["versions"]] == ["active", "created"]
    assert sdk.call("GET", path).etag != etag
    sdk.json("PATCH", f"{path}/1", {"published": True})

    exported = sdk.download(f"{path}/1")
    assert exported.headers["X-AMS-Fingerprint"] == hashlib.sha256(exported.body).hexdigest()
    name = exported.headers["Content-Disposition"].partition("filename=")[2]
    assert name == "lived_1_amd64.tar.bz2"
    with tarfile.open(fileobj=io.BytesIO(exported.body)) as archive:
        assert sorted(archive.getnames()) == ["app.apk", "manifest.yaml"]
    with pytest.raises(SdkError, match="no version 9"):
        sdk.download(f"{path}/9")

    sdk.json("DELETE", f"{path}/0", {"force": False})
    with pytest.raises(SdkError, match="at least one remains"):
        sdk.json("DELETE", f"{path}/1", {"force": False})
    sdk.json("DELETE", path, {"force": False})
    with pytest.raises(SdkError, match="no application"):
        retrieve(sdk, id_)


def test_delete_several(sdk: Sdk) -> None:
    ids = [create(sdk, f"several-{number}") for number in range(2)]
    sdk.json("DELETE", "/1.0/applications", {"ids": [ids[0], "several-1"], "force": False})
    assert sdk.filtered(["name=several-*"]) == []


# Certificates, configuration


def test_certificates(sdk: Sdk, tmp_path: Path) -> None:
    pair = pairs.make(tmp_path, "other")
    posted = {"certificate": base64.b64encode(pair.certificate.der).decode()}
    sdk.call("POST", "/1.0/certificates", body=json.dumps(posted).encode())
    fingerprint = str(pair.certificate.fingerprint)
    wanted = {"certificate": pair.certificate.pem, "fingerprint": fingerprint}
    for params in ({"recursion": "1"}, None):  # both of the SDK's clients
        listed = sdk.call("GET", "/1.0/certificates", many(gotypes.CERTIFICATE), params=params)
        assert wanted in listed.metadata
    path = f"/1.0/certificates/{fingerprint}"
    assert sdk.call("GET", path, gotypes.CERTIFICATE).metadata == wanted
    sdk.operation("DELETE", path)
    with pytest.raises(SdkError, match="no certificate"):
        sdk.call("GET", path)


def test_config(sdk: Sdk) -> None:
    sdk.json("PATCH", "/1.0/config", {"name": "registry.filter", "value": "game"})
    config = sdk.call("GET", "/1.0/config", gotypes.CONFIG_GET).metadata["config"]
    assert config["registry.filter"] == "game"
    assert config["application.auto_publish"] is True
    assert config["application.max_published_versions"] == 3
    assert config["core.trust_password"] is False
    with pytest.raises(SdkError, match="not a mode"):
        sdk.json("PATCH", "/1.0/config", {"name": "registry.mode", "value": "both"})
    sdk.json("PATCH", "/1.0/config", {"name": "registry.filter", "value": ""})


# Operations, tasks, events


def test_operations(sdk: Sdk) -> None:
    create(sdk, "operated")
    arranged = sdk.call(
        "GET",
        "/1.0/operations",
        gotypes.mapped(many(gotypes.OPERATION)),
        params={"recursion": "1"},
    ).metadata
    operation = arranged["success"][-1]
    urls = sdk.call("GET", "/1.0/operations", many(gotypes.STRING)).metadata
    path = f"/1.0/operations/{operation['id']}"
    assert path in urls
    for way in (path, f"{path}/wait"):
        assert sdk.call("GET", way, gotypes.OPERATION).metadata == operation
    connection = sdk.websocket(f"{path}/websocket?secret=x")
    event = gotypes.EVENT(json.loads(connection.recv()), "event")
    assert gotypes.OPERATION(event["metadata"], "metadata") == operation
    connection.shutdown()
    with pytest.raises(SdkError, match="has ended already"):
        sdk.call("DELETE", path)
    assert sdk.call("GET", "/1.0/tasks", many(gotypes.TASK)).metadata == []


def test_events(sdk: Sdk) -> None:
    connection = sdk.websocket("/1.0/events?type=lifecycle")
    id_ = create(sdk, "told")
    event = gotypes.EVENT(json.loads(connection.recv()), "event")
    assert event["type"] == "lifecycle"
    assert gotypes.LIFECYCLE(event["metadata"], "metadata") == {
        "action": "application-created",
        "source": f"/1.0/applications/{id_}",
    }
    connection.shutdown()


# The rest of the description, and that nothing of it was left out


def test_everything_described_has_answered_as_described(
    sdk: Sdk, contract: Contract, request: pytest.FixtureRequest
) -> None:
    for path in (
        "/",
        "/1.0/config/origins",
        "/1.0/config/managed/juju",
        "/1.0/registry",
        "/1.0/registry/applications",
    ):
        sdk.call("GET", path)
    applied = sdk.call("PUT", "/1.0/config/managed/juju", body=b'{"config": {}}')
    assert applied.metadata["changed"] == []
    with pytest.raises(SdkError, match="no registry is set"):
        sdk.json("POST", "/1.0/registry/sync", {"dry_run": True})
    id_ = create(sdk, "described")
    for method, path in (("POST", f"{id_}/push"), ("POST", f"{id_}/pull"), ("DELETE", id_)):
        with pytest.raises(SdkError, match="no registry is set"):
            sdk.operation(method, f"/1.0/registry/applications/{path}")
    for path in (f"/1.0/applications/{id_}/manifest", f"/1.0/applications/{id_}/0/manifest"):
        assert yaml.safe_load(sdk.download(path).body)["name"] == "described"
        accept = {"Accept": "application/json"}
        assert sdk.call("GET", path, headers=accept).metadata["name"] == "described"
    sdk.download("/1.0/swagger.json")
    for path in ("/1.0/events", "/1.0/operations/x/websocket"):
        with pytest.raises(SdkError, match=r"is a websocket|no operation"):
            sdk.call("GET", path)
    mine = [item for item in request.session.items if item.path == request.path]
    if len({item.name.partition("[")[0] for item in mine}) < _tests():
        pytest.skip("the other tests of this file make most of the calls")
    assert {(method, path) for method, path, _ in contract.seen} == contract.operations


def _tests() -> int:
    return sum(name.startswith("test_") for name in globals())

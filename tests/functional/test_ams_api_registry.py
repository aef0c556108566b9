"""The registry's calls of the public SDK, on a real registry with a publisher and a client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aar_interface import Certificate, Role
from support import ams, gotypes, registry
from support.contract import Contract
from support.gosdk import Sdk, SdkError
from support.gotypes import many
from support.sdkcalls import create, join, retrieve

TAGGED = {"tags": ["game", "beta"], "addons": ["ssh"]}


def test_push_and_pull(tmp_path: Path) -> None:
    with registry.running(tmp_path / "aar") as aar:
        certificate = aar.home / "certs" / "server.crt"
        for mode in ("push", "pull"):
            with ams.running(tmp_path / mode) as service:
                own = Certificate.parse((service.home / "registry" / "client.crt").read_bytes())
                aar.trust(own, Role.PUBLISHER if mode == "push" else Role.CLIENT)
                service.ok("config", "set", "registry.mode", "manual")
                service.ok("config", "trust", "add", certificate)
                fingerprint = str(Certificate.parse(certificate.read_bytes()).fingerprint)
                service.ok("config", "set", "registry.fingerprint", fingerprint)
                service.ok("config", "set", "registry.url", f"https://127.0.0.1:{aar.port}")
                contract = Contract(service.api("GET", "/1.0/swagger.json").json())
                sdk = join(service, contract, tmp_path / f"{mode}-client")
                (push if mode == "push" else pull)(sdk)


def push(sdk: Sdk) -> None:
    id_ = create(sdk, "shared", **TAGGED, **{"boot-package": "com.example.shared"})
    with pytest.raises(SdkError, match="no application"):
        sdk.operation("POST", "/1.0/registry/applications/nobody/push")
    sdk.operation("POST", f"/1.0/registry/applications/{id_}/push")
    create(sdk, "withdrawn")
    sdk.operation("POST", "/1.0/registry/applications/withdrawn/push")
    sdk.operation("DELETE", "/1.0/registry/applications/withdrawn")
    (item,) = (item for item in in_registry(sdk) if item["name"] == "shared")
    assert item == {
        "name": "shared",
        "architectures": ["amd64"],
        "boot_package": "com.example.shared",
        "instance_type": "a4.3",
        "tags": ["game", "beta"],
        "versions": {
            0: {
                "boot_activity": "", "features": [], "hooks": {"timeout": ""},
                "bootstrap": {"keep": []}, "video_encoder": "",
            }
        },
        "vm": False,
    }  # fmt: skip


def pull(sdk: Sdk) -> None:
    with pytest.raises(SdkError, match="holds no application 'withdrawn'"):
        sdk.operation("POST", "/1.0/registry/applications/withdrawn/pull")
    done = sdk.operation("POST", "/1.0/registry/applications/shared/pull")
    assert done["metadata"]["done"]
    assert [item["name"] for item in in_registry(sdk)] == ["shared"]
    item = retrieve(sdk, "shared")
    assert (item["immutable"], item["published"], item["tags"]) == (True, True, ["game", "beta"])
    with pytest.raises(SdkError, match="immutable"):
        path = f"/1.0/applications/{item['id']}"
        sdk.json("PATCH", path, {"tags": ["mine"]}, **{"Content-Type": "application/json"})
    with pytest.raises(SdkError, match="--force"):
        sdk.json("DELETE", f"/1.0/applications/{item['id']}", {"force": False})
    sdk.json("DELETE", f"/1.0/applications/{item['id']}", {"force": True})


def in_registry(sdk: Sdk) -> list[dict[str, Any]]:
    kind = many(gotypes.REGISTRY_APPLICATION)
    return sdk.call("GET", "/1.0/registry/applications", kind).metadata

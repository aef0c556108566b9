"""Domain values as the JSON of the reference's API.

Keys, and what is an integer and what a text, follow the types of the public SDK
(github.com/canonical/ams-sdk, `api/ams`). Additional keys are ours: `digest`, `size`,
`architecture`, `origin`, `updated_at`. Lists are never null.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ams.catalogue.records import Application, Version
from regkit.trust import Entry

ABIS = {"amd64": "x86_64", "arm64": "arm64-v8a", "armhf": "armeabi-v7a", "i386": "x86"}
"""Android's name of the primary ABI of a Debian architecture (Android NDK guide, ABIs)."""


def application(item: Application) -> dict[str, Any]:
    """Return an application with its versions."""
    latest = item.latest.manifest
    return {
        "id": item.id,
        "name": item.name,
        "status_code": int(item.status),
        "status": str(item.status),
        "instance_type": item.instance_type,
        "boot_package": _text(latest.get("boot-package")),
        "parent_image_id": _text(latest.get("image")),
        "published": item.published,
        "versions": [version(v) for v in item.versions],
        "addons": list(item.addons),
        "created_at": _seconds(item.created),
        "updated_at": _seconds(item.updated),
        "immutable": item.immutable,
        "tags": list(item.tags),
        "resources": _mapping(latest.get("resources")),
        "abi": ABIS.get(item.latest.architecture, item.latest.architecture),
        "inhibit_auto_updates": False,
        "node_selector": _texts(latest.get("node-selector")),
        "vm": item.vm,
        "origin": item.origin,
    }


def version(item: Version) -> dict[str, Any]:
    """Return one version of an application."""
    manifest = item.manifest
    described: dict[str, Any] = {
        "number": item.number,
        "manifest_version": _text(manifest.get("version")),
        "parent_image_id": _text(manifest.get("image")),
        "parent_image_version": 0,
        "status_code": int(item.status),
        "status": str(item.status),
        "published": item.published,
        "created_at": _seconds(item.created),
        "boot_activity": _text(manifest.get("boot-activity")),
        "required_permissions": _texts(manifest.get("required-permissions")),
        "addons": [{"name": name, "version": 0} for name in _texts(manifest.get("addons"))],
        "extra_data": {
            name: {key: _text(data.get(key)) for key in ("target", "owner", "permissions")}
            for name, data in _mapping(manifest.get("extra-data")).items()
            if isinstance(data, dict)
        },
        "error_message": item.error,
        "watchdog": _watchdog(_mapping(manifest.get("watchdog"))),
        "services": [s for s in _items(manifest.get("services")) if isinstance(s, dict)],
        "features": _texts(manifest.get("features")),
        "hooks": _mapping(manifest.get("hooks")),
        "bootstrap": _mapping(manifest.get("bootstrap")),
        "architecture": item.architecture,
        "digest": str(item.digest),
        "size": item.size,
    }
    if encoder := _text(manifest.get("video-encoder")):
        described["video_encoder"] = encoder
    return described


def certificate(entry: Entry) -> dict[str, Any]:
    """Return a row of the trust store."""
    return {
        "certificate": entry.certificate,
        "fingerprint": str(entry.fingerprint),
        "common_name": entry.common_name,
        "issued_at": entry.issued.isoformat(),
        "expires_at": entry.expires.isoformat(),
        "origin": entry.origin,
    }


def _watchdog(manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "disabled": manifest.get("disabled") is True,
        "allowed-packages": _texts(manifest.get("allowed-packages")),
    }


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


# A manifest that came from the registry was written elsewhere: nothing about its types is certain.


def _text(value: Any) -> str:
    return str(value) if isinstance(value, (str, int, float)) else ""


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [item for item in _items(value) if isinstance(item, str)]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def registry_application(row: Mapping[str, Any], here: Application | None) -> dict[str, Any]:
    """Return an application of the registry; `here` is the one of the same name on this site.

    The registry's feed doesn't tell what a manifest holds, so it is known of versions here only.
    """
    latest = here.latest.manifest if here else {}
    manifests = {v.number: v.manifest for v in here.versions} if here else {}
    return {
        "name": row["name"],
        "architectures": list(row["architectures"]),
        "boot_package": _text(latest.get("boot-package")),
        "instance_type": _text(latest.get("instance-type")),
        "tags": list(row["tags"]),
        "versions": {
            number: _registry_version(manifests.get(number, {})) for number in row["versions"]
        },
        "vm": here.vm if here else False,
        "size": row["size"],
    }


def _registry_version(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "boot_activity": _text(manifest.get("boot-activity")),
        "features": _texts(manifest.get("features")),
        "hooks": {"timeout": _text(_mapping(manifest.get("hooks")).get("timeout"))},
        "bootstrap": {"keep": _texts(_mapping(manifest.get("bootstrap")).get("keep"))},
        "video_encoder": _text(manifest.get("video-encoder")),
    }

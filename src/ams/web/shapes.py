"""Domain values as the JSON of the reference's API; the types are those of `documents`.

A manifest that came from the registry was written elsewhere: nothing about its types is certain,
and what doesn't fit is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ams.catalogue import records
from ams.operations import Operation, OperationStatus
from ams.web import documents
from regkit.trust import Entry

UNSET = -1
"""Slots that aren't set: 0 would mean none, and the SDK reads an absent number as 0."""


def application(item: records.Application) -> documents.Application:
    """Return an application with its versions."""
    manifest = item.manifest
    return {
        "id": item.id,
        "name": item.name,
        "status_code": int(item.status),
        "status": str(item.status),
        "instance_type": item.instance_type,
        "boot_package": item.boot_package,
        "parent_image_id": _text(manifest.get("image")),
        "published": item.published,
        "versions": [version(v) for v in item.versions],
        "addons": list(item.addons),
        "created_at": _seconds(item.created),
        "updated_at": _seconds(item.updated),
        "immutable": item.immutable,
        "tags": list(item.tags),
        "resources": _resources(_mapping(manifest.get("resources"))),
        "abi": item.abi,
        "inhibit_auto_updates": item.inhibits_updates,
        "node_selector": _texts(manifest.get("node-selector")),
        "vm": item.vm,
        "origin": item.origin,
    }


def version(item: records.Version) -> documents.Version:
    """Return one version of an application."""
    manifest = item.manifest
    described: documents.Version = {
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
        "extra_data": _extra_data(_mapping(manifest.get("extra-data"))),
        "error_message": item.error,
        "watchdog": _watchdog(_mapping(manifest.get("watchdog"))),
        "services": [_service(s) for s in _items(manifest.get("services")) if _is_service(s)],
        "features": _texts(manifest.get("features")),
        "hooks": {},
        "bootstrap": {},
        "architecture": item.architecture,
        "digest": str(item.digest),
        "size": item.size,
    }
    if encoder := _text(manifest.get("video-encoder")):
        described["video_encoder"] = encoder
    if timeout := _text(_mapping(manifest.get("hooks")).get("timeout")):
        described["hooks"]["timeout"] = timeout
    if keep := _texts(_mapping(manifest.get("bootstrap")).get("keep")):
        described["bootstrap"]["keep"] = keep
    return described


def certificate(entry: Entry) -> documents.Certificate:
    """Return a row of the trust store."""
    return {
        "certificate": entry.certificate,
        "fingerprint": str(entry.fingerprint),
        "common_name": entry.common_name,
        "issued_at": entry.issued.isoformat(),
        "expires_at": entry.expires.isoformat(),
        "origin": entry.origin,
    }


def registry_application(
    row: Mapping[str, Any], here: records.Application | None
) -> documents.RegistryApplication:
    """Return an application of the registry; `here` is the one of the same name on this site.

    The registry's feed doesn't tell what a manifest holds, so it is known of versions here only.
    """
    manifests = {v.number: v.manifest for v in here.versions} if here else {}
    return {
        "name": row["name"],
        "architectures": list(row["architectures"]),
        "boot_package": here.boot_package if here else "",
        "instance_type": here.instance_type if here else "",
        "tags": list(row["tags"]),
        "versions": {
            str(number): _registry_version(manifests.get(number, {})) for number in row["versions"]
        },
        "vm": here.vm if here else False,
        "size": row["size"],
    }


def task(operation: Operation) -> documents.Task:
    """Return an operation under way as a task; its object is the first thing that it works on."""
    states = {OperationStatus.CREATED: "created", OperationStatus.CANCELLING: "shutdown"}
    kind, urls = next(((k, u) for k, u in operation.resources.items() if u), ("", [""]))
    return {
        "id": operation.id,
        "status": states.get(operation.status, "running"),
        "object_id": urls[0].rpartition("/")[2],
        "object_type": kind.removesuffix("s"),
    }


def _registry_version(manifest: Mapping[str, Any]) -> documents.RegistryVersion:
    return {
        "boot_activity": _text(manifest.get("boot-activity")),
        "features": _texts(manifest.get("features")),
        "hooks": {"timeout": _text(_mapping(manifest.get("hooks")).get("timeout"))},
        "bootstrap": {"keep": _texts(_mapping(manifest.get("bootstrap")).get("keep"))},
        "video_encoder": _text(manifest.get("video-encoder")),
    }


def _resources(manifest: Mapping[str, Any]) -> documents.Resources:
    described: documents.Resources = {
        "gpu-slots": _number(manifest.get("gpu-slots"), UNSET),
        "vpu-slots": _number(manifest.get("vpu-slots"), UNSET),
    }
    if cpus := _number(manifest.get("cpus"), 0):
        described["cpus"] = cpus
    if memory := _text(manifest.get("memory")):
        described["memory"] = memory
    if disk_size := _text(manifest.get("disk-size")):
        described["disk-size"] = disk_size
    return described


def _watchdog(manifest: Mapping[str, Any]) -> documents.Watchdog:
    return {
        "disabled": manifest.get("disabled") is True,
        "allowed-packages": _texts(manifest.get("allowed-packages")),
    }


def _extra_data(manifest: Mapping[str, Any]) -> dict[str, documents.ExtraData]:
    if not manifest:
        return {}
    return {
        name: {
            "target": _text(data.get("target")),
            "owner": _text(data.get("owner")),
            "permissions": _text(data.get("permissions")),
        }
        for name, data in manifest.items()
        if isinstance(data, dict)
    }


def _is_service(value: Any) -> bool:
    return isinstance(value, dict) and _number(value.get("port"), 0) > 0


def _service(manifest: Mapping[str, Any]) -> documents.NetworkService:
    described: documents.NetworkService = {
        "name": _text(manifest.get("name")),
        "port": _number(manifest.get("port"), 0),
        "protocols": _texts(manifest.get("protocols")),
        "expose": manifest.get("expose") is True,
    }
    if end := _number(manifest.get("port-end"), 0):
        described["port_end"] = end
    return described


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _text(value: Any) -> str:
    if value is None:  # most of a manifest's fields aren't there
        return ""
    return str(value) if isinstance(value, (str, int, float)) else ""


def _number(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [item for item in _items(value) if isinstance(item, str)]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

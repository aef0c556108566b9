"""Single fields of an application that may change without a new package: pure rules.

Some describe the application: they are kept beside its versions, over what the newest manifest
says, and reach other sites with the next version. The others describe what runs, so that a change
of them is a new version with another `manifest.yaml`, which takes over what was kept beside. Which
is which follows the reference (`PATCH` of an application in its API pages, `ApplicationPatch` of
the public SDK).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ams.packages import Manifest
from ams.packages import manifest as manifests
from regkit.errors import Invalid

INHIBIT = "inhibit-auto-updates"
"""Not of the manifest: whether the application stays as it is when an image changes."""

OF_APPLICATION = ("image", "instance-type", "tags", "addons", "resources", "node-selector")
"""Kept beside the versions."""

OF_VERSION = (
    "services",
    "watchdog",
    "boot-activity",
    "required-permissions",
    "video-encoder",
    "version",
    "features",
    "hooks",
    "bootstrap",
)
"""A change of these is a new version."""

ABIS = {"amd64": "x86_64", "arm64": "arm64-v8a", "armhf": "armeabi-v7a", "i386": "x86"}
"""Android's name of the primary ABI of a Debian architecture (Android NDK guide, ABIs)."""


@dataclass(frozen=True)
class Outcome:
    """What a change comes to: `fields` to keep beside the versions, and a new version or none."""

    fields: dict[str, Any]
    manifest: Manifest | None
    changed: bool


def abi(architecture: str) -> str:
    """Return Android's name of an architecture."""
    return ABIS.get(architecture, architecture)


def effective(manifest: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a manifest says once `fields` were put over it; None takes a key away."""
    over = {key: value for key, value in fields.items() if key != INHIBIT}
    return {key: value for key, value in {**manifest, **over}.items() if value is not None}


def apply(
    manifest: Mapping[str, Any], fields: Mapping[str, Any], wanted: Mapping[str, Any]
) -> Outcome:
    """Say what becomes of an application whose newest version has `manifest`, under `fields`.

    `wanted` has keys of OF_APPLICATION, OF_VERSION and INHIBIT. An empty value unsets; within
    `resources` a 0 for `cpus` and a negative number of slots do, and what isn't named stays.
    Raises Invalid with every fault.
    """
    before = effective(manifest, fields)
    after = dict(before)
    for key, asked in wanted.items():
        value = _resources({**before.get(key, {}), **asked}) if key == "resources" else asked
        if key != INHIBIT:
            after[key] = value if value not in ("", [], {}) else None
    after = {key: value for key, value in after.items() if value is not None}
    inhibit = bool(wanted.get(INHIBIT, fields.get(INHIBIT)))
    kept: dict[str, Any] = {INHIBIT: True} if inhibit else {}
    checked = _check(after)
    after = checked.to_dict()
    if any(_told(after.get(key)) != _told(before.get(key)) for key in OF_VERSION):
        return Outcome(kept, checked, changed=True)
    for key in OF_APPLICATION:
        if after.get(key) != manifest.get(key):
            kept[key] = after.get(key)
    return Outcome(kept, None, changed=kept != fields)


def _resources(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what is asked to be unset, as `ToApplicationResources` of the public SDK does."""
    return {
        key: value
        for key, value in asked.items()
        if not (value == "" or (key == "cpus" and value == 0))
        and not (key.endswith("-slots") and isinstance(value, int) and value < 0)
    }


def _told(value: Any) -> Any:
    """Return a value without what says nothing: `{"disabled": false}` is as good as no key."""
    if isinstance(value, Mapping):
        return {key: part for key, item in value.items() if (part := _told(item))} or None
    if isinstance(value, list):
        return [_told(item) for item in value] or None
    return value or None


def _check(document: Mapping[str, Any]) -> Manifest:
    """Hold the fields to the rules of a package's manifest."""
    raw = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True).encode()
    try:
        return manifests.parse(raw)
    except Invalid as error:
        raise Invalid(str(error).removeprefix(f"{manifests.FILE_NAME}: ")) from None

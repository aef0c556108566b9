"""The body of a change of single fields, and its translation into the manifest's own keys.

The names are those of `ApplicationPatch` in the public SDK, which writes some with `_` and some
with `-`; either is taken for each. The SDK sends every field, null for those that stay.
"""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field


def _spelled(name: str) -> Any:
    """Return a field that may be written with hyphens or underscores, `name` above all."""
    other = name.replace("_", "-") if "_" in name else name.replace("-", "_")
    return Field(default=None, validation_alias=AliasChoices(name, other))


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ResourcesPatch(_Part):
    """What an instance gets. What isn't named stays; 0 CPUs, -1 slots or an empty text unset."""

    cpus: int | None = None
    memory: str | None = None
    disk_size: str | None = _spelled("disk-size")
    gpu_slots: int | None = _spelled("gpu-slots")
    vpu_slots: int | None = _spelled("vpu-slots")


class NetworkServicePatch(_Part):
    """A port that the application offers, or a range of them."""

    name: str
    port: int
    port_end: int | None = _spelled("port_end")
    protocols: list[str]
    expose: bool = False


class WatchdogPatch(_Part):
    """When an instance counts as broken; it replaces what there is."""

    disabled: bool = False
    allowed_packages: list[str] | None = _spelled("allowed-packages")


class HooksPatch(_Part):
    """How long a hook may take; it replaces what there is."""

    timeout: str | None = None


class BootstrapPatch(_Part):
    """What is kept after the bootstrap; it replaces what there is."""

    keep: list[str] | None = None


class ApplicationPatch(_Part):
    """Fields to change. Null: stays as it is. Empty: unset.

    The first six and `inhibit_auto_updates` change the application; the others make a new version.
    """

    image: str | None = None
    instance_type: str | None = _spelled("instance-type")
    tags: list[str] | None = None
    addons: list[str] | None = None
    resources: ResourcesPatch | None = None
    node_selector: list[str] | None = _spelled("node_selector")
    inhibit_auto_updates: bool | None = _spelled("inhibit_auto_updates")
    services: list[NetworkServicePatch] | None = None
    watchdog: WatchdogPatch | None = None
    boot_activity: str | None = _spelled("boot_activity")
    required_permissions: list[str] | None = _spelled("required_permissions")
    video_encoder: str | None = _spelled("video_encoder")
    manifest_version: str | None = _spelled("manifest_version")
    features: list[str] | None = None
    hooks: HooksPatch | None = None
    bootstrap: BootstrapPatch | None = None

    def wanted(self) -> dict[str, Any]:
        """Return what is asked for by the manifest's keys, for `Catalogue.change`."""
        asked = _hyphened(self.model_dump(exclude_none=True))
        if "manifest-version" in asked:
            asked["version"] = asked.pop("manifest-version")
        if asked.get("video-encoder") == "unknown":  # the SDK's word for none
            asked["video-encoder"] = ""
        return asked


def _hyphened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.replace("_", "-"): _hyphened(item) for key, item in value.items()}
    return [_hyphened(item) for item in value] if isinstance(value, list) else value

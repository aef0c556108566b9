"""JSON read as Go's `encoding/json` reads it into the structs of the public SDK.

The tables are those of github.com/canonical/ams-sdk (`api/ams`, `shared/rest/api`): each field
with its JSON name, its Go type, and whether `omitempty` lets a server leave it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Kind = Callable[[Any, str], Any]


def _exactly(name: str, *types: type) -> Kind:
    def read(value: Any, where: str) -> Any:
        is_bool = isinstance(value, bool)
        assert isinstance(value, types) and is_bool == (bool in types), (
            f"{where}: Go can't put {value!r} into a {name}"
        )
        return value

    return read


STRING, INT, BOOL = _exactly("string", str), _exactly("int", int), _exactly("bool", bool)


def ANY(value: Any, _where: str) -> Any:  # noqa: N802 - a type, as the others
    return value


def TIME(value: Any, where: str) -> datetime:  # noqa: N802
    """time.Time: RFC 3339 with a zone."""
    moment = datetime.fromisoformat(STRING(value, where).replace("Z", "+00:00"))
    assert moment.tzinfo is not None, f"{where}: {value!r} has no time zone"
    return moment


def many(kind: Kind) -> Kind:
    """A slice. Ours is never null."""

    def read(value: Any, where: str) -> Any:
        assert isinstance(value, list), f"{where}: Go can't put {value!r} into a slice"
        return [kind(item, f"{where}[{index}]") for index, item in enumerate(value)]

    return read


def mapped(kind: Kind, key: Callable[[str], Any] = str) -> Kind:
    """A map; `key` reads its keys."""

    def read(value: Any, where: str) -> Any:
        assert isinstance(value, dict), f"{where}: Go can't put {value!r} into a map"
        return {key(name): kind(item, f"{where}.{name}") for name, item in value.items()}

    return read


@dataclass(frozen=True)
class Struct:
    """A struct: every field that isn't `omitempty` must be there; others are passed over."""

    fields: Mapping[str, Kind]
    omitempty: frozenset[str] = frozenset()

    def __call__(self, value: Any, where: str) -> dict[str, Any]:
        assert isinstance(value, dict), f"{where}: Go can't put {value!r} into a struct"
        missing = set(self.fields) - set(value) - self.omitempty
        assert not missing, f"{where}: {missing} missing"
        return {
            name: kind(value[name], f"{where}.{name}")
            for name, kind in self.fields.items()
            if name in value
        }


NETWORK_SERVICE = Struct(
    {"port": INT, "port_end": INT, "protocols": many(STRING), "expose": BOOL, "name": STRING},
    frozenset({"port", "port_end"}),
)
VERSION = Struct(
    {
        "number": INT, "manifest_version": STRING, "parent_image_id": STRING,
        "parent_image_version": INT, "status_code": INT, "status": STRING, "published": BOOL,
        "created_at": INT, "boot_activity": STRING, "required_permissions": many(STRING),
        "addons": many(Struct({"name": STRING, "version": INT})),
        "extra_data": mapped(Struct({"target": STRING, "owner": STRING, "permissions": STRING})),
        "error_message": STRING, "video_encoder": STRING,
        "watchdog": Struct({"disabled": BOOL, "allowed-packages": many(STRING)}),
        "services": many(NETWORK_SERVICE), "features": many(STRING),
        "hooks": Struct({"timeout": STRING}, frozenset({"timeout"})),
        "bootstrap": Struct({"keep": many(STRING)}, frozenset({"keep"})),
    },
    frozenset({"video_encoder", "services", "hooks", "bootstrap"}),
)  # fmt: skip
RESOURCES = Struct(
    {"cpus": INT, "memory": STRING, "disk-size": STRING, "gpu-slots": INT, "vpu-slots": INT},
    frozenset({"cpus", "memory", "disk-size", "gpu-slots", "vpu-slots"}),
)
APPLICATION = Struct(
    {
        "id": STRING, "name": STRING, "status_code": INT, "status": STRING,
        "instance_type": STRING, "boot_package": STRING, "parent_image_id": STRING,
        "published": BOOL, "versions": many(VERSION), "addons": many(STRING), "created_at": INT,
        "immutable": BOOL, "tags": many(STRING), "resources": RESOURCES, "abi": STRING,
        "inhibit_auto_updates": BOOL, "node_selector": many(STRING), "vm": BOOL,
    },
    frozenset({"resources", "abi"}),
)  # fmt: skip
APPLICATION_FILTERS = (
    "id", "name", "status", "instance_type", "boot_package", "published", "immutable", "abi",
    "addons", "inhibit_auto_updates", "tags",
)  # fmt: skip
"""What `GetApplicationFilters` returns."""

SERVICE_STATUS = Struct(
    {
        "api_extensions": many(STRING), "api_status": STRING, "api_version": STRING,
        "auth": STRING, "auth_methods": many(STRING), "cluster_id": STRING,
        "cluster_name": STRING,
    }
)  # fmt: skip
VERSION_GET = Struct({"version": STRING})
CERTIFICATE = Struct({"certificate": STRING, "fingerprint": STRING})
CONFIG_GET = Struct({"config": mapped(ANY)})
TASK = Struct({"id": STRING, "status": STRING, "object_id": STRING, "object_type": STRING})
OPERATION = Struct(
    {
        "id": STRING, "class": STRING, "description": STRING, "created_at": TIME,
        "updated_at": TIME, "status": STRING, "status_code": INT,
        "resources": mapped(many(STRING)), "metadata": mapped(ANY), "may_cancel": BOOL,
        "err": STRING, "server_address": STRING,
    },
    frozenset({"resources", "metadata", "err", "server_address"}),
)  # fmt: skip
EVENT = Struct({"type": STRING, "timestamp": TIME, "metadata": ANY})
LIFECYCLE = Struct({"action": STRING, "source": STRING})
REGISTRY_APPLICATION = Struct(
    {
        "name": STRING, "architectures": many(STRING), "boot_package": STRING,
        "instance_type": STRING, "tags": many(STRING), "vm": BOOL,
        "versions": mapped(
            Struct(
                {
                    "boot_activity": STRING, "features": many(STRING), "video_encoder": STRING,
                    "hooks": Struct({"timeout": STRING}),
                    "bootstrap": Struct({"keep": many(STRING)}),
                }
            ),
            int,
        ),
    }
)  # fmt: skip
RESPONSE = Struct(
    {
        "type": STRING, "status": STRING, "status_code": INT, "operation": STRING,
        "error_code": INT, "error": STRING, "metadata": ANY,
    },
    frozenset({"operation", "error", "metadata"}),
)  # fmt: skip

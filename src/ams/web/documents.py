"""The JSON objects that the API answers with, as types: what the public SDK's structs expect.

Names, and what is an integer and what a text, follow github.com/canonical/ams-sdk (`api/ams`,
`shared/rest/api`); keys that the SDK doesn't know are ours. Lists are never null. `shapes` makes
the values; the type checker and the published description hold them to these types.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, with_config
from typing_extensions import NotRequired, TypedDict

closed = with_config(ConfigDict(extra="forbid"))
"""Nothing is answered that isn't described."""


def _one_of(*values: str | int) -> Any:
    return Field(json_schema_extra={"enum": list(values)})


Seconds = Annotated[int, Field(description="Seconds since 1970, UTC.")]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
MomentOrEmpty = Annotated[str, Field(description="RFC 3339; empty for never.")]
Url = Annotated[str, Field(description="An object's path, such as `/1.0/applications/…`.")]
Digest = Annotated[str, Field(description="Of the OCI manifest: `sha256:` and 64 hex digits.")]
Fingerprint = Annotated[
    str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the certificate's DER.")
]
StatusCode = Annotated[
    int,
    _one_of(*range(100, 113), 200, 400, 401),
    Field(description="100 to 112: it goes on. 200 success, 400 failure, 401 cancelled."),
]
Slots = Annotated[int, Field(description="-1: not set.")]


@closed
class Addon(TypedDict):
    """An addon that a version asks for."""

    name: str
    version: int


@closed
class ExtraData(TypedDict):
    """Where a file of `extra-data/` goes in an instance."""

    target: str
    owner: str
    permissions: str


@closed
class NetworkService(TypedDict):
    """A port that the application offers, or a range of them."""

    name: str
    port: int
    port_end: NotRequired[int]
    protocols: list[str]
    expose: bool


Resources = TypedDict(
    "Resources",
    {
        "cpus": NotRequired[int],
        "memory": NotRequired[str],
        "disk-size": NotRequired[str],
        "gpu-slots": Slots,
        "vpu-slots": Slots,
    },
)
"""What an instance gets, instead of what its instance type says."""
closed(Resources)

Watchdog = TypedDict("Watchdog", {"disabled": bool, "allowed-packages": list[str]})
"""When an instance counts as broken."""
closed(Watchdog)


@closed
class Hooks(TypedDict):
    """How long a hook may take."""

    timeout: NotRequired[str]


@closed
class Bootstrap(TypedDict):
    """What is kept after the bootstrap."""

    keep: NotRequired[list[str]]


@closed
class Version(TypedDict):
    """One version of an application."""

    number: int
    manifest_version: str
    parent_image_id: str
    parent_image_version: int
    status_code: int
    status: Annotated[
        str,
        _one_of(
            *("error", "unknown", "initializing", "created"),
            *("active", "deleted", "available", "queued"),
        ),
    ]
    published: bool
    created_at: Seconds
    boot_activity: str
    required_permissions: list[str]
    addons: list[Addon]
    extra_data: dict[str, ExtraData]
    error_message: str
    video_encoder: NotRequired[str]
    watchdog: Watchdog
    services: list[NetworkService]
    features: list[str]
    hooks: Hooks
    bootstrap: Bootstrap
    architecture: str
    digest: Digest
    size: Annotated[int, Field(description="Bytes of all files.")]


@closed
class Application(TypedDict):
    """An application with its versions, oldest first."""

    id: str
    name: str
    status_code: int
    status: Annotated[str, _one_of("error", "unknown", "initializing", "ready", "deleted")]
    instance_type: str
    boot_package: str
    parent_image_id: str
    published: bool
    versions: list[Version]
    addons: list[str]
    created_at: Seconds
    updated_at: Seconds
    immutable: Annotated[bool, Field(description="Whether the registry owns it.")]
    tags: list[str]
    resources: Resources
    abi: str
    inhibit_auto_updates: bool
    node_selector: list[str]
    vm: bool
    origin: Literal["local", "registry"]


@closed
class Certificate(TypedDict):
    """A trusted certificate."""

    certificate: Annotated[str, Field(description="PEM.")]
    fingerprint: Fingerprint
    common_name: str
    issued_at: Moment
    expires_at: Moment
    origin: str


Operation = TypedDict(
    "Operation",
    {
        "id": str,
        "class": str,
        "description": str,
        "created_at": Moment,
        "updated_at": Moment,
        "status": str,
        "status_code": StatusCode,
        "resources": Annotated[
            dict[str, list[Url]], Field(description="What it works on, by kind.")
        ],
        "metadata": Annotated[
            dict[str, Any], Field(description="Progress and results, as the work reports them.")
        ],
        "may_cancel": bool,
        "err": str,
        "server_address": str,
    },
)
"""Work that goes on in the service, or has ended."""
closed(Operation)


@closed
class Task(TypedDict):
    """An operation under way, as the reference's scheduler shows its work."""

    id: str
    status: Annotated[str, _one_of("created", "running", "shutdown")]
    object_id: str
    object_type: str


@closed
class ServiceStatus(TypedDict):
    """What the service can do, and whether the caller is trusted."""

    api_extensions: list[str]
    api_status: Literal["stable"]
    api_version: str
    auth: Literal["trusted", "untrusted"]
    auth_methods: list[str]
    cluster_id: str
    cluster_name: str


@closed
class ServiceVersion(TypedDict):
    """The version of the service."""

    version: str


@closed
class Config(TypedDict):
    """Every option with its value; of a secret only whether it is set."""

    config: dict[str, str | bool | int]


@closed
class ConfigOrigins(TypedDict):
    """Who set each option: `default`, `manual` or the name of its owner."""

    origins: dict[str, str]


@closed
class ManagedOptions(TypedDict):
    """What an owner manages; of a secret only whether it is set."""

    config: dict[str, str | bool | int]
    certificates: Annotated[list[str], Field(description="PEM.")]


@closed
class AppliedCertificates(TypedDict):
    """What became of the certificates, by fingerprint."""

    added: list[Fingerprint]
    removed: list[Fingerprint]
    kept: Annotated[list[Fingerprint], Field(description="There already, of another origin.")]
    unchanged: list[Fingerprint]


@closed
class AppliedConfig(TypedDict):
    """What an owner's document has changed."""

    changed: Annotated[list[str], Field(description="Names of options.")]
    certificates: AppliedCertificates


@closed
class RegistryHooks(TypedDict):
    """Hooks of a version in the registry."""

    timeout: str


@closed
class RegistryBootstrap(TypedDict):
    """Bootstrap of a version in the registry."""

    keep: list[str]


@closed
class RegistryVersion(TypedDict):
    """A version in the registry; what its manifest says is known of versions that are here too."""

    boot_activity: str
    features: list[str]
    hooks: RegistryHooks
    bootstrap: RegistryBootstrap
    video_encoder: str


@closed
class RegistryApplication(TypedDict):
    """An application in the registry; `versions` by number."""

    name: str
    architectures: list[str]
    boot_package: str
    instance_type: str
    tags: list[str]
    versions: dict[str, RegistryVersion]
    vm: bool
    size: int


@closed
class Quarantined(TypedDict):
    """A version that failed for a reason of its own."""

    version: str
    reason: str
    attempts: int
    retry_at: MomentOrEmpty


@closed
class RegistryCounts(TypedDict):
    """How much there is."""

    registry_applications: int
    registry_versions: int
    imported_versions: int
    pushed_versions: int


@closed
class RegistryStatus(TypedDict):
    """How the synchronisation with the registry stands."""

    url: str
    fingerprint: str
    mode: Literal["pull", "push", "manual"]
    connected: bool
    role: str
    epoch: str
    seq: int
    last_check: MomentOrEmpty
    last_success: MomentOrEmpty
    last_error: str
    next_check: MomentOrEmpty
    syncing: bool
    pending: list[str]
    held: list[str]
    conflicts: list[str]
    notes: list[str]
    quarantined: list[Quarantined]
    counts: RegistryCounts


@closed
class Lifecycle(TypedDict):
    """What has happened to what."""

    action: str
    source: Url
    context: dict[str, Any]


@closed
class Event(TypedDict):
    """A message of a websocket."""

    type: Literal["operation", "lifecycle"]
    timestamp: Moment
    metadata: Operation | Lifecycle

"""`manifest.yaml`: what a package says about its application.

Every fault is listed at once, with its place in the file. The fields, their limits and their
allowed values are those of the reference's manifest (docs/reference, FACTS of the reference).
Whether the files that it speaks of are in the package is `ams.packages.package`'s business.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from regkit import durations, yamlsafe
from regkit.errors import Invalid
from regkit.oci.application import MAX_TAG, MAX_TAGS
from regkit.oci.names import MAX_APPLICATION, valid_application
from regkit.settings import describe

FILE_NAME = "manifest.yaml"
MAX_HOOK_TIMEOUT = "15m"
MAX_ITEMS = 1000
_NAME = re.compile(r"[A-Za-z0-9_\-.]+", re.ASCII)
_SIZE = re.compile(r"[1-9][0-9]{0,11}(?:B|[kKMGT]i?B)?", re.ASCII)
_OWNER = re.compile(r"[A-Za-z0-9_.-]{1,64}(?::[A-Za-z0-9_.-]{1,64})?", re.ASCII)
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or not valid_application(text):
        raise ValueError(
            f"{text[:80]!r} is not allowed: use letters, digits, '_', '-' and '.', at most "
            f"{MAX_APPLICATION} characters and not only dots"
        )
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has control characters")
    return text


def _integer(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value, re.ASCII):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("must be a whole number")


def _boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    raise ValueError("must be true or false")


def _size(text: str) -> str:
    if not _SIZE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a size: write it like 512MB or 4GB")
    return text


def _timeout(text: str) -> str:
    if durations.parse(text) > durations.parse(MAX_HOOK_TIMEOUT):
        raise ValueError(f"{text[:40]!r} is too long: at most {MAX_HOOK_TIMEOUT}")
    return text


def _permissions(text: str) -> str:
    if not re.fullmatch(r"(0o?)?[0-7]{3,4}", text, re.ASCII):
        raise ValueError(f"{text[:40]!r} are not permissions: write them in octal, like 0644")
    return text


def _owner(text: str) -> str:
    if not _OWNER.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not an owner: write it like 1000:1000")
    return text


def _file_name(text: str) -> str:
    if text in ("", ".", "..") or "/" in text or "\\" in text or not text.isprintable():
        raise ValueError(f"{text[:80]!r} must be the name of a file or folder in extra-data/")
    return text


Text = Annotated[str, StringConstraints(max_length=255), AfterValidator(_printable)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_printable)]
Words = Annotated[list[Word], Field(max_length=MAX_ITEMS)]
Flag = Annotated[bool, BeforeValidator(_boolean)]
Count = Annotated[int, BeforeValidator(_integer), Field(ge=1, le=1_000_000)]
CountOrNone = Annotated[int, BeforeValidator(_integer), Field(ge=0, le=1_000_000)]
Size = Annotated[str, AfterValidator(_size)]


class _Part(BaseModel):
    """A group of keys. Keys are written with hyphens; an unknown one is a fault."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )


class Watchdog(_Part):
    """When the instance counts as broken."""

    disabled: Flag | None = None
    allowed_packages: Words | None = None


class Service(_Part):
    """A port that the application offers, or a range of them."""

    name: Word
    port: Annotated[int, BeforeValidator(_integer), Field(ge=1, le=65535)]
    port_end: Annotated[int, BeforeValidator(_integer), Field(ge=1, le=65535)] | None = None
    protocols: Annotated[list[Literal["tcp", "udp"]], Field(min_length=1, max_length=2)]
    expose: Flag | None = None

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Service:
        if self.port_end is not None and self.port_end < self.port:
            raise ValueError(f"port-end {self.port_end} is below port {self.port}")
        return self


class Resources(_Part):
    """What an instance gets, instead of a predefined instance type."""

    cpus: Count | None = None
    memory: Size | None = None
    disk_size: Size | None = None
    gpu_slots: CountOrNone | None = None
    vpu_slots: CountOrNone | None = None


class ExtraData(_Part):
    """Where a file or folder of `extra-data/` goes in the instance."""

    target: Annotated[
        str, StringConstraints(min_length=1, max_length=4095), AfterValidator(_printable)
    ]
    owner: Annotated[str, AfterValidator(_owner)] | None = None
    permissions: Annotated[str, AfterValidator(_permissions)] | None = None


class Hooks(_Part):
    """How long a hook may take."""

    timeout: Annotated[str, AfterValidator(_timeout)] | None = None


class Bootstrap(_Part):
    """What is kept after the bootstrap."""

    keep: Words | None = None


class Manifest(_Part):
    """The whole file."""

    name: Annotated[str, AfterValidator(_name)]
    version: (
        Annotated[str, StringConstraints(max_length=50), AfterValidator(_printable)] | None
    ) = None
    instance_type: Word | None = None
    required_permissions: Words | None = None
    image: Text | None = None
    addons: Words | None = None
    tags: (
        Annotated[
            list[
                Annotated[
                    str,
                    StringConstraints(min_length=1, max_length=MAX_TAG),
                    AfterValidator(_printable),
                ]
            ],
            Field(max_length=MAX_TAGS),
        ]
        | None
    ) = None
    boot_package: Word | None = None
    boot_activity: Word | None = None
    video_encoder: Literal["gpu-preferred", "gpu", "software"] | None = None
    watchdog: Watchdog | None = None
    services: Annotated[list[Service], Field(max_length=MAX_ITEMS)] | None = None
    resources: Resources | None = None
    extra_data: (
        Annotated[
            dict[Annotated[str, AfterValidator(_file_name)], ExtraData],
            Field(max_length=MAX_ITEMS),
        ]
        | None
    ) = None
    hooks: Hooks | None = None
    bootstrap: Bootstrap | None = None
    features: Words | None = None
    node_selector: Words | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that were given, as plain JSON data with the file's own keys."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def render(manifest: Manifest) -> bytes:
    """Return the bytes of a `manifest.yaml` that says what `manifest` does."""
    text = yaml.safe_dump(manifest.to_dict(), sort_keys=False, allow_unicode=True)
    return text.encode()


def parse(raw: bytes) -> Manifest:
    """Read the bytes of a `manifest.yaml`.

    Raises Invalid with every fault, such as `services[0].port: must be a whole number`.
    """
    try:
        content = yamlsafe.load(raw)
    except yamlsafe.InvalidYaml as error:
        raise Invalid(f"{FILE_NAME}: {error}") from None
    if not isinstance(content, dict):
        raise Invalid(f"{FILE_NAME} must hold keys and values, such as 'name: my-app'")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        faults = [_describe(fault) for fault in error.errors(include_url=False)]
        raise Invalid(f"{FILE_NAME}: {'; '.join(faults)}") from None


_WORDING = {
    "string_type": "must be a text",
    "list_type": "must be a list",
    "dict_type": "must be keys and values",
    "model_type": "must be keys and values",
}


def _describe(fault: ErrorDetails) -> str:
    # A faulty key of a mapping is told by pydantic as its key and '[key]'.
    fault["loc"] = tuple(part for part in fault["loc"] if part != "[key]")
    fault["msg"] = _WORDING.get(fault["type"], fault["msg"])
    return "".join(c if c.isprintable() else "?" for c in describe(fault))[:400]

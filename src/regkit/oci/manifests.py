"""Image manifests and indexes (OCI image specification 1.1), parsed from hostile bytes.

Docker's schema 2 manifests and manifest lists have the same shape and are taken too. Whether what
a manifest refers to exists is the registry's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from regkit.errors import Invalid, TooLarge
from regkit.oci import strict
from regkit.oci.digest import Digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = frozenset({MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({INDEX, DOCKER_LIST})

MAX_BYTES = 4 * 1024 * 1024
"""The size that registries should take at least (distribution-spec, "Pushing Manifests")."""
MAX_DESCRIPTORS = 10_000
MAX_ANNOTATIONS = 1_000
MAX_SIZE = 2**53 - 1
"""The largest size that every JSON reader keeps exact."""

_MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}", re.ASCII
)
_FOREIGN = re.compile(
    r"application/vnd\.(oci\.image\.layer\.nondistributable\..*"
    r"|docker\.image\.rootfs\.foreign\..*)"
)


def _no_annotations() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Descriptor:
    """A reference to content: what it is, its digest, its size in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=_no_annotations)
    artifact_type: str | None = None
    platform: Mapping[str, Any] | None = None
    urls: tuple[str, ...] = ()

    @property
    def foreign(self) -> bool:
        """Whether the content may live elsewhere, so that a registry needn't hold it."""
        return bool(self.urls) or _FOREIGN.fullmatch(self.media_type) is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; absent fields are left out."""
        result: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.artifact_type:
            result["artifactType"] = self.artifact_type
        if self.annotations:
            result["annotations"] = dict(self.annotations)
        if self.platform:
            result["platform"] = dict(self.platform)
        if self.urls:
            result["urls"] = list(self.urls)
        return result


@dataclass(frozen=True)
class Manifest:
    """A parsed manifest (`config`, `layers`) or index (`manifests`)."""

    media_type: str
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=_no_annotations)

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests rather than blobs."""
        return self.media_type in INDEX_TYPES

    @property
    def effective_artifact_type(self) -> str | None:
        """`artifactType`, else the config's media type (image-spec, manifest.md)."""
        if self.artifact_type:
            return self.artifact_type
        return self.config.media_type if self.config else None

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """The config and the layers that a registry must hold."""
        config = (self.config,) if self.config else ()
        return config + tuple(layer for layer in self.layers if not layer.foreign)


def parse_manifest(content: bytes, media_type: str | None = None) -> Manifest:
    """Parse a manifest or an index.

    `media_type` is what the sender declared; without it the `mediaType` field decides. Raises
    TooLarge above 4 MiB, Invalid for anything else that isn't right.
    """
    if len(content) > MAX_BYTES:
        raise TooLarge(f"the manifest has {len(content)} bytes: at most {MAX_BYTES} are allowed")
    body = strict.load_object(content, "the manifest")
    stated = _optional_media_type(body, "mediaType", "the manifest")
    if media_type is not None and stated is not None and stated != media_type:
        raise Invalid(
            f"the manifest says that it is {stated!r}, but was declared as {media_type[:120]!r}: "
            "send the same media type in both"
        )
    kind = media_type or stated
    if kind not in MANIFEST_TYPES | INDEX_TYPES:
        raise Invalid(
            f"{str(kind)[:120]!r} is not a supported kind of manifest: use {MANIFEST} or {INDEX}"
        )
    version = body.get("schemaVersion")
    if version != 2 or isinstance(version, bool):
        raise Invalid("the manifest's schemaVersion must be 2")
    common: dict[str, Any] = {
        "media_type": kind,
        "subject": _descriptor(body["subject"], "subject") if body.get("subject") else None,
        "artifact_type": _optional_media_type(body, "artifactType", "the manifest"),
        "annotations": _annotations(body.get("annotations"), "the manifest"),
    }
    if kind in INDEX_TYPES:
        _absent(body, ("config", "layers"), "an index")
        return Manifest(manifests=_descriptors(body, "manifests"), **common)
    _absent(body, ("manifests",), "an image manifest")
    return Manifest(
        config=_descriptor(body.get("config"), "config"),
        layers=_descriptors(body, "layers"),
        **common,
    )


def _absent(body: dict[str, Any], keys: tuple[str, ...], what: str) -> None:
    # Content that is both a manifest and an index is read differently by different readers
    # (CVE-2021-41190).
    for key in keys:
        if key in body:
            raise Invalid(f"{what} can't have {key!r}")


def _descriptors(body: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    value = body.get(key)
    if not isinstance(value, list):
        raise Invalid(f"the manifest's {key} must be a list")
    if len(value) > MAX_DESCRIPTORS:
        raise Invalid(f"the manifest's {key} has more than {MAX_DESCRIPTORS} entries")
    return tuple(_descriptor(item, f"{key}[{index}]") for index, item in enumerate(value))


def _descriptor(value: Any, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise Invalid(f"{where} must be a descriptor with mediaType, digest and size")
    media_type = _optional_media_type(value, "mediaType", where)
    if media_type is None:
        raise Invalid(f"{where} has no mediaType")
    try:
        digest = Digest.parse(value.get("digest"))
    except Invalid as error:
        raise Invalid(f"{where}: {error}") from None
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SIZE:
        raise Invalid(f"{where}: size must be a whole number of bytes")
    platform = value.get("platform")
    if platform is not None and not isinstance(platform, dict):
        raise Invalid(f"{where}: platform must be an object")
    urls = value.get("urls") or []
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise Invalid(f"{where}: urls must be a list of texts")
    return Descriptor(
        media_type=media_type,
        digest=digest,
        size=size,
        annotations=_annotations(value.get("annotations"), where),
        artifact_type=_optional_media_type(value, "artifactType", where),
        platform=platform,
        urls=tuple(urls),
    )


def _optional_media_type(body: dict[str, Any], key: str, where: str) -> str | None:
    value = body.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _MEDIA_TYPE.fullmatch(value):
        raise Invalid(f"{where}: {key} is not a media type (RFC 6838)")
    return value


def _annotations(value: Any, where: str) -> Mapping[str, str]:
    if value is None:
        return _no_annotations()
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise Invalid(f"{where}: annotations must map texts to texts")
    if len(value) > MAX_ANNOTATIONS:
        raise Invalid(f"{where} has more than {MAX_ANNOTATIONS} annotations")
    return MappingProxyType(value)

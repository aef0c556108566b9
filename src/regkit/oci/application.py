"""An application version as an OCI manifest: how it is written, how it is read back.

The config blob holds the version's key and its parsed `manifest.yaml`; each file of the package is
one layer titled with its path (the convention of ORAS), so that a file which doesn't change is one
blob for all versions. Whether `manifest.yaml` makes sense is AMS's business, whether a version may
be published is the registry's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from regkit.errors import Invalid
from regkit.oci import strict
from regkit.oci.digest import Digest
from regkit.oci.manifests import INDEX, MANIFEST, Descriptor, Manifest
from regkit.oci.names import MAX_APPLICATION, valid_application
from regkit.oci.paths import below_a_file

CONFIG_MEDIA_TYPE = "application/vnd.aar.application.config.v1+json"
ARTIFACT_TYPE = "application/vnd.aar.application.v1"
FILE_MEDIA_TYPE = "application/vnd.aar.application.file.v1"
TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"
MODE = "vnd.aar.file.mode"
"""A layer's annotation with the file's permission bits in octal, left out for 0644."""
UNPACK = "io.deis.oras.content.unpack"
"""ORAS's mark of a layer that is a packed directory."""

MAX_CONFIG = 4 * 1024 * 1024
MAX_NUMBER = 2**31 - 1
MAX_TAGS = 256
MAX_TAG = 255
DEFAULT_MODE = 0o644
NAME_MAX, PATH_MAX = 255, 4095
"""Linux's limits in bytes (limits.h)."""

_ARCHITECTURE = re.compile(r"[a-z0-9]{1,32}", re.ASCII)
_VERSION_TAG = re.compile(r"(0|[1-9][0-9]{0,9})(?:-([a-z0-9]{1,32}))?", re.ASCII)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")
# Debian's name -> (Go's architecture, variant), where they differ: platform.architecture of an
# index is Go's (image-spec, image-index.md).
_GO = {"i386": ("386", None), "armhf": ("arm", "v7"), "ppc64el": ("ppc64le", None)}


@dataclass(frozen=True, order=True)
class Key:
    """What identifies a version everywhere. Raises Invalid for what can't be one."""

    name: str
    number: int
    architecture: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not valid_application(self.name):
            raise Invalid(
                f"{str(self.name)[:80]!r} is not an application name: use at most "
                f"{MAX_APPLICATION} letters, digits, '.', '_' and '-', and not only dots"
            )
        number = self.number
        if not isinstance(number, int) or isinstance(number, bool) or not valid_number(number):
            raise Invalid(f"{str(number)[:20]!r} is not a version number: use 0 to {MAX_NUMBER}")
        if not isinstance(self.architecture, str) or not _ARCHITECTURE.fullmatch(
            self.architecture
        ):
            raise Invalid(
                f"{str(self.architecture)[:40]!r} is not an architecture: use Debian's names, "
                "such as amd64 or arm64"
            )

    def __str__(self) -> str:
        return f"{self.name} {self.tag}"

    @property
    def tag(self) -> str:
        """The tag of the version's manifest."""
        return f"{self.number}-{self.architecture}"

    @property
    def index_tag(self) -> str:
        """The tag of the index over the architectures of this number."""
        return str(self.number)


@dataclass(frozen=True)
class PackageFile:
    """A file of a package: its path inside, content, permission bits."""

    path: str
    digest: Digest
    size: int
    mode: int = DEFAULT_MODE


@dataclass(frozen=True)
class ApplicationImage:
    """A version: its key, the parsed `manifest.yaml`, its files."""

    key: Key
    manifest: Mapping[str, Any]
    files: tuple[PackageFile, ...]
    created: datetime | None = None

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that `manifest.yaml` gives to the version."""
        return tuple(self.manifest.get("tags") or ())

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum(file.size for file in self.files)


def valid_number(number: int) -> bool:
    """Whether `number` may be a version's number."""
    return 0 <= number <= MAX_NUMBER


def parse_version_tag(tag: str) -> tuple[int, str | None] | None:
    """Read `<number>-<arch>`, or `<number>` (then without an architecture); None for others."""
    match = _VERSION_TAG.fullmatch(tag)
    if match is None or not valid_number(int(match[1])):
        return None
    return int(match[1]), match[2]


def build(image: ApplicationImage) -> tuple[bytes, bytes]:
    """Return the config and the manifest of `image`; the same input gives the same bytes.

    Raises Invalid for an image that `read` would refuse.
    """
    _check_tags(image.manifest)
    strict.check_plain(dict(image.manifest), "manifest.yaml")
    _check_paths([file.path for file in image.files])
    config = strict.dump(
        {
            "name": image.key.name,
            "number": image.key.number,
            "architecture": image.key.architecture,
            "manifest": dict(image.manifest),
        }
    )
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": Descriptor(CONFIG_MEDIA_TYPE, Digest.of(config), len(config)).to_dict(),
        "layers": [_layer(file) for file in sorted(image.files, key=lambda file: file.path)],
    }
    if image.created is not None:
        moment = image.created.astimezone(timezone.utc)
        manifest["annotations"] = {CREATED: moment.strftime("%Y-%m-%dT%H:%M:%SZ")}
    if len(config) > MAX_CONFIG:
        raise Invalid(f"manifest.yaml is too large: at most {MAX_CONFIG} bytes as JSON")
    return config, strict.dump(manifest)


def read(manifest: Manifest, config: bytes) -> ApplicationImage:
    """Read a version from a parsed manifest and the bytes of its config blob.

    Raises Invalid unless everything fits: types, the config's digest and size, the key, the paths.
    """
    described = manifest.config
    if described is None or described.media_type != CONFIG_MEDIA_TYPE:
        raise Invalid(f"not an application: the config's media type must be {CONFIG_MEDIA_TYPE}")
    if manifest.artifact_type not in {None, ARTIFACT_TYPE, CONFIG_MEDIA_TYPE}:
        raise Invalid(f"the artifactType of an application must be {ARTIFACT_TYPE}")
    if described.size > MAX_CONFIG:
        raise Invalid(f"the application's config has more than {MAX_CONFIG} bytes")
    if (
        len(config) != described.size
        or Digest.of(config, described.digest.algorithm) != described.digest
    ):
        raise Invalid("the application's config isn't what its manifest describes")
    body = strict.load_object(config, "the application's config")
    content = body.get("manifest")
    if not isinstance(content, dict):
        raise Invalid("the application's config has no 'manifest' with the parsed manifest.yaml")
    _check_tags(content)
    key = Key(body.get("name", ""), body.get("number", -1), body.get("architecture", ""))
    files = tuple(_file(layer, index) for index, layer in enumerate(manifest.layers))
    _check_paths([file.path for file in files])
    return ApplicationImage(key, content, files, _created(manifest.annotations.get(CREATED)))


def build_index(entries: Iterable[tuple[str, Digest, int]]) -> bytes:
    """Return the index over (architecture, manifest digest, manifest size) of one number."""
    manifests = [
        Descriptor(
            MANIFEST, digest, size, artifact_type=ARTIFACT_TYPE, platform=_platform(architecture)
        ).to_dict()
        for architecture, digest, size in sorted(entries)
    ]
    body = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "artifactType": ARTIFACT_TYPE,
        "manifests": manifests,
    }
    return strict.dump(body)


def _platform(architecture: str) -> dict[str, str]:
    name, variant = _GO.get(architecture, (architecture, None))
    platform = {"architecture": name, "os": "linux"}
    return platform | {"variant": variant} if variant else platform


def _layer(file: PackageFile) -> dict[str, Any]:
    annotations = {TITLE: file.path}
    if file.mode != DEFAULT_MODE:
        annotations[MODE] = f"{file.mode & 0o777:04o}"
    return Descriptor(FILE_MEDIA_TYPE, file.digest, file.size, annotations).to_dict()


def _file(layer: Descriptor, index: int) -> PackageFile:
    where = f"layers[{index}]"
    if layer.foreign:
        raise Invalid(f"{where} is kept elsewhere: an application's files must be pushed with it")
    if layer.annotations.get(UNPACK) == "true":
        raise Invalid(f"{where} is a packed directory: push its files one by one")
    title = layer.annotations.get(TITLE)
    if title is None:
        raise Invalid(f"{where} has no annotation {TITLE} with the file's path")
    mode = layer.annotations.get(MODE, f"{DEFAULT_MODE:04o}")
    if not re.fullmatch(r"0[0-7]{3}", mode, re.ASCII):
        raise Invalid(f"{where}: {MODE} must be permission bits in octal, such as 0755")
    return PackageFile(title, layer.digest, layer.size, int(mode, 8))


def _check_paths(paths: list[str]) -> None:
    if len(set(paths)) != len(paths):
        twice = next(path for path, count in Counter(paths).items() if count > 1)
        raise Invalid(f"the file {twice[:120]!r} is there twice")
    for path in paths:
        try:
            raw = path.encode()
        except UnicodeEncodeError:
            raise Invalid(f"{path[:120]!r} is not a valid path") from None
        if (
            any(part in f"/{path}/" for part in ("//", "/./", "/../"))
            or _UNSAFE.search(path)
            or max(map(len, raw.split(b"/"))) > NAME_MAX
            or len(raw) > PATH_MAX
        ):
            raise Invalid(
                f"{path[:120]!r} is not a safe path: it must be relative, inside the package "
                "and without '..', empty parts, backslashes or control characters"
            )
    below = below_a_file(paths)
    if below is not None:
        raise Invalid(f"{below[:120]!r} is below a path that is a file itself")


def _check_tags(manifest: Mapping[str, Any]) -> None:
    tags = manifest.get("tags")
    if tags is None:
        return
    if (
        not isinstance(tags, (list, tuple))
        or len(tags) > MAX_TAGS
        or not all(isinstance(tag, str) and 0 < len(tag) <= MAX_TAG for tag in tags)
        or not all(tag.isprintable() for tag in tags)
    ):
        raise Invalid(
            f"manifest.yaml: tags must be a list of at most {MAX_TAGS} texts of 1 to {MAX_TAG} "
            "characters, none of them a control character"
        )


def _created(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        # Python 3.10 doesn't read the Z of RFC 3339.
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        if moment.tzinfo is None:
            raise ValueError("no zone")
        return moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise Invalid(f"{CREATED} must be a time as in RFC 3339") from None

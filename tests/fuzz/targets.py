"""The parsers that read foreign bytes, and for each: what it may raise, and good examples.

A target is called with any bytes. It returns, or raises one of its documented errors; whatever
else comes out of it, or takes long or much memory, is a fault. What it returns is looked at: a
range must lie inside, a name must come back as itself.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aar import feed as registry_feed
from aar.settings import Settings as AarSettings
from aar.wanted import read_wanted
from aar.web.distribution import ranges
from aar_interface import Certificate, Fingerprint, InvalidCertificate
from aar_interface.addresses import Address
from aar_interface.databag import InvalidDatabag, ProviderData, RequirerData
from ams.packages import manifest as manifests
from ams.packages.archive import Limits
from ams.packages.archive import members as package_members
from ams.settings import Settings as AmsSettings
from ams.sync import feed, registry
from ams.sync.transport import path_of
from regkit import documents, durations, sizes, yamlsafe
from regkit.errors import Conflict, Invalid, TooLarge
from regkit.oci import application
from regkit.oci.digest import Digest
from regkit.oci.manifests import INDEX, MANIFEST, parse_manifest
from regkit.oci.names import application_of, repository_of, valid_application, valid_repository
from regkit.serving.clients import client_of
from support import packages
from support.distribution import application_parts, image_manifest, index_manifest

LIMITS = Limits(count=100, file_size=1 << 20, total_size=4 << 20, ratio=200, ratio_floor=1 << 20)
SETTINGS_LIMIT = 256 * 1024


@dataclass(frozen=True)
class Target:
    """`read` raises nothing but `errors`. It takes each of `good` without any."""

    read: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    good: tuple[bytes, ...]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _certificate() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site")])
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.public_key(key.public_key()).not_valid_before(now)
    builder = builder.not_valid_after(now + timedelta(days=1))
    made = builder.sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


PEM = _certificate()
KEY, APPLICATION, CONFIG, _ = application_parts("candy", 3, "arm64", tags=("game",))
EPOCH = "0123456789abcdef" * 2


def _read_certificate(raw: bytes) -> object:
    certificate = Certificate.parse(raw)
    assert Certificate.parse(certificate.pem) == certificate
    return certificate.common_name, certificate.names, certificate.key_hash


def _read_application(raw: bytes) -> object:
    manifest, _, config = raw.partition(b"\0")
    image = application.read(parse_manifest(manifest, MANIFEST), config)
    for file in image.files:
        assert not file.path.startswith("/") and ".." not in file.path.split("/")
    return image.tags, image.size


def _read_manifest(raw: bytes) -> object:
    parsed = parse_manifest(raw)
    return parsed.blobs, [descriptor.to_dict() for descriptor in parsed.manifests]


def _read_settings(raw: bytes) -> object:
    content = documents.load(raw, "main.yaml", SETTINGS_LIMIT)
    for model in (AarSettings, AmsSettings):
        try:
            documents.parse(content, "main.yaml", model)
        except Invalid as error:
            assert "\n" not in str(error)
            last = error
        else:
            return content
    raise last


def _read_databag(raw: bytes) -> object:
    pairs = (line.partition("=") for line in _text(raw).split("\x1e"))
    bag = {key: value for key, _, value in pairs}
    provider = ProviderData.read(bag)
    requirer = RequirerData.read(bag)
    assert ProviderData.read(provider.write()) == provider
    assert RequirerData.read(requirer.write()) == requirer
    return provider.endpoint


def _read_range(raw: bytes) -> object:
    size = raw[0] * 97 if raw else 0
    span = ranges.requested(raw[1:].decode("latin-1"), size)
    assert span is None or 0 <= span.start < span.stop <= size
    return span


def _read_content_range(raw: bytes) -> object:
    span = ranges.announced(raw.decode("latin-1"))
    assert span is not None and 0 <= span.start < span.stop
    return span


def _read_package(raw: bytes) -> object:
    total = 0
    for member in package_members(io.BytesIO(raw), LIMITS):
        assert not member.path.startswith("/") and ".." not in member.path.split("/")
        total += sum(len(chunk) for chunk in member.chunks)
    assert total <= LIMITS.total_size
    return total


def _read_duration(raw: bytes) -> object:
    found = durations.parse(_text(raw))
    assert timedelta() <= found <= durations.MAX
    assert durations.parse(durations.render(found)) == found
    return found


def _read_size(raw: bytes) -> object:
    found = sizes.parse(_text(raw))
    assert 0 <= found <= sizes.MAX
    return found


def _read_feed(raw: bytes) -> object:
    try:
        metadata = json.loads(raw)
    except (ValueError, RecursionError):
        raise feed.FeedRefused("no JSON") from None
    page = feed.parse_page(metadata)
    feed.check(page, feed.Cursor(page.head.epoch, 0))
    return page


def _read_name(raw: bytes) -> object:
    name = _text(raw)
    if valid_repository(name):
        found = application_of(name)
        assert found is None or repository_of(found) == name
    if valid_application(name):
        assert application_of(repository_of(name)) == name
    return application.parse_version_tag(name), client_of(name)


def _read_key(raw: bytes) -> object:
    name, number, architecture = [*_text(raw).split(" "), "", "", ""][:3]
    digits = number.isascii() and number.isdigit() and len(number) < 20
    return application.Key(name, int(number) if digits else -1, architecture).tag


def _read_answer_range(raw: bytes) -> object:
    text = raw.decode("latin-1")
    return registry._range_start(text) if text.startswith("bytes ") else registry._range_end(text)


def _feed_page() -> bytes:
    row = {
        "seq": 1, "kind": "published", "name": "candy", "number": 0, "architecture": "amd64",
        "digest": "sha256:" + "0" * 64, "size": 3, "tags": ["game"],
    }  # fmt: skip
    page = {"epoch": EPOCH, "seq": 1, "cursor": f"{EPOCH}:1", "changes": [row]}
    return json.dumps(page).encode()


def _wanted() -> bytes:
    row = {"certificate": PEM, "role": "client", "origin": "", "architectures": ["amd64"]}
    return json.dumps({"trusted": [row]}).encode()


_BAGS = (
    f"certificate={PEM}\x1eip=10.0.0.1\x1eport=3000\x1erole=client\x1emode=client",
    f"certificate={json.dumps(PEM)}\x1eurl=https://[::1]:3000\x1earchitecture=amd64",
)
_SETTINGS = (
    b"http:\n  addr: 127.0.0.1:3000\nlog:\n  level: info\n",
    b"http: {addr: '[::1]:8444'}\narchitecture: arm64\n",
)
_FILES = packages.content()

TARGETS: dict[str, Target] = {
    "manifest.yaml": Target(manifests.parse, (Invalid,), (packages.manifest(),)),
    "yaml": Target(yamlsafe.load, (yamlsafe.InvalidYaml,), (b"a: [b, {c: d}]\n", b'"\\x41"')),
    "oci-manifest": Target(
        _read_manifest, (Invalid, TooLarge), (image_manifest(b"x"), index_manifest(b"x"))
    ),
    "oci-index": Target(
        lambda raw: parse_manifest(raw, INDEX), (Invalid, TooLarge), (index_manifest(b"x"),)
    ),
    "oci-application": Target(
        _read_application, (Invalid, TooLarge), (APPLICATION + b"\0" + CONFIG,)
    ),
    "main.yaml": Target(_read_settings, (Invalid,), _SETTINGS),
    "wanted": Target(lambda raw: read_wanted(raw, "-", 1 << 20), (Invalid,), (_wanted(),)),
    "databag": Target(_read_databag, (InvalidDatabag,), tuple(bag.encode() for bag in _BAGS)),
    "duration": Target(_read_duration, (ValueError,), (b"1h30m", b"1.5s", b"0")),
    "size": Target(_read_size, (ValueError,), (b"64GiB", b"500 MB", b"7")),
    "range": Target(_read_range, (ranges.Unsatisfiable,), (b"\x09bytes=0-9", b"\x09bytes=-5")),
    "content-range": Target(_read_content_range, (Invalid,), (b"0-9", b"bytes 5-9/*")),
    "answer-range": Target(
        _read_answer_range, (Invalid, Conflict), (b"bytes 5-9/10", b"0-9", b"bytes=0-1")
    ),
    "archive": Target(
        _read_package,
        (Invalid, TooLarge),
        tuple(pack(_FILES) for pack in packages.PACKERS.values()),
    ),
    "certificate": Target(_read_certificate, (InvalidCertificate,), (PEM.encode(),)),
    "fingerprint": Target(
        lambda raw: Fingerprint.parse(_text(raw)), (ValueError,), (b"ab" * 32, b"AB:" * 31 + b"CD")
    ),
    "cursor": Target(
        lambda raw: registry_feed.Cursor.parse(_text(raw)), (Invalid,), (f"{EPOCH}:7".encode(),)
    ),
    "feed": Target(_read_feed, (feed.FeedRefused, feed.EpochChanged), (_feed_page(),)),
    "name": Target(_read_name, (), (b"candy", b"x--c5hm", b"a/b_c", b"0-amd64", b"::1")),
    "key": Target(_read_key, (Invalid,), (b"candy 3 amd64",)),
    "digest": Target(lambda raw: Digest.parse(_text(raw)), (Invalid,), (b"sha256:" + b"a" * 64,)),
    "address": Target(
        lambda raw: Address.parse(_text(raw)), (ValueError,), (b"[::1]:3000", b"a.test:1", b"::1")
    ),
    "location": Target(
        lambda raw: path_of(_text(raw)), (Invalid,), (b"/v2/a/blobs/uploads/x?y=z",)
    ),
}

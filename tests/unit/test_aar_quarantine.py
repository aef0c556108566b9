"""What a publisher pushed is withdrawn with it, and doesn't come back by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aar.errors import Denied, Immutable
from aar.registry import Registry
from regkit.errors import Invalid, NotFound
from regkit.oci.application import Key, build
from regkit.oci.digest import Digest
from regkit.oci.manifests import MANIFEST
from support.images import actor, image_of, push, push_blobs
from support.postgresql import OpenRegistry

BAD = actor(fingerprint="bad0" * 16)
GOOD = actor(fingerprint="900d" * 16)
BY = str(BAD.fingerprint)


@pytest.fixture
def registry(tmp_path: Path, open_registry: OpenRegistry) -> Iterator[Registry]:
    with open_registry(tmp_path) as registry:
        push(registry, Key("candy", 0, "amd64"), by=GOOD)
        push(registry, Key("candy", 0, "arm64"), by=BAD)
        push(registry, Key("candy", 1, "amd64"), by=BAD)
        push(registry, Key("toffee", 0, "amd64"), by=BAD)
        yield registry


def live(registry: Registry) -> list[str]:
    return [str(v.key) for a in registry.applications.list() for v in a.versions]


def test_everything_of_one_publisher_goes_by_tombstone(registry: Registry):
    head = registry.feed.head()
    publisher, versions = registry.applications.quarantine("BA:D0:BA:D0")
    assert publisher == BY
    keys = ["candy 0-arm64", "candy 1-amd64", "toffee 0-amd64"]
    assert [str(version.key) for version in versions] == keys
    assert live(registry) == ["candy 0-amd64"]
    page = registry.feed.read(head)
    assert [(c.kind, str(c.key), c.by) for c in page.changes] == [
        ("removed", key, "") for key in keys
    ]
    assert [str(held.key) for held in registry.applications.in_quarantine()] == keys
    told = [(r.record.action, r.record.subject) for r in registry.audit.read(by="manual")]
    assert [subject for action, subject in told if action == "version-quarantined"] == keys
    assert [subject for action, subject in told if action == "version-removed"] == keys
    assert registry.repositories.tags("candy").names == ("0", "0-amd64")


@pytest.mark.parametrize("who", [BAD, GOOD])
def test_nobody_brings_it_back_until_it_is_released(registry: Registry, who):
    registry.applications.quarantine(BY)
    for _ in range(2):
        with pytest.raises(Denied, match=r"in quarantine on .*: ask the registry's operator"):
            push(registry, Key("candy", 1, "amd64"), by=who)
    with pytest.raises(Immutable):
        push(registry, Key("candy", 1, "amd64"), {"app.apk": b"other"}, by=who)
    push(registry, Key("candy", 2, "amd64"), by=who)

    publisher, released = registry.applications.release("bad0bad0")
    assert (publisher, len(released)) == (BY, 3)
    assert registry.applications.in_quarantine() == []
    push(registry, Key("candy", 1, "amd64"), by=who)
    assert "candy 1-amd64" in live(registry)
    assert registry.applications.release(BY) == (BY, [])


def test_it_does_not_come_back_by_its_digest_either(registry: Registry):
    registry.applications.quarantine(BY)
    key = Key("candy", 1, "amd64")
    config, manifest = build(image_of(key))
    push_blobs(registry, "candy", config, b"name: candy\n", b"not really an apk")
    with pytest.raises(Denied):
        registry.repositories.put_manifest(
            "candy", str(Digest.of(manifest)), manifest, MANIFEST, actor=BAD
        )


def test_what_the_publisher_had_removed_is_closed_too(registry: Registry):
    registry.applications.remove("toffee", actor=BAD)
    _, versions = registry.applications.quarantine(BY)
    assert "toffee 0-amd64" not in [str(version.key) for version in versions]
    with pytest.raises(Denied):
        push(registry, Key("toffee", 0, "amd64"), by=GOOD)


def test_twice_is_once(registry: Registry):
    registry.applications.quarantine(BY)
    rows = registry.audit.read()
    head = registry.feed.head()
    assert registry.applications.quarantine(BY) == (BY, [])
    assert (registry.audit.read(), registry.feed.head()) == (rows, head)


def test_a_dry_run_changes_nothing(registry: Registry):
    rows, head, before = registry.audit.read(), registry.feed.head(), live(registry)
    publisher, versions = registry.applications.quarantine(BY, dry_run=True)
    assert (publisher, len(versions)) == (BY, 3)
    assert (registry.audit.read(), registry.feed.head(), live(registry)) == (rows, head, before)
    assert registry.applications.in_quarantine() == []


@pytest.mark.parametrize(
    ("prefix", "error"),
    [("bad0", Invalid), ("xyz", Invalid), ("", Invalid), ("0" * 65, Invalid), ("0" * 8, NotFound)],
)
def test_who_is_meant_must_be_clear(registry: Registry, prefix: str, error: type[Exception]):
    for command in (registry.applications.quarantine, registry.applications.release):
        with pytest.raises(error):
            command(prefix)


def test_one_of_several_with_the_same_beginning(registry: Registry):
    twin = actor(fingerprint="bad0" * 15 + "0000")
    push(registry, Key("twin", 0, "amd64"), by=twin)
    with pytest.raises(Invalid, match="several"):
        registry.applications.quarantine("bad0bad0")
    assert len(registry.applications.quarantine(str(twin.fingerprint))[1]) == 1

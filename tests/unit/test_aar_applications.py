from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from aar.errors import Denied, Immutable, ManifestBlobUnknown, ManifestInvalid, ManifestUnknown
from aar.registry import Registry
from aar_interface import Role
from regkit.errors import Invalid, NotFound
from regkit.oci.application import ARTIFACT_TYPE, Key, build
from regkit.oci.digest import Digest
from regkit.oci.manifests import INDEX, MANIFEST, parse_manifest
from support.images import DEFAULT_FILES, actor, image_of, push, push_blobs
from support.postgresql import OpenRegistry

AMD, ARM = Key("candy", 0, "amd64"), Key("candy", 0, "arm64")
OTHER_FILES = {"manifest.yaml": b"name: candy # changed\n"}
ALICE, BOB = actor(fingerprint="a" * 64), actor(fingerprint="b" * 64)


@pytest.fixture
def registry(tmp_path: Path, open_registry: OpenRegistry) -> Iterator[Registry]:
    with open_registry(tmp_path) as registry:
        yield registry


def changes(registry: Registry) -> list[str]:
    return [f"{item.kind} {item.key}" for item in registry.feed.read().changes]


def tags(registry: Registry, name: str = "candy") -> tuple[str, ...]:
    return registry.repositories.tags(name).names


def index_of(registry: Registry, tag: str = "0") -> list[str]:
    found = registry.repositories.manifest("candy", tag)
    parsed = parse_manifest(found.content, found.media_type)
    return [str(item.platform["architecture"]) for item in parsed.manifests if item.platform]


def put(registry: Registry, tag: str, content: bytes, kind: str = MANIFEST, by=None):
    return registry.repositories.put_manifest("candy", tag, content, kind, actor=by)


class TestPublish:
    def test_a_pushed_version_is_listed_and_announced(self, registry: Registry):
        digest = push(registry, AMD, tags=("game",), by=ALICE)
        (application,) = registry.applications.list()
        (version,) = application.versions
        assert application.name == "candy"
        assert (version.key, version.digest, version.tags) == (AMD, digest, ("game",))
        assert version.size == sum(map(len, DEFAULT_FILES.values()))
        assert version.published_by == "a" * 64
        (change,) = registry.feed.read().changes
        assert (change.kind, change.key, change.digest) == ("published", AMD, digest)
        assert (change.size, change.tags, change.by) == (version.size, ("game",), "a" * 64)
        assert change.at == version.published_at

    def test_the_operator_on_the_machine_has_no_fingerprint(self, registry: Registry):
        push(registry, AMD)
        assert registry.feed.read().changes[0].by == ""

    def test_the_number_is_an_index_over_the_architectures(self, registry: Registry):
        push(registry, ARM)
        assert index_of(registry) == ["arm64"]
        former = registry.repositories.manifest("candy", "0").digest
        push(registry, AMD)
        push(registry, Key("candy", 1, "amd64"))
        assert index_of(registry) == ["amd64", "arm64"]
        assert index_of(registry, "1") == ["amd64"]
        assert tags(registry) == ("0", "0-amd64", "0-arm64", "1", "1-amd64")
        with pytest.raises(ManifestUnknown):
            registry.repositories.manifest("candy", str(former))

    def test_pushing_the_same_again_is_quiet(self, registry: Registry):
        assert push(registry, AMD, by=ALICE) == push(registry, AMD, by=BOB)
        assert changes(registry) == ["published candy 0-amd64"]
        assert registry.applications.get("candy").versions[0].published_by == "a" * 64

    def test_other_content_is_refused_for_ever(self, registry: Registry):
        digest = push(registry, AMD)
        for _ in range(2):
            with pytest.raises(Immutable, match="publish a new version number") as error:
                push(registry, AMD, OTHER_FILES)
            assert (error.value.status, error.value.code) == (409, "DENIED")
        assert registry.repositories.manifest("candy", "0-amd64").digest == digest
        registry.applications.remove("candy", actor=None)
        with pytest.raises(Immutable, match="was removed since"):
            push(registry, AMD, OTHER_FILES)
        assert changes(registry) == ["published candy 0-amd64", "removed candy 0-amd64"]
        assert registry.applications.list() == []

    def test_tags_are_content_too(self, registry: Registry):
        push(registry, AMD, tags=("a",))
        with pytest.raises(Immutable):
            push(registry, AMD, tags=("b",))

    def test_the_same_content_comes_back_after_a_removal(self, registry: Registry):
        digest = push(registry, AMD, by=ALICE)
        registry.applications.remove("candy", actor=None)
        assert push(registry, AMD, by=BOB) == digest
        assert changes(registry) == [
            "published candy 0-amd64", "removed candy 0-amd64", "published candy 0-amd64"
        ]  # fmt: skip
        assert registry.applications.get("candy").versions[0].published_by == "b" * 64
        assert tags(registry) == ("0", "0-amd64")

    @pytest.mark.parametrize("tag", ["latest", "1-amd64", "0-arm64", "0"])
    def test_another_tag_is_refused_with_the_right_one(self, registry: Registry, tag: str):
        config, manifest = build(image_of(AMD))
        push_blobs(registry, "candy", config, *DEFAULT_FILES.values())
        with pytest.raises(ManifestInvalid, match="'0-amd64'"):
            put(registry, tag, manifest)
        assert tags(registry) == ()

    def test_another_repository_is_refused_with_the_right_one(self, registry: Registry):
        config, manifest = build(image_of(Key("Candy", 0, "amd64")))
        push_blobs(registry, "candy", config, *DEFAULT_FILES.values())
        with pytest.raises(ManifestInvalid, match="'x--8dgmsp3p'"):
            put(registry, "0-amd64", manifest)

    def test_a_nested_repository_is_no_applications(self, registry: Registry):
        config, manifest = build(image_of(AMD))
        push_blobs(registry, "a/candy", config, *DEFAULT_FILES.values())
        with pytest.raises(ManifestInvalid):
            registry.repositories.put_manifest(
                "a/candy", "0-amd64", manifest, MANIFEST, actor=None
            )

    def test_names_that_are_no_path_components_work_all_the_same(self, registry: Registry):
        push(registry, Key("My.App_1", 0, "amd64"))
        assert registry.applications.get("My.App_1").name == "My.App_1"

    def test_by_digest_it_is_kept_but_not_published(self, registry: Registry):
        config, manifest = build(image_of(AMD))
        push_blobs(registry, "candy", config, *DEFAULT_FILES.values())
        put(registry, str(Digest.of(manifest)), manifest)
        assert registry.applications.list() == []
        assert changes(registry) == []
        put(registry, "0-amd64", manifest)
        assert changes(registry) == ["published candy 0-amd64"]

    def test_missing_blobs_publish_nothing(self, registry: Registry):
        config, manifest = build(image_of(AMD))
        with pytest.raises(ManifestBlobUnknown, match="config"):
            put(registry, "0-amd64", manifest)
        push_blobs(registry, "candy", config)
        with pytest.raises(ManifestBlobUnknown):
            put(registry, "0-amd64", manifest)
        assert changes(registry) == []
        assert registry.applications.list() == []

    def test_a_config_of_another_repository_is_not_ours(self, registry: Registry):
        config, manifest = build(image_of(AMD))
        push_blobs(registry, "other", config)
        push_blobs(registry, "candy", *DEFAULT_FILES.values())
        with pytest.raises(ManifestBlobUnknown):
            put(registry, "0-amd64", manifest)

    def test_a_broken_config_is_an_invalid_manifest(self, registry: Registry):
        config, manifest = build(image_of(AMD))
        broken = b"{}"
        body = json.loads(manifest)
        body["config"] |= {"digest": str(Digest.of(broken)), "size": len(broken)}
        push_blobs(registry, "candy", config, broken, *DEFAULT_FILES.values())
        with pytest.raises(ManifestInvalid, match="no 'manifest'"):
            put(registry, "0-amd64", json.dumps(body).encode())
        body["config"]["size"] += 1
        with pytest.raises(ManifestInvalid, match="has 2 bytes"):
            put(registry, "0-amd64", json.dumps(body).encode())

    def test_the_artifact_type_without_the_config_type_is_refused(self, registry: Registry):
        config, manifest = build(image_of(AMD))
        body = json.loads(manifest)
        body["config"]["mediaType"] = "application/json"
        push_blobs(registry, "candy", config, *DEFAULT_FILES.values())
        with pytest.raises(ManifestInvalid, match="media type"):
            put(registry, "0-amd64", json.dumps(body).encode())
        assert body["artifactType"] == ARTIFACT_TYPE


class TestReservedTags:
    @pytest.mark.parametrize("tag", ["0", "0-amd64", "7", "7-arm64"])
    def test_only_the_registry_sets_them(self, registry: Registry, tag: str):
        digest = push(registry, AMD)
        children = [
            {"mediaType": MANIFEST, "digest": str(digest), "size": self._size(registry, digest)}
        ]
        content = json.dumps({"schemaVersion": 2, "manifests": children}).encode()
        with pytest.raises(Denied, match="keeps the tag"):
            put(registry, tag, content, INDEX)
        put(registry, "latest", content, INDEX)
        assert registry.repositories.manifest("candy", "0-amd64").digest == digest

    def test_an_ordinary_repository_is_free_to_use_them(self, registry: Registry):
        content = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
        registry.repositories.put_manifest("plain", "0", content, INDEX, actor=None)
        assert tags(registry, "plain") == ("0",)

    @pytest.mark.parametrize("by", ["tag", "digest"])
    def test_the_index_is_not_deleted_alone(self, registry: Registry, by: str):
        push(registry, AMD)
        found = registry.repositories.manifest("candy", "0")
        reference = "0" if by == "tag" else str(found.digest)
        with pytest.raises(Denied, match="remove the versions"):
            registry.repositories.delete_manifest("candy", reference, actor=None)
        assert index_of(registry) == ["amd64"]

    def _size(self, registry: Registry, digest: Digest) -> int:
        return len(registry.repositories.manifest("candy", str(digest)).content)


class TestRemove:
    @pytest.fixture
    def filled(self, registry: Registry) -> Registry:
        for number in (0, 1):
            for architecture in ("amd64", "arm64"):
                push(registry, Key("candy", number, architecture))
        push(registry, Key("other", 0, "amd64"))
        return registry

    def test_one_architecture(self, filled: Registry):
        removed = filled.applications.remove("candy", 0, "arm64", actor=ALICE)
        assert [version.key for version in removed] == [ARM]
        assert tags(filled) == ("0", "0-amd64", "1", "1-amd64", "1-arm64")
        assert index_of(filled) == ["amd64"]
        change = filled.feed.read().changes[-1]
        assert (change.kind, change.key, change.by) == ("removed", ARM, "a" * 64)
        assert change.digest == removed[0].digest
        with pytest.raises(ManifestUnknown):
            filled.repositories.manifest("candy", str(removed[0].digest))

    def test_one_number(self, filled: Registry):
        assert len(filled.applications.remove("candy", 0, actor=None)) == 2
        assert tags(filled) == ("1", "1-amd64", "1-arm64")
        assert changes(filled)[5:] == ["removed candy 0-amd64", "removed candy 0-arm64"]

    def test_everything(self, filled: Registry):
        assert len(filled.applications.remove("candy", actor=None)) == 4
        assert tags(filled) == ()
        assert [app.name for app in filled.applications.list()] == ["other"]
        assert [item.seq for item in filled.feed.read().changes] == list(range(1, 10))
        with pytest.raises(NotFound):
            filled.applications.get("candy")

    @pytest.mark.parametrize("by", ["tag", "digest"])
    def test_through_the_distribution_api(self, filled: Registry, by: str):
        digest = filled.repositories.manifest("candy", "0-arm64").digest
        reference = "0-arm64" if by == "tag" else str(digest)
        filled.repositories.delete_manifest("candy", reference, actor=ALICE)
        assert changes(filled)[5:] == ["removed candy 0-arm64"]
        assert index_of(filled) == ["amd64"]
        with pytest.raises(ManifestUnknown):
            filled.repositories.manifest("candy", str(digest))
        with pytest.raises(ManifestUnknown):
            filled.repositories.delete_manifest("candy", reference, actor=ALICE)

    def test_what_is_not_there(self, filled: Registry):
        for name, number, architecture in (
            ("nothing", None, None), ("candy", 7, None), ("candy", 0, "riscv64"), ("../x", 0, None)
        ):  # fmt: skip
            with pytest.raises(NotFound, match="the registry has no"):
                filled.applications.remove(name, number, architecture, actor=None)
        with pytest.raises(Invalid):
            filled.applications.remove("candy", None, "amd64", actor=None)
        assert len(changes(filled)) == 5

    def test_a_published_versions_blobs_stay(self, filled: Registry):
        digest = Digest.of(DEFAULT_FILES["app.apk"])
        with pytest.raises(Immutable, match="remove that version"):
            filled.repositories.delete_blob("candy", digest, actor=ALICE)
        filled.applications.remove("candy", actor=None)
        filled.repositories.delete_blob("candy", digest, actor=ALICE)


class TestLimits:
    def test_a_publisher_of_one_architecture(self, registry: Registry):
        limited = actor("amd64")
        push(registry, AMD, by=limited)
        with pytest.raises(Denied, match="may write amd64 only, not arm64") as error:
            push(registry, ARM, by=limited)
        assert error.value.status == 403
        push(registry, ARM, by=actor("amd64", "arm64"))
        for act in (
            lambda: registry.applications.remove("candy", actor=limited),
            lambda: registry.applications.remove("candy", 0, "arm64", actor=limited),
            lambda: registry.repositories.delete_manifest("candy", "0-arm64", actor=limited),
        ):
            with pytest.raises(Denied):
                act()
        assert tags(registry) == ("0", "0-amd64", "0-arm64")
        registry.applications.remove("candy", 0, "amd64", actor=limited)
        assert changes(registry)[2:] == ["removed candy 0-amd64"]

    def test_by_digest_is_no_way_around(self, registry: Registry):
        config, manifest = build(image_of(ARM))
        push_blobs(registry, "candy", config, *DEFAULT_FILES.values())
        with pytest.raises(Denied):
            put(registry, str(Digest.of(manifest)), manifest, by=actor("amd64"))

    def test_a_client_writes_nothing(self, registry: Registry):
        client = actor(role=Role.CLIENT)
        with pytest.raises(Denied, match="publisher"):
            push(registry, AMD, by=client)
        push(registry, AMD)
        with pytest.raises(Denied, match="publisher"):
            registry.applications.remove("candy", actor=client)
        assert changes(registry) == ["published candy 0-amd64"]


class TestList:
    def test_filters(self, registry: Registry):
        push(registry, AMD, tags=("game", "beta"))
        push(registry, ARM, tags=("game",))
        push(registry, Key("tool", 0, "amd64"), tags=("tool",))

        def found(**filters) -> list[str]:
            apps = registry.applications.list(**filters)
            return [str(version.key) for app in apps for version in app.versions]

        assert found() == ["candy 0-amd64", "candy 0-arm64", "tool 0-amd64"]
        assert found(tags=["game"]) == ["candy 0-amd64", "candy 0-arm64"]
        assert found(tags=["beta", "tool"]) == ["candy 0-amd64", "tool 0-amd64"]
        assert found(architectures=["arm64"]) == ["candy 0-arm64"]
        assert found(tags=["tool"], architectures=["arm64"]) == []

    def test_numbers_are_ordered_as_numbers(self, registry: Registry):
        for number in (10, 9, 0):
            push(registry, Key("candy", number, "amd64"))
        versions = registry.applications.get("candy").versions
        assert [version.key.number for version in versions] == [0, 9, 10]

    def test_hostile_names_are_not_found(self, registry: Registry):
        for name in ("", "..", "a/b", "x" * 300, "' OR 1=1"):
            with pytest.raises(NotFound):
                registry.applications.get(name)


def test_the_same_key_in_two_manifests_differs_by_digest():
    # The rule of immutability rests on it: everything that matters is in the manifest's digest.
    manifests = {
        build(image)[1]
        for image in (
            image_of(AMD),
            image_of(ARM),
            image_of(AMD, OTHER_FILES),
            image_of(AMD, tags=("x",)),
            dataclasses.replace(image_of(AMD), manifest={"name": "candy", "addons": ["x"]}),
        )
    }
    assert len(manifests) == 5

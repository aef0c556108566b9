from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from aar import schema
from aar.errors import (
    BlobUnknown,
    Denied,
    DigestInvalid,
    DistributionError,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
)
from aar.registry import Registry
from aar_interface import Role
from regkit.errors import Invalid
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from regkit.oci.manifests import INDEX, MANIFEST, MAX_BYTES
from support.images import actor, push, push_blobs
from support.postgresql import OpenRegistry

CONFIG, LAYER = b"{}", b"layer"
ABSENT = Digest.of(b"absent")
HOSTILE = ["", "../etc", "UPPER", "a//b", "a/", "a\0", "a" * 600]


@pytest.fixture
def registry(tmp_path: Path, open_registry: OpenRegistry) -> Iterator[Registry]:
    with open_registry(tmp_path) as registry:
        yield registry


def descriptor(content: bytes, media_type: str = "application/octet-stream") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}


def image(layer: bytes = LAYER, **changes: Any) -> bytes:
    body = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, "application/vnd.example.config"),
        "layers": [descriptor(layer)],
    }
    return json.dumps(body | changes).encode()


def index(*children: bytes, **changes: Any) -> bytes:
    manifests = [descriptor(child, MANIFEST) for child in children]
    body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    return json.dumps(body | changes).encode()


def put(registry: Registry, reference: str, content: bytes, kind: str = MANIFEST, name: str = "r"):
    return registry.repositories.put_manifest(name, reference, content, kind, actor=None)


@pytest.fixture
def filled(registry: Registry) -> Registry:
    """A registry whose repository `r` has an image under the tag `one`."""
    push_blobs(registry, "r", CONFIG, LAYER)
    put(registry, "one", image())
    return registry


class TestBlobs:
    def test_a_blob_belongs_to_the_repositories_it_was_pushed_to(self, filled: Registry):
        push_blobs(filled, "other", CONFIG)
        digest = Digest.of(LAYER)
        assert filled.repositories.blob_size("r", digest) == 5
        with pytest.raises(BlobUnknown):
            filled.repositories.blob_size("other", digest)
        with pytest.raises(NameUnknown):
            filled.repositories.blob_size("nowhere", digest)

    def test_a_range(self, filled: Registry):
        assert b"".join(filled.repositories.read_blob(Digest.of(LAYER), 1, 3)) == b"ay"

    @pytest.mark.parametrize("source", ["r", None])
    def test_mounting(self, filled: Registry, source: str | None):
        assert filled.repositories.mount("new", Digest.of(LAYER), source) == 5
        assert filled.repositories.blob_size("new", Digest.of(LAYER)) == 5

    @pytest.mark.parametrize("source", ["r", "nowhere", "../r", None])
    def test_nothing_to_mount_is_a_quiet_outcome(self, filled: Registry, source: str | None):
        assert filled.repositories.mount("new", ABSENT, source) is None
        with pytest.raises(NameUnknown):
            filled.repositories.blob_size("new", ABSENT)

    def test_a_blob_cannot_be_mounted_from_where_it_is_not(self, filled: Registry):
        push_blobs(filled, "other", CONFIG)
        assert filled.repositories.mount("new", Digest.of(LAYER), "other") is None

    def test_deleting_takes_it_from_one_repository_only(self, filled: Registry):
        filled.repositories.mount("other", Digest.of(LAYER), "r")
        filled.repositories.delete_blob("r", Digest.of(LAYER), actor=actor())
        with pytest.raises(BlobUnknown):
            filled.repositories.delete_blob("r", Digest.of(LAYER), actor=actor())
        assert filled.repositories.blob_size("other", Digest.of(LAYER)) == 5

    def test_a_client_deletes_nothing(self, filled: Registry):
        client = actor(role=Role.CLIENT)
        with pytest.raises(Denied):
            filled.repositories.delete_blob("r", Digest.of(LAYER), actor=client)
        with pytest.raises(Denied):
            filled.repositories.delete_manifest("r", "one", actor=client)
        assert filled.repositories.blob_size("r", Digest.of(LAYER)) == 5
        assert filled.repositories.tags("r").names == ("one",)

    def test_a_blob_being_deleted_counts_as_absent(self, filled: Registry):
        with filled.database.write() as connection:
            connection.execute(schema.blob.update().values(state=schema.DELETING))
        with pytest.raises(BlobUnknown):
            filled.repositories.blob_size("r", Digest.of(LAYER))
        assert filled.repositories.mount("new", Digest.of(LAYER), "r") is None
        with pytest.raises(ManifestBlobUnknown):
            put(filled, "two", image())

    def test_asking_for_an_unused_blob_renews_its_mark(self, registry: Registry):
        (digest,) = push_blobs(registry, "r", LAYER)
        old = schema.to_text(datetime.now(timezone.utc) - timedelta(hours=1))
        link = schema.repository_blob
        with registry.database.write() as connection:
            connection.execute(link.update().values(touched=old))
        registry.repositories.blob_size("r", digest)
        with registry.database.read() as connection:
            assert connection.execute(sa.select(link.c.touched)).scalar_one() > old
        version = registry.database.version()
        registry.repositories.blob_size("r", digest)
        assert registry.database.version() == version


class TestManifests:
    def test_by_tag_and_by_digest_byte_for_byte(self, filled: Registry):
        content = image()
        for reference in ("one", str(Digest.of(content))):
            found = filled.repositories.manifest("r", reference)
            assert (found.content, found.media_type) == (content, MANIFEST)
            assert found.digest == Digest.of(content)

    def test_unknown_ones(self, filled: Registry):
        for reference in ("two", str(ABSENT), ".bad", "x" * 300):
            with pytest.raises(ManifestUnknown):
                filled.repositories.manifest("r", reference)
        with pytest.raises(NameUnknown):
            filled.repositories.manifest("nowhere", "one")
        with pytest.raises(DigestInvalid):
            filled.repositories.manifest("r", "sha256:short")

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_pushing_by_digest_makes_no_tag(self, filled: Registry, algorithm: str):
        content = image(annotations={"a": "b"})
        digest = Digest.of(content, algorithm)
        assert put(filled, str(digest), content).digest == digest
        assert filled.repositories.manifest("r", str(digest)).content == content
        assert filled.repositories.tags("r").names == ("one",)

    def test_a_tag_moves_and_the_former_manifest_stays(self, filled: Registry):
        newer = image(annotations={"a": "b"})
        put(filled, "one", newer)
        assert filled.repositories.manifest("r", "one").content == newer
        assert filled.repositories.manifest("r", str(Digest.of(image()))).content == image()

    def test_pushing_again_changes_nothing(self, filled: Registry):
        assert put(filled, "one", image()).digest == Digest.of(image())
        assert filled.repositories.tags("r").names == ("one",)

    def test_missing_blobs_are_all_named_and_nothing_is_kept(self, registry: Registry):
        push_blobs(registry, "r", CONFIG)
        push_blobs(registry, "other", LAYER)
        content = image(layers=[descriptor(LAYER), descriptor(b"absent")])
        with pytest.raises(ManifestBlobUnknown) as error:
            put(registry, "one", content)
        digests = {item["digest"] for item in error.value.detail}
        assert digests == {str(Digest.of(LAYER)), str(ABSENT)}
        assert registry.repositories.tags("r").names == ()

    def test_many_layers_are_looked_up_in_batches(self, registry: Registry):
        push_blobs(registry, "r", CONFIG, LAYER)
        layers = [descriptor(str(number).encode()) for number in range(1200)]
        with pytest.raises(ManifestBlobUnknown, match="lacks 1200 of"):
            put(registry, "one", image(layers=layers))

    def test_a_wrong_size_is_refused(self, filled: Registry):
        with pytest.raises(ManifestInvalid, match="has 5 bytes, the manifest says 6"):
            put(filled, "one", image(layers=[descriptor(LAYER) | {"size": 6}]))

    def test_a_layer_kept_elsewhere_may_be_missing(self, filled: Registry):
        layer = descriptor(b"absent") | {"urls": ["https://example.com/"]}
        put(filled, "two", image(layers=[layer]))

    def test_an_index_needs_its_manifests_in_the_repository(self, filled: Registry):
        put(filled, "all", index(image()), INDEX)
        with pytest.raises(ManifestBlobUnknown):
            put(filled, "all", index(image(annotations={"x": "y"})), INDEX)
        push_blobs(filled, "other", CONFIG)
        with pytest.raises(ManifestBlobUnknown):
            put(filled, "all", index(image()), INDEX, "other")

    def test_a_digest_that_is_not_the_contents(self, filled: Registry):
        with pytest.raises(DigestInvalid, match="not sha256:"):
            put(filled, str(ABSENT), image())

    @pytest.mark.parametrize("tag", [".x", "-x", "x" * 129, "a b", "", "é"])
    def test_bad_tags(self, filled: Registry, tag: str):
        with pytest.raises(ManifestInvalid, match="not a tag"):
            put(filled, tag, image())

    @pytest.mark.parametrize(
        ("content", "kind", "error"),
        [
            (b"{", MANIFEST, ManifestInvalid),
            (image(), INDEX, ManifestInvalid),
            (image(), "text/plain", ManifestInvalid),
            (b" " * (MAX_BYTES + 1), MANIFEST, ManifestTooLarge),
        ],
    )
    def test_bad_manifests(self, filled: Registry, content: bytes, kind: str, error: Any):
        with pytest.raises(error):
            put(filled, "two", content, kind)

    def test_deleting_a_tag_keeps_the_manifest(self, filled: Registry):
        put(filled, "two", image())
        filled.repositories.delete_manifest("r", "one", actor=None)
        assert filled.repositories.tags("r").names == ("two",)
        with pytest.raises(ManifestUnknown):
            filled.repositories.delete_manifest("r", "one", actor=None)
        assert filled.repositories.manifest("r", str(Digest.of(image())))

    def test_deleting_a_manifest_takes_its_tags(self, filled: Registry):
        put(filled, "two", image())
        filled.repositories.delete_manifest("r", str(Digest.of(image())), actor=None)
        assert filled.repositories.tags("r").names == ()
        with pytest.raises(ManifestUnknown):
            filled.repositories.delete_manifest("r", str(Digest.of(image())), actor=None)
        with pytest.raises(NameUnknown):
            filled.repositories.delete_manifest("nowhere", "one", actor=None)


class TestReferrers:
    def test_the_subject_may_come_later_and_is_told(self, filled: Registry):
        subject = descriptor(b"absent", MANIFEST)
        pushed = put(filled, "sig", image(subject=subject))
        assert pushed.subject == ABSENT
        found = filled.repositories.referrers("r", ABSENT)
        assert [item.digest for item in found.manifests] == [pushed.digest]

    def test_the_filter_falls_back_to_the_configs_type(self, filled: Registry):
        subject = descriptor(image(), MANIFEST)
        plain = put(filled, "a", image(subject=subject, annotations={"k": "v"})).digest
        typed = put(filled, "b", image(subject=subject, artifactType="application/vnd.sig")).digest
        listed = put(filled, "c", index(image(), subject=subject), INDEX).digest
        target = Digest.of(image())
        everything = filled.repositories.referrers("r", target).manifests
        assert {item.digest for item in everything} == {plain, typed, listed}

        def of_type(kind: str) -> list[Any]:
            return list(filled.repositories.referrers("r", target, kind).manifests)

        assert [item.digest for item in of_type("application/vnd.sig")] == [typed]
        (found,) = of_type("application/vnd.example.config")
        assert (found.digest, found.annotations) == (plain, {"k": "v"})
        assert found.size == len(filled.repositories.manifest("r", "a").content)
        assert of_type("nothing/like") == []

    def test_deleting_a_referrer_takes_it_from_the_list(self, filled: Registry):
        digest = put(filled, "a", image(subject=descriptor(image(), MANIFEST))).digest
        filled.repositories.delete_manifest("r", str(digest), actor=None)
        assert filled.repositories.referrers("r", Digest.of(image())).manifests == ()

    def test_nothing_and_nowhere_are_empty_answers(self, filled: Registry):
        for name in ("r", "nowhere"):
            assert filled.repositories.referrers(name, ABSENT).manifests == ()

    def test_pages(self, filled: Registry, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("aar.repositories.MAX_PAGE", 2)
        subject = descriptor(image(), MANIFEST)
        for number in range(5):
            put(filled, f"t{number}", image(subject=subject, annotations={"n": str(number)}))
        seen, last = [], None
        while True:
            found = filled.repositories.referrers("r", Digest.of(image()), last=last)
            seen += [str(item.digest) for item in found.manifests]
            last = found.last
            if last is None:
                break
        assert len(seen) == len(set(seen)) == 5
        assert seen == sorted(seen)


class TestLists:
    def test_tags_are_ordered_as_the_specification_has_it(self, filled: Registry):
        for tag in ("b", "A", "a", "10", "9", "_"):
            put(filled, tag, image())
        assert filled.repositories.tags("r").names == ("10", "9", "_", "A", "a", "b", "one")

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
    def test_pages_miss_and_repeat_nothing(self, filled: Registry, size: int):
        for tag in ("b", "A", "a", "10", "9", "_"):
            put(filled, tag, image())
        seen: list[str] = []
        last = None
        while True:
            page = filled.repositories.tags("r", size, last)
            seen += page.names
            assert len(page.names) <= size
            last = page.last
            if last is None:
                break
        assert tuple(seen) == filled.repositories.tags("r").names

    def test_last_need_not_exist_and_n_may_be_zero(self, filled: Registry):
        assert filled.repositories.tags("r", last="nn").names == ("one",)
        assert filled.repositories.tags("r", last="one").names == ()
        page = filled.repositories.tags("r", 0)
        assert (page.names, page.last) == ((), None)
        with pytest.raises(Invalid):
            filled.repositories.tags("r", -1)

    def test_a_repository_with_blobs_only_has_no_tags_and_an_unknown_one_is_told(
        self, registry: Registry
    ):
        push_blobs(registry, "r", CONFIG)
        assert registry.repositories.tags("r").names == ()
        with pytest.raises(NameUnknown):
            registry.repositories.tags("nowhere")

    def test_repositories(self, filled: Registry):
        push_blobs(filled, "a/b", CONFIG)
        push(filled, Key("Candy", 0, "amd64"))
        names = filled.repositories.list().names
        assert names == ("a/b", "r", "x--8dgmsp3p")
        page = filled.repositories.list(1, "a/b")
        assert (page.names, page.last) == (("r",), "r")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused_everywhere(registry: Registry, name: str):
    repositories = registry.repositories
    for act in (
        lambda: repositories.tags(name),
        lambda: repositories.blob_size(name, ABSENT),
        lambda: repositories.mount(name, ABSENT),
        lambda: repositories.delete_blob(name, ABSENT, actor=None),
        lambda: repositories.manifest(name, "x"),
        lambda: put(registry, "x", image(), name=name),
        lambda: repositories.delete_manifest(name, "x", actor=None),
        lambda: repositories.referrers(name, ABSENT),
    ):
        with pytest.raises(NameInvalid):
            act()


def test_every_error_has_a_code_of_the_specification():
    codes = {
        "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID",
        "NAME_UNKNOWN", "SIZE_INVALID", "DENIED", "UNSUPPORTED", "TOOMANYREQUESTS",
    }  # fmt: skip
    kinds = DistributionError.__subclasses__()
    assert {kind.code for kind in kinds} == codes
    assert all(400 <= kind.status < 500 for kind in kinds)

"""Verifying and repairing the registry's storage, on real files and SQLite."""

from __future__ import annotations

import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from aar import schema
from aar.errors import BlobUnknown
from aar.registry import Registry
from aar.verify import RegistryBooks
from aar_interface import Role
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from regkit.oci.manifests import MANIFEST
from regkit.upkeep import reports
from regkit.upkeep.repair import HERE, repair
from regkit.upkeep.scrub import Report, scrub
from regkit.upkeep.sources import Archive, Folder, Source
from support.certificates import certify
from support.distribution import EMPTY, image_manifest
from support.images import DEFAULT_FILES, actor, content_of, push, push_blobs
from support.postgresql import OpenRegistry

KEY = Key("candy", 3, "amd64")
APK = DEFAULT_FILES["app.apk"]
DIGEST = Digest.of(APK)
BY = actor().fingerprint


@pytest.fixture
def registry(tmp_path: Path, open_registry: OpenRegistry) -> Iterator[Registry]:
    with open_registry(tmp_path / "state") as registry:
        push(registry, KEY, by=actor())
        yield registry


def file_of(registry: Registry, digest: Digest = DIGEST) -> Path:
    root = registry.home / "data" / "blobs"
    return root / digest.algorithm / digest.hex[:2] / digest.hex


def check(registry: Registry) -> Report:
    return scrub(registry.blobs, RegistryBooks(registry.database))


def mend(registry: Registry, *sources: Source) -> Report:
    books = RegistryBooks(registry.database)
    return repair(registry.blobs, books, scrub(registry.blobs, books), sources)


def told(registry: Registry) -> list[tuple[str, str]]:
    rows = [row.record for row in registry.audit.read()]
    return [(r.action, r.detail["why"]) for r in rows if r.action.startswith("blob-")]


def test_all_is_sound(registry: Registry):
    report = check(registry)
    assert report == Report(blobs=3, size=report.size)
    assert report.sound
    assert report.size == sum(info.size for info in registry.blobs.blobs())
    assert report.size == RegistryBooks(registry.database).amount()
    assert reports.in_words(report, "aar", "…").endswith("Sound\n")


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def prolong(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize(
    ("harm", "kind"),
    [(spoil, "damaged"), (cut, "truncated"), (prolong, "damaged"), (Path.unlink, "missing")],
)
def test_damage_is_taken_out_of_service_until_it_is_pushed_again(
    registry: Registry, harm: Callable[[Path], None], kind: str
):
    harm(file_of(registry))
    report = check(registry)
    [damage] = report.damages
    assert (damage.digest, damage.size, damage.kind) == (DIGEST, len(APK), kind)
    assert not report.sound
    with pytest.raises(BlobUnknown):
        registry.repositories.blob_size("candy", DIGEST)
    with pytest.raises(BlobUnknown):
        registry.repositories.read_blob(DIGEST)
    assert registry.repositories.mount("other", DIGEST) is None
    assert not file_of(registry).exists()
    kept = list((registry.home / "data" / "damaged").glob("*"))
    assert len(kept) == (kind != "missing")
    assert [action for action, _ in told(registry)] == ["blob-damaged"]

    again = check(registry)
    assert [(damage.digest, damage.kind) for damage in again.damages] == [(DIGEST, "missing")]
    assert len(told(registry)) == 1

    push(registry, KEY, by=actor())
    assert check(registry) == Report(blobs=3, size=report.size)
    assert content_of(registry, "candy", DIGEST) == APK


def test_who_can_push_it_again_is_told(registry: Registry):
    publisher = certify(name="site-b")
    now = publisher.issued + timedelta(hours=1)
    entry = registry.trust.add(publisher, Role.PUBLISHER, now=now)
    push(registry, Key("toffee", 0, "arm64"), by=entry)
    push_blobs(registry, "tools", EMPTY, APK)
    manifest = image_manifest(APK)
    registry.repositories.put_manifest("tools", "v1", manifest, MANIFEST, actor=None)
    spoil(file_of(registry))
    report = check(registry)
    [damage] = report.damages
    assert [(user.name, user.by, user.who, user.place) for user in damage.users] == [
        ("candy 3-amd64", str(BY), "", "candy"),
        ("toffee 0-arm64", str(publisher.fingerprint), "site-b", "toffee"),
        ("tools:v1", "", "", "tools"),
    ]
    words = reports.in_words(report, "aar", "ask them")
    assert f"  {BY.short}: candy 3-amd64\n" in words
    assert f"  {publisher.fingerprint.short} (site-b): toffee 0-arm64\n" in words
    assert "1 blobs are lost" in words
    document = reports.document(report)
    assert document["damaged"][0]["needed-by"][1]["common-name"] == "site-b"
    assert document["sound"] is False


def test_a_disk_that_does_not_read_moves_nothing(registry: Registry):
    path = file_of(registry)
    path.unlink()
    path.mkdir()  # opening works, reading fails
    report = check(registry)
    assert [damage.kind for damage in report.damages] == ["unreadable"]
    assert told(registry) == []
    path.rmdir()
    path.write_bytes(APK)
    assert check(registry).sound


def test_what_comes_back_by_itself_is_sound_again(registry: Registry):
    """As when the disk of the blobs wasn't mounted."""
    path = file_of(registry)
    path.rename(path.with_name("away"))
    assert not check(registry).sound
    path.with_name("away").rename(path)
    with pytest.raises(BlobUnknown):
        registry.repositories.blob_size("candy", DIGEST)
    report = check(registry)
    assert (report.healed, report.sound) == ((DIGEST,), True)
    assert registry.repositories.blob_size("candy", DIGEST) == len(APK)
    assert check(registry).healed == ()


def test_what_is_left_over_is_told_and_is_no_damage(registry: Registry):
    blobs = registry.home / "data" / "blobs"
    orphan = Digest.of(b"orphan")
    file_of(registry, orphan).parent.mkdir(parents=True, exist_ok=True)
    file_of(registry, orphan).write_bytes(b"orphan")
    (blobs / "README").write_text("by hand")
    (blobs / "sha256" / "zz").mkdir()
    (blobs / "sha256" / "zz" / DIGEST.hex).write_bytes(APK)
    (blobs / "sha256" / "aa").mkdir(exist_ok=True)
    (blobs / "sha256" / "aa" / ("A" * 64)).write_bytes(b"")
    report = check(registry)
    assert (report.orphans, report.orphaned_size) == ((orphan,), 6)
    assert report.strays == ("README", f"sha256/aa/{'A' * 64}", f"sha256/zz/{DIGEST.hex}")
    assert report.sound
    assert file_of(registry, orphan).exists()
    assert "no blob: README\n" in reports.in_words(report, "aar", "…")


def test_a_blob_that_is_replaced_while_it_is_read_is_not_moved(registry: Registry):
    spoil(file_of(registry))

    class Pushing(RegistryBooks):
        pushed = False

        def note(self, digest: Digest, act: Callable[[], bool], *, sound: bool, why: str) -> bool:
            if not self.pushed:
                self.pushed = True
                push_blobs(registry, "candy", APK)
            return super().note(digest, act, sound=sound, why=why)

    assert scrub(registry.blobs, Pushing(registry.database)).sound
    assert content_of(registry, "candy", DIGEST) == APK
    assert told(registry) == []


def test_a_blob_that_goes_while_it_is_read_is_no_damage(registry: Registry):
    registry.applications.remove("candy", actor=None)

    class Cleaning(RegistryBooks):
        def note(self, digest: Digest, act: Callable[[], bool], *, sound: bool, why: str) -> bool:
            registry.janitor.run(datetime.now(timezone.utc) + timedelta(days=2))
            return super().note(digest, act, sound=sound, why=why)

    spoil(file_of(registry))
    assert scrub(registry.blobs, Cleaning(registry.database)).sound
    assert list(registry.blobs.blobs()) == []


def test_damage_that_nobody_needs_goes_with_the_rest(registry: Registry):
    spoil(file_of(registry))
    check(registry)
    registry.applications.remove("candy", actor=None)
    registry.janitor.run(datetime.now(timezone.utc) + timedelta(days=2))
    assert check(registry) == Report()


# -- rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE manifest SET content = X'00' WHERE artifact_type <> ''", "is damaged"),
        ("DELETE FROM tag WHERE name = '3-amd64'", "isn't that of version candy 3-amd64"),
        ("DELETE FROM tag WHERE name = '3'", "version candy 3-amd64 is in no index"),
        ("DELETE FROM manifest", "version candy 3-amd64 has no manifest"),
        ("DELETE FROM repository_blob", "which its repository hasn't"),
        ("DELETE FROM change", "the change feed has 0 rows up to 0, but its head is 1"),
        ("UPDATE feed SET seq = 7", "the change feed has 1 rows up to 1, but its head is 7"),
        ("DELETE FROM feed", "the change feed has no head"),
        (
            "INSERT INTO repository_blob VALUES ('x', 'nothing', '')",
            "of repository_blob refers to nothing in blob",
        ),
    ],
)
def test_rows_that_are_wrong(registry: Registry, statement: str, says: str):
    if registry.database.shared:
        if "INSERT" in statement:
            with pytest.raises(IntegrityError), registry.database.write() as writing:
                writing.exec_driver_sql(statement)
            return
        with registry.database.write() as writing:
            writing.exec_driver_sql(statement.replace("X'00'", "'\\x00'"))
    else:
        with closing(sqlite3.connect(str(registry.database.path))) as connection:
            connection.execute(f"PRAGMA foreign_keys = {'INSERT' not in statement}")
            connection.execute(statement)
            connection.commit()
    report = check(registry)
    assert not report.sound
    assert any(says in row for row in report.rows), report.rows
    assert "restore a backup" in reports.in_words(report, "aar", "…")


def test_parts_that_a_publisher_deleted_are_no_fault(registry: Registry):
    push_blobs(registry, "tools", EMPTY, b"layer")
    manifest = image_manifest(b"layer")
    registry.repositories.put_manifest("tools", "v1", manifest, MANIFEST, actor=None)
    registry.repositories.delete_blob("tools", Digest.of(b"layer"), actor=None)
    report = check(registry)
    assert report.sound
    assert [str(Digest.of(b"layer")) in line for line in report.dangling] == [True]


# -- repair -------------------------------------------------------------------------------------


LAYOUTS = [
    "blobs/sha256/{0:.2}/{0}",
    "data/blobs/sha256/{0:.2}/{0}",
    "blobs/sha256/{0}",
    "docker/registry/v2/blobs/sha256/{0:.2}/{0}/data",
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_repaired_from_a_folder(registry: Registry, tmp_path: Path, layout: str):
    path = tmp_path / "other" / layout.format(DIGEST.hex)
    path.parent.mkdir(parents=True)
    path.write_bytes(APK)
    spoil(file_of(registry))
    report = mend(registry, Folder(tmp_path / "empty"), Folder(tmp_path / "other"))
    assert report.sound
    assert [damage.restored for damage in report.damages] == [str(tmp_path / "other")]
    assert content_of(registry, "candy", DIGEST) == APK
    assert told(registry)[-1] == ("blob-restored", f"taken from {tmp_path / 'other'}")
    assert registry.blobs.staged() == []
    assert check(registry).damages == ()
    assert "1 blobs were restored" in reports.in_words(report, "aar", "…")


def test_repaired_from_a_backup(registry: Registry, tmp_path: Path):
    path = tmp_path / "backup.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(f"blobs/sha256/{DIGEST.hex[:2]}/{DIGEST.hex}")
        info.size = len(APK)
        tar.addfile(info, BytesIO(APK))
    file_of(registry).unlink()
    source = Archive(path)
    assert mend(registry, source).sound
    source.close()
    assert content_of(registry, "candy", DIGEST) == APK


def test_repaired_from_an_upload_that_rests(registry: Registry):
    spoil(file_of(registry))
    check(registry)
    upload = registry.uploads.start("other")
    registry.uploads.append("other", upload.id, [APK])
    same_size = registry.uploads.start("other")
    registry.uploads.append("other", same_size.id, [b"x" * len(APK)])
    report = mend(registry)
    assert [damage.restored for damage in report.damages] == [HERE]
    assert content_of(registry, "candy", DIGEST) == APK
    assert [info.name[:32] for info in registry.blobs.staged()] == [same_size.id]


@pytest.mark.parametrize("content", [APK[:-1] + b"?", APK + b"x", b"", APK[:-1]])
def test_nothing_is_taken_whose_digest_is_not_right(
    registry: Registry, tmp_path: Path, content: bytes
):
    path = tmp_path / "other" / LAYOUTS[0].format(DIGEST.hex)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    spoil(file_of(registry))
    report = mend(registry, Folder(tmp_path / "other"))
    assert not report.sound
    assert [damage.restored for damage in report.damages] == [""]
    assert report.notes == (f"{tmp_path / 'other'} has {DIGEST}, but damaged as well",)
    assert registry.blobs.size(DIGEST) is None
    assert registry.blobs.staged() == []


def test_a_source_that_fails_is_told_and_the_next_is_asked(registry: Registry, tmp_path: Path):
    bad, good = (tmp_path / name / LAYOUTS[0].format(DIGEST.hex) for name in ("bad", "good"))
    bad.mkdir(parents=True)
    good.parent.mkdir(parents=True)
    good.write_bytes(APK)
    spoil(file_of(registry))
    report = mend(registry, Folder(tmp_path / "bad"), Folder(tmp_path / "good"))
    assert report.sound
    [note] = report.notes
    assert "bad" in note


def test_a_row_of_a_blob_that_is_being_deleted_is_not_checked(registry: Registry):
    with registry.database.write() as connection:
        connection.execute(schema.blob.update().values(state=schema.DELETING))
    file_of(registry).unlink()
    assert check(registry).damages == ()

"""The catalogue's rules, on a real database and blob store."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import alembic.autogenerate
import alembic.migration
import pytest

from ams import packages, schema
from ams.catalogue import Application, ApplicationStatus, Catalogue, Version, VersionStatus
from ams.options import Options
from regkit.blobs import FileBlobStore
from regkit.database import Database
from regkit.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from regkit.oci import application as oci
from regkit.oci.application import ApplicationImage, Key, PackageFile
from regkit.oci.digest import Digest
from regkit.oci.manifests import MANIFEST, parse_manifest
from support.packages import content, tar
from support.postgresql import Databases


@dataclass
class Site:
    database: Database
    blobs: FileBlobStore
    options: Options
    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def __post_init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.catalogue = Catalogue(
            self.database, self.blobs, "amd64", self.options, clock=lambda: self.now
        )
        self.catalogue.listen(lambda change: self.events.append((change.event, change.name)))

    def read(self, files: Mapping[str, bytes]) -> packages.Package:
        return packages.read(io.BytesIO(tar(files)), self.blobs)

    def create(self, name: str = "candy", apk: bytes = b"zero", **more: bool) -> Application:
        with self.read(content(name, apk)) as package:
            return self.catalogue.create(package, **more)

    def update(self, id_or_name: str, apk: bytes, name: str = "candy") -> Version:
        with self.read(content(name, apk)) as package:
            return self.catalogue.update(id_or_name, package)

    def published(self, name: str = "candy") -> list[int]:
        return [v.number for v in self.catalogue.get(name).versions if v.published]

    def withdrawn(self) -> list[tuple[str, int, str]]:
        with self.database.read() as connection:
            rows = connection.execute(schema.withdrawal.select()).all()
        return sorted((row.name, row.number, row.architecture) for row in rows)

    def image(
        self,
        name: str = "candy",
        number: int = 0,
        architecture: str = "amd64",
        data: bytes = b"remote",
        store: bool = True,
    ) -> tuple[ApplicationImage, bytes, bytes]:
        """What the registry would give, with its blob already fetched."""
        file = PackageFile("app.apk", Digest.of(data), len(data))
        image = ApplicationImage(
            Key(name, number, architecture), {"name": name, "tags": ["game"]}, (file,)
        )
        config, manifest = oci.build(image)
        if store and self.blobs.size(file.digest) is None:
            with self.blobs.stage("fetched") as staged:
                staged.write(data)
                staged.seal(file.digest)
                staged.publish()
        return image, manifest, config

    def load(self, **values: object) -> Version:
        return self.catalogue.import_version(*self.image(**values))  # type: ignore[arg-type]


def open_site(root: Path, databases: Databases) -> Site:
    database = databases.open(root / "ams.db", "ams:migrations")
    return Site(database, FileBlobStore(root), Options(database))


@pytest.fixture
def site(tmp_path: Path, databases: Databases) -> Iterator[Site]:
    site = open_site(tmp_path, databases)
    yield site
    assert site.blobs.staged() == []
    site.database.close()


def test_the_migrations_give_exactly_the_schema(site: Site):
    with site.database.read() as connection:
        context = alembic.migration.MigrationContext.configure(
            connection, opts={"compare_type": True}
        )
        assert alembic.autogenerate.compare_metadata(context, schema.metadata) == []


def test_a_new_application_is_version_0_published_and_ready(site: Site):
    app = site.create(apk=b"x" * 1000, vm=True)
    assert len(app.id) == 20
    assert set(app.id) <= set("abcdefghijklmnopqrstuv0123456789")
    assert (app.name, app.origin, app.immutable, app.published, app.vm) == (
        "candy",
        "local",
        False,
        True,
        True,
    )
    assert app.status is ApplicationStatus.READY
    assert (app.tags, app.addons, app.instance_type) == (("game",), ("ssh",), "a4.3")
    [version] = app.versions
    assert (version.number, version.architecture, version.imported) == (0, "amd64", False)
    assert version.status is VersionStatus.ACTIVE
    assert version.manifest["version"] == "1.0"
    assert site.catalogue.get(app.id) == site.catalogue.get("candy") == app
    assert site.events == [("application-created", "candy")]
    [local] = site.catalogue.versions()
    assert (local.key, local.digest, local.origin) == (
        Key("candy", 0, "amd64"),
        version.digest,
        "local",
    )


def test_the_image_is_what_a_registry_accepts(site: Site):
    site.create()
    manifest, config, image = site.catalogue.image(Key("candy", 0, "amd64"))
    parsed = oci.read(parse_manifest(manifest, MANIFEST), config)
    assert (parsed.key, dict(parsed.manifest), parsed.files) == (
        image.key,
        dict(image.manifest),
        image.files,
    )
    assert Digest.of(manifest) == site.catalogue.versions()[0].digest
    assert {file.path: file.mode for file in image.files}["hooks/pre-start"] == 0o755
    for key in (Key("candy", 1, "amd64"), Key("candy", 0, "arm64"), Key("other", 0, "amd64")):
        with pytest.raises(NotFound):
            site.catalogue.image(key)


def test_auto_publish_off(site: Site):
    site.options.set("application.auto_publish", "false")
    app = site.create()
    assert not app.published
    assert app.versions[0].status is VersionStatus.CREATED
    assert not site.update("candy", b"one").published
    assert site.catalogue.publish("candy", 0).published
    assert site.published() == [0]
    assert site.withdrawn() == []


def test_numbers_only_grow_and_the_last_version_stays(site: Site):
    app = site.create()
    assert site.update(app.id, b"one").number == 1
    site.catalogue.delete_version("candy", 1)
    assert site.update("candy", b"two").number == 2
    site.catalogue.delete_version("candy", 0)
    with pytest.raises(Conflict, match="only one"):
        site.catalogue.delete_version("candy", 2)
    with pytest.raises(NotFound, match="has no version 1: it has 2"):
        site.catalogue.publish("candy", 1)


def test_a_name_used_again_goes_on_counting(site: Site):
    # The registry would refuse other content for candy 0 for ever.
    site.create()
    site.update("candy", b"one")
    site.catalogue.delete("candy")
    assert site.withdrawn() == [("candy", 0, "amd64"), ("candy", 1, "amd64")]
    assert [v.number for v in site.create().versions] == [2]


def test_update_checks_name_and_content(site: Site):
    site.create()
    with pytest.raises(Conflict, match="exactly this content already"):
        site.update("candy", b"zero")
    with pytest.raises(Invalid, match="a name can't be changed"):
        site.update("candy", b"one", name="other")
    with pytest.raises(NotFound, match="no application has the id or name"):
        site.update("absent", b"one")
    assert len(site.catalogue.get("candy").versions) == 1
    assert site.events == [("application-created", "candy")]


def test_a_name_is_taken_once(site: Site):
    site.create()
    with pytest.raises(Conflict, match="exists already: update it instead"):
        site.create(apk=b"other")
    site.load(name="remote")
    with pytest.raises(Conflict, match="imported from the registry"):
        site.create(name="remote")
    assert [app.name for app in site.catalogue.list()] == ["candy", "remote"]


def test_the_oldest_published_beyond_the_limit_are_revoked_and_withdrawn(site: Site):
    site.options.set("application.max_published_versions", "2")
    site.create()
    for number in range(1, 4):
        site.update("candy", b"apk %d" % number)
    assert site.published() == [2, 3]
    assert site.withdrawn() == [("candy", 0, "amd64"), ("candy", 1, "amd64")]
    site.catalogue.publish("candy", 0)  # not revoked at once, though it is the oldest
    assert site.published() == [0, 3]
    assert site.withdrawn() == [("candy", 1, "amd64"), ("candy", 2, "amd64")]


def test_revoking_withdraws_and_publishing_takes_that_back(site: Site):
    site.create()
    assert not site.catalogue.revoke("candy", 0).published
    assert site.withdrawn() == [("candy", 0, "amd64")]
    site.catalogue.revoke("candy", 0)  # nothing to do
    assert site.catalogue.publish("candy", 0).published
    assert site.withdrawn() == []
    assert [event for event, _ in site.events] == [
        "application-created",
        "version-revoked",
        "version-published",
    ]


def test_only_what_the_registry_may_hold_is_withdrawn(site: Site):
    site.options.set("application.auto_publish", "false")
    site.create()
    site.update("candy", b"one")
    with site.database.write() as connection:
        connection.execute(
            schema.pushed.insert().values(
                name="candy", number=1, architecture="amd64", digest="d", epoch="e", at=site.now
            )
        )
    site.catalogue.delete("candy")
    assert site.withdrawn() == [("candy", 1, "amd64")]


def test_imported_applications_are_immutable(site: Site):
    site.load()
    site.load(number=4, data=b"four")
    before = site.catalogue.get("candy")
    assert (before.immutable, before.published, before.origin) == (True, True, "registry")
    for change in (
        lambda: site.update("candy", b"x"),
        lambda: site.catalogue.publish("candy", 0),
        lambda: site.catalogue.revoke("candy", 0),
        lambda: site.catalogue.delete("candy"),
        lambda: site.catalogue.delete_version("candy", 0),
    ):
        with pytest.raises(Forbidden, match="imported from the registry, which owns it"):
            change()
    assert site.catalogue.get("candy") == before
    site.catalogue.delete_version("candy", 0, force=True)
    site.catalogue.delete("candy", force=True)
    assert site.catalogue.list() == []
    assert site.withdrawn() == []


def test_importing_is_idempotent_and_keeps_numbers(site: Site):
    first = site.load(number=7)
    assert (first.number, first.published, first.imported) == (7, True, True)
    assert site.load(number=7) == first
    site.load(number=3, data=b"three")
    assert [v.number for v in site.catalogue.get("candy").versions] == [3, 7]
    assert site.events == [("version-imported", "candy")] * 2
    with pytest.raises(Conflict, match="is here with another content"):
        site.load(number=7, data=b"other")
    image, manifest, config = site.image(number=7, data=b"other")
    replaced = site.catalogue.import_version(image, manifest, config, replace=True)
    assert replaced.digest == Digest.of(manifest)


def test_importing_refuses_what_does_not_belong_here(site: Site):
    site.create("local")
    with pytest.raises(Conflict, match="a local application is named local"):
        site.load(name="local")
    with pytest.raises(Invalid, match="serves amd64"):
        site.load(architecture="arm64")
    with pytest.raises(Unavailable, match="is not stored"):
        site.load(data=b"never fetched", store=False)
    image, manifest, config = site.image()
    other, _, _ = site.image(number=9)
    with pytest.raises(Invalid, match="not of candy 9-amd64"):
        site.catalogue.import_version(other, manifest, config)
    with pytest.raises(Invalid):
        site.catalogue.import_version(image, manifest, config + b" ")
    assert [app.name for app in site.catalogue.list()] == ["local"]


def test_the_registry_removes_what_it_owns_only(site: Site):
    site.load()
    site.load(number=1, data=b"one")
    site.create("local")
    for key in (Key("local", 0, "amd64"), Key("absent", 0, "amd64"), Key("candy", 1, "arm64")):
        site.catalogue.remove_imported(key)
    site.catalogue.remove_imported(Key("candy", 0, "amd64"))
    site.catalogue.remove_imported(Key("candy", 0, "amd64"))
    assert [v.number for v in site.catalogue.get("candy").versions] == [1]
    site.catalogue.remove_imported(Key("candy", 1, "amd64"))
    assert [app.name for app in site.catalogue.list()] == ["local"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["a", "b"]),
        ({"name": "a"}, ["a"]),
        ({"immutable": "true"}, ["b"]),
        ({"published": "false"}, []),
        ({"tags": "game"}, ["a", "b"]),
        ({"tags": "game,other"}, []),
        ({"addons": "ssh", "vm": "false"}, ["a"]),
        ({"instance-type": "a4.3"}, ["a"]),
        ({"status": "ready"}, ["a", "b"]),
        ({"status": "2"}, ["a", "b"]),
        ({"status": "error"}, []),
    ],
)
def test_filters(site: Site, filters: dict[str, str], names: list[str]):
    site.create("a")
    site.load(name="b")
    assert [app.name for app in site.catalogue.list(filters)] == names


@pytest.mark.parametrize(
    ("filters", "part"),
    [
        ({"colour": "red"}, "is not a filter: use one of id, name, instance-type"),
        ({"published": "maybe"}, "neither true nor false"),
        ({"status": "great"}, "is not a status"),
    ],
)
def test_bad_filters(site: Site, filters: dict[str, str], part: str):
    with pytest.raises(Invalid, match=part):
        site.catalogue.list(filters)


def test_an_export_gives_back_the_same_version(site: Site, tmp_path: Path, databases: Databases):
    app = site.create(apk=b"x" * 700_000)
    export = site.catalogue.export("candy", 0)
    assert export.filename == "candy_0_amd64.tar.bz2"
    raw = b"".join(export.chunks)
    assert b"".join(site.catalogue.export(app.id, 0).chunks) == raw
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert archive.getnames() == ["manifest.yaml", "app.apk", "hooks/pre-start"]
    other = open_site(tmp_path / "other", databases)
    with packages.read(io.BytesIO(raw), other.blobs) as package:
        again = other.catalogue.create(package)
    other.database.close()
    assert again.versions[0].digest == app.versions[0].digest
    with pytest.raises(NotFound):
        site.catalogue.export("candy", 1)


def count(site: Site) -> int:
    return len(list(site.blobs.blobs()))


def test_garbage_goes_after_the_grace_period_and_nothing_else(site: Site):
    site.create()
    site.create("other", b"other")
    before = count(site)
    site.catalogue.delete("other")
    site.catalogue.collect_garbage()
    assert count(site) == before  # young
    site.now += timedelta(hours=2)
    assert site.catalogue.collect_garbage().blobs == 2  # its manifest.yaml and its apk
    assert count(site) == before - 2
    assert b"".join(site.catalogue.export("candy", 0).chunks)


@pytest.mark.parametrize("damaged", [b"zerO", b"ze", b"zero and more"])
def test_a_damaged_blob_that_a_deleted_version_left_is_stored_anew(site: Site, damaged: bytes):
    site.create(apk=b"zero")
    site.catalogue.delete("candy")
    digest = Digest.of(b"zero")
    (site.blobs._blobs / "sha256" / digest.hex[:2] / digest.hex).write_bytes(damaged)
    site.create(apk=b"zero")
    assert b"".join(site.blobs.read(digest)) == b"zero"


def test_claimed_blobs_are_kept_until_the_claim_is_old(site: Site):
    image, manifest, config = site.image()
    site.now += timedelta(hours=5)
    site.catalogue.claim(file.digest for file in image.files)
    assert site.catalogue.collect_garbage().blobs == 0
    site.catalogue.import_version(image, manifest, config)
    site.now += timedelta(hours=5)
    assert site.catalogue.collect_garbage().blobs == 0
    site.catalogue.remove_imported(image.key)
    assert site.catalogue.collect_garbage().blobs == 1


def test_old_blobs_without_a_version_are_safe_while_a_create_runs(site: Site):
    site.create()
    site.catalogue.delete("candy")
    site.now += timedelta(hours=5)
    with site.read(content(apk=b"zero")) as package:
        taken = package.publish

        def publish(anew: Collection[Digest]) -> int:
            assert site.catalogue.collect_garbage().blobs == 0
            return taken(anew)

        package.publish = publish  # type: ignore[method-assign]
        app = site.catalogue.create(package)
    assert b"".join(site.catalogue.export(app.id, app.versions[0].number).chunks)


def test_abandoned_staged_files_go(site: Site):
    site.blobs.stage("package-abc-0").close()
    held = site.blobs.stage("held")
    site.catalogue.collect_garbage()
    assert len(site.blobs.staged()) == 2
    site.now += timedelta(hours=25)
    assert site.catalogue.collect_garbage().staged == 1
    held.close()
    assert site.catalogue.collect_garbage().staged == 1


def test_of_several_who_want_a_name_or_a_number_each_gets_its_own(site: Site):
    def create(index: int) -> str:
        try:
            return site.create(apk=b"first %d" % index).id
        except Conflict:
            return ""

    with ThreadPoolExecutor(4) as pool:
        assert sum(map(bool, pool.map(create, range(8)))) == 1
        numbers = list(pool.map(lambda i: site.update("candy", b"next %d" % i).number, range(8)))
    assert sorted(numbers) == list(range(1, 9))
    assert site.published() == [6, 7, 8]

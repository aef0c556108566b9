"""Single fields of an application: what stays beside the versions, what makes a new one."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ams import packages
from ams.catalogue import Application, Catalogue, Change, fields
from ams.options import Options
from ams.packages import manifest as manifests
from regkit.blobs import FileBlobStore
from regkit.blobs.files import FileStaged
from regkit.errors import Conflict, Forbidden, Invalid
from regkit.oci.application import Key
from support.packages import tar
from support.postgresql import SQLITE, Databases

MANIFEST: dict[str, Any] = {
    "name": "candy",
    "version": "1.0",
    "instance-type": "a4.3",
    "image": "jammy",
    "tags": ["game"],
    "addons": ["ssh"],
    "resources": {"cpus": 2, "memory": "2GB"},
    "watchdog": {"disabled": False},
    "services": [{"name": "http", "port": 80, "protocols": ["tcp"]}],
}


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ({"tags": ["a", "b"]}, {"tags": ["a", "b"]}),
        ({"tags": []}, {"tags": None}),
        ({"tags": ["game"]}, {}),
        ({"image": ""}, {"image": None}),
        ({"instance-type": "a2.3"}, {"instance-type": "a2.3"}),
        ({"node-selector": ["gpu=nvidia"]}, {"node-selector": ["gpu=nvidia"]}),
        ({"addons": []}, {"addons": None}),
        ({"resources": {"cpus": 4}}, {"resources": {"cpus": 4, "memory": "2GB"}}),
        ({"resources": {"cpus": 0, "memory": ""}}, {"resources": None}),
        (
            {"resources": {"gpu-slots": 0}},
            {"resources": {"cpus": 2, "memory": "2GB", "gpu-slots": 0}},
        ),
        ({"resources": {"gpu-slots": -1, "vpu-slots": -1}}, {}),
        ({"resources": {}}, {}),
        ({fields.INHIBIT: True}, {fields.INHIBIT: True}),
        ({}, {}),
        # What says nothing is as good as no key: no new version for it.
        ({"watchdog": {"disabled": False, "allowed-packages": []}}, {}),
        ({"hooks": {}, "bootstrap": {"keep": []}, "boot-activity": ""}, {}),
    ],
)
def test_what_is_kept_beside_the_versions(wanted: dict[str, Any], kept: dict[str, Any]):
    outcome = fields.apply(MANIFEST, {}, wanted)
    assert (outcome.fields, outcome.manifest, outcome.changed) == (kept, None, bool(kept))
    again = fields.apply(MANIFEST, outcome.fields, wanted)
    assert (again.fields, again.changed) == (kept, False)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"boot-activity": ".Main"}, {"boot-activity": ".Main"}),
        ({"version": "2"}, {"version": "2"}),
        ({"version": ""}, {"version": None}),
        ({"features": ["f"]}, {"features": ["f"]}),
        ({"required-permissions": ["*"]}, {"required-permissions": ["*"]}),
        ({"video-encoder": "gpu"}, {"video-encoder": "gpu"}),
        ({"watchdog": {"disabled": True}}, {"watchdog": {"disabled": True}}),
        ({"hooks": {"timeout": "5m"}}, {"hooks": {"timeout": "5m"}}),
        ({"bootstrap": {"keep": ["app.apk"]}}, {"bootstrap": {"keep": ["app.apk"]}}),
        ({"services": []}, {"services": None}),
    ],
)
def test_what_makes_a_new_version(wanted: dict[str, Any], says: dict[str, Any]):
    before = {"tags": ["set"], "image": None, fields.INHIBIT: True}
    outcome = fields.apply(MANIFEST, before, {**wanted, "instance-type": "a2.3"})
    assert outcome.manifest is not None
    made = outcome.manifest.to_dict()
    assert {key: made.get(key) for key in says} == says
    # It takes over what was kept beside the older ones, and what was asked for with it.
    assert (made["tags"], made.get("image"), made["instance-type"]) == (["set"], None, "a2.3")
    assert outcome.fields == {fields.INHIBIT: True}
    assert manifests.parse(manifests.render(outcome.manifest)) == outcome.manifest


@pytest.mark.parametrize(
    ("wanted", "faults"),
    [
        ({"tags": ["a\n"]}, ["tags[0]"]),
        ({"version": "x" * 51, "video-encoder": "vpu"}, ["version", "video-encoder"]),
        ({"resources": {"memory": "much"}}, ["resources.memory"]),
        ({"resources": {"cpus": -1}}, ["resources.cpus"]),
        ({"hooks": {"timeout": "16m"}}, ["hooks.timeout"]),
        ({"services": [{"name": "x", "port": 0, "protocols": []}]}, ["services[0].port"]),
        (
            {"services": [{"name": "x", "port": 9, "port-end": 8, "protocols": ["udp"]}]},
            ["services[0]", "below port 9"],
        ),
        ({"boot-activity": "\x00"}, []),
    ],
)
def test_the_rules_of_a_manifest_hold_and_every_fault_is_told(
    wanted: dict[str, Any], faults: list[str]
):
    with pytest.raises(Invalid) as caught:
        fields.apply(MANIFEST, {}, wanted)
    for fault in faults:
        assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unsetting_what_was_set_uncovers_nothing():
    tagged = fields.apply(MANIFEST, {}, {"tags": ["set"]}).fields
    outcome = fields.apply(MANIFEST, tagged, {"tags": []})
    assert fields.effective(MANIFEST, outcome.fields).get("tags") is None
    back = fields.apply(MANIFEST, outcome.fields, {"tags": ["game"]})
    assert (back.fields, back.changed) == ({}, True)


class Site:
    def __init__(
        self, root: Path, blobs: FileBlobStore | None = None, databases: Databases = SQLITE
    ) -> None:
        self.database = databases.open(root / "ams.db", "ams:migrations")
        self.blobs = blobs or FileBlobStore(root)
        self.options = Options(self.database)
        self.catalogue = Catalogue(self.database, self.blobs, "amd64", self.options)
        self.events: list[Change] = []
        self.catalogue.listen(self.events.append)

    def package(self, manifest: dict[str, Any], apk: bytes = b"apk") -> packages.Package:
        raw = yaml.safe_dump(manifest).encode()
        return packages.read(io.BytesIO(tar({"manifest.yaml": raw, "app.apk": apk})), self.blobs)

    def create(self) -> Application:
        with self.package(MANIFEST) as package:
            return self.catalogue.create(package)

    def count(self) -> int:
        return len(list(self.blobs.blobs()))


@pytest.fixture
def site(tmp_path: Path, databases: Databases) -> Iterator[Site]:
    site = Site(tmp_path, databases=databases)
    yield site
    assert site.blobs.staged() == []
    site.database.close()


def test_a_field_of_the_application(site: Site):
    before = site.create()
    after = site.catalogue.change("candy", {"tags": ["a"], "instance-type": "a2.3"})
    assert (after.tags, after.instance_type, after.addons) == (("a",), "a2.3", ("ssh",))
    assert after.versions == before.versions
    assert after.updated > before.updated
    assert site.catalogue.get("candy") == after
    assert [app.name for app in site.catalogue.list({"tags": "a"})] == ["candy"]
    assert site.catalogue.search({"tags": "game"}) == []
    assert site.events[-1] == Change("application-updated", after.id, "candy")


def test_nothing_to_change_changes_nothing(site: Site):
    before = site.create()
    assert site.catalogue.change("candy", {"tags": ["game"], "features": []}) == before
    assert site.catalogue.change("candy", {}) == before
    assert len(site.events) == 1


def test_a_field_of_a_version(site: Site):
    app = site.create()
    blobs = site.count()
    site.catalogue.change(app.id, {"tags": ["set"], fields.INHIBIT: True})
    after = site.catalogue.change(app.id, {"boot-activity": ".Main"})
    old, new = after.versions
    assert (new.number, new.published, old.published) == (1, True, True)
    assert new.manifest == {**MANIFEST, "tags": ["set"], "boot-activity": ".Main"}
    assert old == app.latest
    assert after.fields == {fields.INHIBIT: True}
    assert site.count() == blobs + 1  # the new manifest.yaml; the other files are shared
    assert site.events[-1] == Change("version-created", app.id, "candy", 1)

    exported = b"".join(site.catalogue.export("candy", 1).chunks)
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        member = archive.extractfile("manifest.yaml")
        assert member is not None
        assert manifests.parse(member.read()).to_dict() == new.manifest
        assert sorted(archive.getnames()) == ["app.apk", "manifest.yaml"]
    _, _, image = site.catalogue.image(Key("candy", 1, "amd64"))
    assert image.manifest == new.manifest
    site.catalogue.collect_garbage()
    assert b"".join(site.catalogue.export("candy", 1).chunks) == exported


def test_a_new_version_obeys_the_options(site: Site):
    site.create()
    site.options.set("application.max_published_versions", "1")
    after = site.catalogue.change("candy", {"features": ["a"]})
    assert [v.published for v in after.versions] == [False, True]
    site.options.set("application.auto_publish", "false")
    after = site.catalogue.change("candy", {"features": ["b"]})
    assert [v.published for v in after.versions] == [False, True, False]


def test_a_new_package_says_it_all(site: Site):
    app = site.create()
    site.catalogue.change(app.id, {"tags": ["set"], fields.INHIBIT: True})
    with site.package({**MANIFEST, "tags": ["new"]}, b"second") as package:
        site.catalogue.update(app.id, package)
    after = site.catalogue.get(app.id)
    assert (after.tags, after.inhibits_updates) == (("new",), True)


def test_what_the_registry_owns_is_left_alone(site: Site):
    app = site.create()
    with site.database.write() as connection:
        connection.exec_driver_sql("UPDATE application SET origin = 'registry'")
    for wanted in ({"tags": ["a"]}, {"features": ["a"]}, {}):
        with pytest.raises(Forbidden, match="which owns it"):
            site.catalogue.change(app.id, wanted)


def test_a_check_is_asked_in_the_same_transaction(site: Site):
    app = site.create()
    asked: list[Application] = []

    def refuse(application: Application) -> None:
        asked.append(application)
        raise Conflict("not now")

    before = site.count()
    for wanted in ({"tags": ["a"]}, {"features": ["a"]}):
        with pytest.raises(Conflict, match="not now"):
            site.catalogue.change(app.id, wanted, refuse)
    with site.package(MANIFEST, b"two") as package, pytest.raises(Conflict, match="not now"):
        site.catalogue.update(app.id, package, refuse)
    with pytest.raises(Conflict, match="not now"):
        site.catalogue.delete(app.id, check=refuse)
    assert asked == [app] * 4
    assert site.catalogue.get(app.id) == app
    assert site.count() == before + 2  # claimed for an hour; the garbage collection's


class Racing(FileBlobStore):
    """A blob store during whose first use something else happens."""

    meanwhile: Callable[[], object] | None = None

    def stage(self, name: str, *, create: bool = True) -> FileStaged:
        if self.meanwhile:
            happen, self.meanwhile = self.meanwhile, None
            happen()
        return super().stage(name, create=create)


def test_of_two_who_change_at_once_one_is_told(tmp_path: Path):
    blobs = Racing(tmp_path)
    site = Site(tmp_path, blobs)
    app = site.create()
    blobs.meanwhile = lambda: site.catalogue.change(app.id, {"tags": ["first"]})
    with pytest.raises(Conflict, match="was changed meanwhile"):
        site.catalogue.change(app.id, {"features": ["second"]})
    after = site.catalogue.get(app.id)
    assert (after.tags, after.versions) == (("first",), app.versions)
    site.database.close()

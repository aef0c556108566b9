"""The management service on a bucket, a real radosgw's: what it does, and what races it stands."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml

from ams import packages
from ams.packages.staging import LARGE
from regkit.blobs import StorageDown
from regkit.blobs.s3 import S3BlobStore
from regkit.errors import Unavailable
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from regkit.storage import BucketStorage
from support import ams, engines
from support.ams import write_package
from support.feeds import RegistrySimulator
from support.packages import content, tar
from support.radosgw import BUCKET, SECRET_KEY, RadosGateway
from support.site import URL, Clock, Site

BIG = bytes(LARGE + 1)  # one that stays open while its package is read
APK = b"the same content"


class Watched(S3BlobStore):
    """A bucket's store in which something happens while garbage is being collected."""

    before_doom: Callable[[], object] | None = None
    before_deletion: Callable[[], object] | None = None

    def doom(self, digest: Digest) -> Callable[[], None]:
        """Look up what is to go; then others come in between."""
        delete = super().doom(digest)
        self._once("before_doom")

        def deletion() -> None:
            self._once("before_deletion")
            delete()

        return deletion

    def _once(self, name: str) -> None:
        happens = getattr(self, name)
        setattr(self, name, None)
        if happens is not None:
            happens()


@pytest.fixture(scope="module")
def gateway() -> RadosGateway:
    return engines.radosgw()


@pytest.fixture
def registry() -> RegistrySimulator:
    return RegistrySimulator(url=URL)


@pytest.fixture
def store(gateway: RadosGateway) -> Iterator[Watched]:
    settings = gateway.settings(gateway.new_prefix())
    watched = Watched(BucketStorage.model_validate(settings))
    yield watched
    watched.close()


@pytest.fixture
def site(tmp_path: Path, registry: RegistrySimulator, store: Watched) -> Iterator[Site]:
    clock = Clock()
    clock.now = datetime.now(timezone.utc)  # the bucket's own goes on by itself
    site = Site(tmp_path, registry.connect, blobs=store, clock=clock)
    try:
        yield site
        assert store.staged() == []
    finally:
        site.close()


def collect(site: Site) -> int:
    return site.catalogue.collect_garbage().blobs


def read(site: Site, name: str, number: int) -> dict[str, bytes]:
    raw = b"".join(site.catalogue.export(name, number).chunks)
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        found = {name: archive.extractfile(name) for name in archive.getnames()}
        return {name: file.read() for name, file in found.items() if file}


def test_an_application_from_its_package_to_its_end(site: Site, store: Watched) -> None:
    site.create("candy", {"app.apk": BIG, "extra-data/same": b"same"})
    site.update("candy", {"app.apk": BIG, "extra-data/same": b"same", "new": b"new"})
    assert read(site, "candy", 1)["app.apk"] == BIG
    assert len(list(store.blobs())) == 4, "what two versions have is one blob"
    site.catalogue.change("candy", {"version": "2.0"})
    assert read(site, "candy", 2)["new"] == b"new"
    site.catalogue.delete_version("candy", 1)
    site.clock.tick(hours=5)
    assert collect(site) == 0, "version 2 has all of it"
    site.catalogue.delete("candy")
    assert collect(site) == 5, "with the changed manifest"
    assert list(store.blobs()) == []


def test_a_sync_brings_and_takes_away(
    site: Site, store: Watched, registry: RegistrySimulator
) -> None:
    first = registry.publish("candy", files={"big": BIG, "app.apk": b"one"})
    registry.publish("candy", 1, files={"big": BIG, "app.apk": b"two"})
    report = site.engine.sync_now()
    assert set(report.done) == {"import candy 0-amd64", "import candy 1-amd64"}
    assert report.bytes == len(BIG) + 6, "an unchanged file is fetched once"
    assert read(site, "candy", 1) == {"big": BIG, "app.apk": b"two"}
    registry.remove(first)
    assert site.engine.sync_now().done == ("remove candy 0-amd64",)
    site.clock.tick(hours=5)
    assert collect(site) == 1
    assert read(site, "candy", 1)["big"] == BIG


def test_a_bucket_that_is_gone_is_no_versions_fault(
    site: Site, registry: RegistrySimulator, gateway: RadosGateway
) -> None:
    registry.publish("candy", files={"app.apk": b"one"})
    gateway.kill()
    try:
        with pytest.raises(StorageDown, match="can't be reached"):
            site.engine.sync_now()
    finally:
        gateway.start()
    assert site.engine.status()["quarantined"] == []
    assert site.engine.sync_now().done == ("import candy 0-amd64",)


# Whoever comes while garbage is collected


def unused(site: Site, files: dict[str, bytes]) -> None:
    """Leave blobs behind that nobody needs any more."""
    site.create("gone", files)
    site.catalogue.delete("gone")
    site.clock.tick(hours=5)


MOMENTS = pytest.mark.parametrize("moment", ["before_doom", "before_deletion"])


@MOMENTS
def test_a_package_that_comes_with_the_same_content_keeps_it(
    site: Site, store: Watched, moment: str
) -> None:
    unused(site, {"app.apk": APK})
    setattr(store, moment, lambda: site.create("candy", {"app.apk": APK}))
    collect(site)
    assert read(site, "candy", 0)["app.apk"] == APK
    site.clock.tick(hours=5)
    collect(site)
    assert read(site, "candy", 0)["app.apk"] == APK


@MOMENTS
def test_an_import_of_the_same_content_keeps_it(
    site: Site, store: Watched, registry: RegistrySimulator, moment: str
) -> None:
    unused(site, {"app.apk": APK})
    for number in range(3):
        registry.publish("candy", number, files={"app.apk": APK, "n": b"%d" % number})
    setattr(store, moment, site.engine.sync_now)
    collect(site)
    assert len(site.versions()) == 3
    site.clock.tick(hours=5)
    collect(site)
    for number in range(3):
        assert read(site, "candy", number)["app.apk"] == APK
    doomed = moment == "before_deletion"
    assert registry.count("blob", str(Digest.of(APK))) == doomed, "fetched anew, once"


def test_what_cannot_be_stored_anew_is_tried_again(site: Site) -> None:
    with packages.read(io.BytesIO(tar(content())), site.blobs) as package:
        with pytest.raises(Unavailable, match="try again"):
            package.publish([Digest.of(b"of an earlier version")])
        assert list(site.blobs.blobs()) == []


def test_a_claim_that_was_given_up_is_noticed(site: Site, store: Watched) -> None:
    unused(site, {"app.apk": APK})
    digest = Digest.of(APK)
    doomed = site.catalogue.claim([digest])
    assert doomed == {}
    site.catalogue.keep([digest], doomed)
    site.clock.tick(hours=5)

    def late() -> None:
        with pytest.raises(Unavailable, match="cleared away meanwhile"):
            site.catalogue.keep([digest], doomed)

    store.before_deletion = late
    assert collect(site) >= 1
    assert store.before_deletion is None


def test_a_collection_that_died_is_made_up_for(site: Site, store: Watched) -> None:
    class Died(Exception):  # noqa: N818 - no error of ours
        """Stands for a process that was killed."""

    def die() -> None:
        raise Died

    unused(site, {"app.apk": APK})
    store.before_deletion = die
    with pytest.raises(Died):
        collect(site)
    assert Digest.of(APK) in site.catalogue.claim([Digest.of(APK)]), "it counts as gone"
    site.create("candy", {"app.apk": APK})
    site.clock.tick(hours=25)
    collect(site)
    assert site.catalogue.claim([Digest.of(APK)]) == {}
    assert read(site, "candy", 0)["app.apk"] == APK
    assert site.catalogue.versions()[0].key == Key("candy", 0, "amd64")


# The service as a process


def run(home: Path, *arguments: str) -> ams.Result:
    done = subprocess.run(
        [sys.executable, "-m", "ams", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=ams.environment(home),
        check=False,
    )
    return ams.Result(done.returncode, done.stdout, done.stderr)


def damage(gateway: RadosGateway, prefix: str) -> None:
    """Exchange the content of the largest blob, behind the service's back."""
    client = gateway.client()
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}data/")["Contents"]
    largest = max(found, key=lambda item: item["Size"])
    client.put_object(Bucket=BUCKET, Key=largest["Key"], Body=b"x" * largest["Size"])
    client.close()


def test_the_service_and_its_commands(tmp_path: Path, gateway: RadosGateway) -> None:
    prefix = gateway.new_prefix()
    storage = {"s3": gateway.settings(prefix)}
    home = tmp_path / "ams"
    configuration = home / "conf" / "main.yaml"
    configuration.parent.mkdir(parents=True)
    configuration.touch(mode=0o600)
    settings = {"http": {"addr": "127.0.0.1:0"}, "architecture": "amd64", "storage": storage}
    configuration.write_text(yaml.safe_dump(settings))
    with ams.running(home) as service:
        service.ok("application", "create", write_package(tmp_path / "candy", "candy"))
        service.ok("application", "export", "candy", "0", "--output", tmp_path / "a.tar.bz2")
        with tarfile.open(tmp_path / "a.tar.bz2") as archive:
            assert archive.getnames() == ["manifest.yaml", "app.apk"]
        sound = run(home, "verify", "--format", "json")
        assert (sound.code, json.loads(sound.out)["blobs"]) == (0, 2)
        damage(gateway, prefix)
        found = run(home, "verify")
        assert found.code == 3
        assert "candy 0" in found.out
        again = write_package(tmp_path / "again", "again")
        (again / "app.apk").write_bytes((tmp_path / "candy" / "app.apk").read_bytes())
        service.ok("application", "create", again)
        assert run(home, "verify").code == 0, "the same content has taken its place"
    assert not (home / "data" / "blobs").exists()
    assert not any(SECRET_KEY in line for line in service.log)

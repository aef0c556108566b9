"""`ams verify`, `backup` and `restore`: as those of `aar`, over the management service's rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path

import pytest

from aar_interface import Role
from ams import backup as ours
from ams.packages import read
from ams.service import Service
from ams.settings import Settings
from ams.verify import ServiceBooks
from regkit.oci.digest import Digest
from regkit.upkeep import backup, restore
from regkit.upkeep.restore import Restored, Wish
from regkit.upkeep.scrub import Report, scrub
from support.ams import Result, environment, running, write_package
from support.certificates import NOW, certify
from support.distribution import digest_of, push_application
from support.registry import running as running_registry

SETTINGS = Settings(architecture="amd64")


def ams(home: Path, *arguments: str) -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "ams", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(home),
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def ok(home: Path, *arguments: str) -> str:
    result = ams(home, *arguments)
    assert (result.code, result.err) == (0, ""), result
    return result.out


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state root with an application of two versions, and one that was deleted."""
    home = tmp_path / "ams"
    with Service(home, SETTINGS) as service:
        create(service, "candy", b"one")
        update(service, "candy", b"two")
        create(service, "gone", b"gone")
        service.catalogue.delete("gone")
    return home


def package(service: Service, name: str, apk: bytes) -> Path:
    folder = write_package(service.home / "packages" / name, name)
    (folder / "app.apk").write_bytes(apk)
    return folder


def create(service: Service, name: str, apk: bytes) -> None:
    with read(package(service, name, apk), service.blobs) as content:
        service.catalogue.create(content)


def update(service: Service, name: str, apk: bytes) -> int:
    with read(package(service, name, apk), service.blobs) as content:
        return service.catalogue.update(name, content).number


def saved(home: Path) -> bytes:
    out, state = BytesIO(), ours.state(home, SETTINGS)
    with backup.opened(state) as snapshot:
        assert backup.write(state, snapshot, out, keys=True).lost == ()
    return out.getvalue()


def brought_back(home: Path, raw: bytes) -> Restored:
    return restore.restore(
        lambda _: ours.state(home, SETTINGS), home, BytesIO(raw), Wish(force=True)
    )


def check(service: Service) -> Report:
    return scrub(service.blobs, ServiceBooks(service.database))


def file_of(home: Path, content: bytes) -> Path:
    digest = Digest.of(content)
    return home / "data" / "blobs" / "sha256" / digest.hex[:2] / digest.hex


def test_saved_beside_the_service_and_brought_back(tmp_path: Path):
    home, other, target = tmp_path / "one", tmp_path / "two", tmp_path / "b.tar"
    with running(home) as service:
        service.ok("application", "create", write_package(tmp_path / "candy", "candy"))
        service.ok("config", "set", "registry.mode", "manual")
        assert ok(home, "backup", str(target)).startswith("Saved 2 blobs")
        assert target.stat().st_mode & 0o777 == 0o600
        refused = ams(home, "restore", "--force", str(target))
        assert refused.code == 1
        assert "is in use: stop the service" in refused.err
        assert ok(home, "verify").endswith("Sound\n")
    said = ok(other, "restore", str(target))
    assert said.endswith("Start the service now.\n")
    for name in ("registry/client.crt", "registry/client.key", "server/ams.crt", "server/ams.key"):
        assert (other / name).read_bytes() == (home / name).read_bytes()
    with running(other) as service:
        assert (
            json.loads(service.ok("application", "list", "--format", "json"))[0]["name"] == "candy"
        )
        assert "manual" in service.ok("config", "show")
        assert ok(other, "verify").endswith("Sound\n")


def test_a_backup_of_the_registry_is_not_the_services(home: Path, tmp_path: Path):
    target = tmp_path / "b.tar"
    target.write_bytes(saved(home))
    done = subprocess.run(
        [sys.executable, "-m", "aar", "restore", str(target)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(home, AAR_HOME=str(tmp_path / "aar")),
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "this is a backup of 'ams': restore it with 'ams restore'" in done.stderr


def test_numbers_and_revocations_outlive_an_older_backup(home: Path):
    raw = saved(home)
    certificate = certify()
    with Service(home, SETTINGS) as service:
        assert update(service, "candy", b"three") == 2
        create(service, "later", b"one")
        create(service, "gone", b"again")
        service.catalogue.delete("gone")
        service.trust.add(certificate, Role.CLIENT, now=NOW)
        service.trust.revoke(certificate.fingerprint)
    done = brought_back(home, raw)
    assert done.revoked == (certificate.fingerprint,)
    with Service(home, SETTINGS) as service:
        assert [app.name for app in service.catalogue.list()] == ["candy"]
        assert [v.number for v in service.catalogue.get("candy").versions] == [0, 1]
        assert update(service, "candy", b"other than three") == 3
        create(service, "later", b"other")
        assert service.catalogue.get("later").latest.number == 1
        create(service, "gone", b"third")
        assert service.catalogue.get("gone").latest.number == 2
        assert [e.fingerprint for e in service.trust.list(revoked=True)] == [
            certificate.fingerprint
        ]
        assert check(service).sound


def test_a_running_collection_waits_for_a_backup(home: Path):
    with Service(home, SETTINGS) as service:
        late = datetime.now(timezone.utc) + timedelta(days=2)
        service.catalogue._clock = lambda: late
        with backup.opened(ours.state(home, SETTINGS)) as snapshot:
            service.catalogue.delete("candy")
            service.clean()
            assert file_of(home, b"one").exists()
            assert (
                backup.write(ours.state(home, SETTINGS), snapshot, BytesIO(), keys=True).lost == ()
            )
        service.clean()
        assert not file_of(home, b"one").exists()


def test_damage_is_found_and_taken_out_of_use(home: Path):
    file_of(home, b"one").write_bytes(b"two")
    file_of(home, b"two").unlink()
    with Service(home, SETTINGS) as service:
        report = check(service)
        found = {d.digest: (d.kind, [user.name for user in d.users]) for d in report.damages}
        assert found == {
            Digest.of(b"one"): ("damaged", ["candy 0"]),
            Digest.of(b"two"): ("missing", ["candy 1"]),
        }
        assert not file_of(home, b"one").exists()
        # Giving the same package anew is what is advised; its content fills the gap.
        update(service, "candy", b"two, and more")
        (service.home / "packages" / "candy" / "app.apk").write_bytes(b"two")
        update(service, "candy", b"two")
        assert [damage.digest for damage in check(service).left] == [Digest.of(b"one")]


def test_rows_that_are_wrong(home: Path):
    with Service(home, SETTINGS) as service:
        with service.database.write() as connection:
            connection.exec_driver_sql("UPDATE version SET oci_manifest = X'00' WHERE number = 1")
        assert check(service).rows == ("the manifest of version 1 of candy is damaged",)


@pytest.fixture
def lossy(tmp_path: Path) -> Iterator[Path]:
    """A state root that imported an application, and lost its file."""
    home, apk = tmp_path / "ams", b"an apk" * 1000
    with running_registry(tmp_path / "aar") as registry:
        push_application(registry.publisher, "candy", files={"app.apk": apk})
        with Service(home, SETTINGS) as service:
            registry.trust(service.identity.certificate, Role.CLIENT)
            service.trust.add(registry.certificate, Role.CLIENT)
            service.options.set("registry.url", registry.url)
            service.options.set("registry.fingerprint", str(registry.certificate.fingerprint))
            service.options.set("registry.mode", "pull")
            service.sync.sync_now()
        file_of(home, apk).write_bytes(b"lost")
        assert digest_of(apk).endswith(file_of(home, apk).name)
        yield home


def test_an_imported_file_comes_back_from_the_registry(lossy: Path):
    found = ams(lossy, "verify")
    assert found.code == 3
    assert "  candy 0 (imported)\n" in found.out.replace("needed by ", "")
    mended = json.loads(ok(lossy, "verify", "--repair", "--from", "registry", "--format", "json"))
    assert [item["restored"][:8] for item in mended["damaged"]] == ["https://"]
    assert ok(lossy, "verify").endswith("Sound\n")


def test_without_a_registry_there_is_none_to_take_from(home: Path):
    refused = ams(home, "verify", "--repair", "--from", "registry")
    assert refused.code == 1
    assert "no registry is set" in refused.err

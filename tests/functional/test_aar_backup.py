"""`aar backup` and `aar restore`: whole beside writers, all or nothing under kill -9."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path

import pytest

from aar import backup as ours
from aar.errors import Denied, Immutable
from aar.registry import Registry
from aar.settings import Settings
from aar.verify import RegistryBooks
from aar_interface import Certificate, Role
from regkit import identity
from regkit.errors import Conflict, Invalid, NoSpace, ServiceError
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from regkit.upkeep import archive, backup, restore, swap
from regkit.upkeep.restore import Restored, Wish
from regkit.upkeep.scrub import scrub
from regkit.upkeep.state import State
from support.certificates import NOW, certify
from support.distribution import digest_of, push_application
from support.images import actor, push
from support.operator import Operator
from support.registry import running

KEY = Key("candy", 0, "amd64")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state root with a key, some versions and two certificates."""
    home = tmp_path / "state"
    with Registry(home) as registry:
        for number in range(3):
            push(registry, Key("candy", number, "amd64"), {"app.apk": b"apk %d" % number})
        identity.ensure(
            home / "certs/server.crt", home / "certs/server.key", "aar", ("localhost",),
            usage="server",
        )  # fmt: skip
    return home


def state_of(home: Path) -> State:
    return ours.state(home, Settings())


def saved(home: Path, *, keys: bool = True) -> bytes:
    out = BytesIO()
    state = state_of(home)
    with backup.opened(state) as snapshot:
        assert backup.write(state, snapshot, out, keys=keys).lost == ()
    return out.getvalue()


def brought_back(home: Path, raw: bytes, **wish: object) -> Restored:
    return restore.restore(
        lambda _: state_of(home),
        home,
        BytesIO(raw),
        Wish(**wish),  # type: ignore[arg-type]
    )


def keys_of(home: Path) -> list[str]:
    with Registry(home) as registry:
        report = scrub(registry.blobs, RegistryBooks(registry.database))
        assert report.sound, report
        found = registry.applications.list()
        return [str(version.key) for application in found for version in application.versions]


def facts(home: Path) -> tuple[object, ...]:
    """Everything of a state that tells an old one from a new one."""
    with closing(sqlite3.connect(home / "data" / "aar.db")) as connection:
        rows = tuple(
            tuple(connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3"))
            for table in ("trust", "application_version", "change", "audit", "tag", "feed")
        )
    files = sorted(path.relative_to(home) for path in (home / "data" / "blobs").rglob("?" * 64))
    return rows, tuple(files), (home / "certs" / "server.key").read_bytes()


# -- round trips --------------------------------------------------------------------------------


def test_into_an_empty_root(home: Path, tmp_path: Path):
    raw = saved(home)
    other = tmp_path / "other"
    done = brought_back(other, raw)
    assert keys_of(other) == keys_of(home) == ["candy 0-amd64", "candy 1-amd64", "candy 2-amd64"]
    assert (done.lost, done.revoked, done.trusted_again) == ((), (), ())
    with Registry(home) as old, Registry(other) as new:
        assert old.feed.head().seq == new.feed.head().seq
        assert old.feed.head().epoch != new.feed.head().epoch
        assert new.audit.read()[-1].record.action == "registry-restored"
    for name in ("certs/server.crt", "certs/server.key"):
        assert (other / name).read_bytes() == (home / name).read_bytes()
        assert (other / name).stat().st_mode & 0o777 == 0o600
    for folder in ("data", "certs"):
        assert (other / folder).stat().st_mode & 0o777 == 0o700
    left = [path.name for path in other.rglob("*") if "restore" in path.name]
    assert left == []
    assert saved(other)  # and what was restored can be saved


def test_without_keys_on_either_side(home: Path, tmp_path: Path):
    bare = saved(home, keys=False)
    assert not any(name.startswith("certs") for name in names(bare))
    brought_back(tmp_path / "one", bare)
    assert not (tmp_path / "one" / "certs").exists()
    brought_back(tmp_path / "two", saved(home), keys=False)
    assert not (tmp_path / "two" / "certs").exists()


def test_the_configuration_goes_only_where_there_is_none(home: Path, tmp_path: Path):
    (home / "conf").mkdir()
    (home / "conf" / "main.yaml").write_text("http:\n  addr: 127.0.0.1:0\n")
    raw = saved(home)
    brought_back(tmp_path / "one", raw)
    assert "127.0.0.1:0" in (tmp_path / "one" / "conf" / "main.yaml").read_text()
    (tmp_path / "two" / "conf").mkdir(parents=True)
    (tmp_path / "two" / "conf" / "main.yaml").write_text("log: {level: debug}\n")
    brought_back(tmp_path / "two", raw)
    assert (tmp_path / "two" / "conf" / "main.yaml").read_text() == "log: {level: debug}\n"


def names(raw: bytes) -> list[str]:
    with tarfile.open(fileobj=BytesIO(raw)) as tar:
        assert {member.mode for member in tar} == {0o600}
        return tar.getnames()


def test_exactly_what_the_snapshot_refers_to_is_saved(home: Path):
    with Registry(home) as registry:
        registry.applications.remove("candy", 2, actor=None)
        registry.janitor.run(datetime.now(timezone.utc) + timedelta(days=2))
        orphan = home / "data" / "blobs" / "sha256" / "00" / ("00" * 32)
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_bytes(b"")
        registry.uploads.start("candy")
        wanted = {item.digest for item in RegistryBooks(registry.database).wanted()}
    blobs = {archive.blob_digest(name) for name in names(saved(home)) if name.startswith("blobs")}
    assert blobs == wanted
    assert names(saved(home))[:4] == [
        "backup.json", "certs/server.crt", "certs/server.key", "database.db",
    ]  # fmt: skip


# -- what outlives a restore --------------------------------------------------------------------


def test_revocations_outlive_an_older_backup(home: Path):
    kept, removed, revoked, later = (certify() for _ in range(4))
    with Registry(home) as registry:
        for certificate in (kept, removed, revoked):
            registry.trust.add(certificate, Role.PUBLISHER, now=NOW)
    raw = saved(home)
    with Registry(home) as registry:
        registry.trust.remove(removed.fingerprint)
        registry.trust.revoke(revoked.fingerprint)
        registry.trust.add(later, Role.CLIENT, now=NOW)
        registry.trust.revoke(later.fingerprint)
        before = registry.trust.list(revoked=True)
    done = brought_back(home, raw, force=True)
    assert set(done.revoked) == {revoked.fingerprint, later.fingerprint}
    assert done.trusted_again == (removed.fingerprint,)
    with Registry(home) as registry:
        trusted = {entry.fingerprint for entry in registry.trust.list()}
        assert trusted == {kept.fingerprint, removed.fingerprint}
        after = registry.trust.list(revoked=True)
        assert {e.fingerprint: e.revoked for e in after} == {
            e.fingerprint: e.revoked for e in before
        }
        with pytest.raises(Conflict, match="was revoked on"):
            registry.trust.add(later, Role.CLIENT, now=NOW)
        actions = [(r.record.action, r.record.subject) for r in registry.audit.read()]
        assert ("trust-revoked", str(revoked.fingerprint)) in actions
        assert actions[-1][0] == "registry-restored"
        assert [r.seq for r in registry.audit.read()] == list(range(1, len(actions) + 1))


def test_what_a_key_once_meant_outlives_an_older_backup(home: Path):
    raw = saved(home)
    with Registry(home) as registry:
        push(registry, Key("later", 0, "amd64"), {"app.apk": b"one"})
        registry.applications.remove("candy", 0, actor=None)
    brought_back(home, raw, force=True)
    assert keys_of(home) == ["candy 0-amd64", "candy 1-amd64", "candy 2-amd64"]
    with Registry(home) as registry:
        with pytest.raises(Immutable, match="and was removed since"):
            push(registry, Key("later", 0, "amd64"), {"app.apk": b"two"})
        push(registry, Key("later", 0, "amd64"), {"app.apk": b"one"})
    assert "later 0-amd64" in keys_of(home)


def test_the_quarantine_outlives_an_older_backup(home: Path):
    bad = actor()
    with Registry(home) as registry:
        push(registry, Key("bad", 0, "amd64"), {"app.apk": b"bad"}, by=bad)
    raw = saved(home)
    with Registry(home) as registry:
        registry.applications.quarantine(str(bad.fingerprint))
    done = brought_back(home, raw, force=True)
    assert done.remarks == (
        "1 versions of the backup stay withdrawn, since they are in quarantine",
    )
    assert "bad 0-amd64" not in keys_of(home)
    with Registry(home) as registry, pytest.raises(Denied, match="quarantine"):
        push(registry, Key("bad", 0, "amd64"), {"app.apk": b"bad"}, by=bad)


def test_a_list_of_revocations_that_was_kept_elsewhere(tmp_path: Path):
    operator = Operator(tmp_path)
    revoked, other = operator.added("one"), operator.added("two")
    operator.ok("backup", str(tmp_path / "b.tar"))
    operator.ok("trust", "revoke", "-y", str(revoked.fingerprint))
    listed = tmp_path / "revoked.json"
    listed.write_text(operator.ok("trust", "list", "--revoked", "--format", "json"))
    elsewhere = Operator(tmp_path / "elsewhere")
    said = elsewhere.ok("restore", str(tmp_path / "b.tar"), "--revocations", str(listed))
    assert f"still revoked: {revoked.fingerprint}\n" in said
    assert [row["Fingerprint"] for row in elsewhere.trusted()] == [str(other.fingerprint)]
    assert "was revoked on" in elsewhere.fails("trust", "add", stdin=revoked.pem)


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '[{"Fingerprint": "0"}]', '[{"Certificate": "x"}]']
)
def test_a_list_that_is_none(content: str):
    with pytest.raises(Invalid, match=r"list\.json"):
        restore.read_revocations(BytesIO(content.encode()), "list.json")


# -- refused, with nothing changed --------------------------------------------------------------


def test_a_state_that_holds_something_is_replaced_by_force_only(home: Path, tmp_path: Path):
    raw = saved(home)
    before = facts(home)
    with pytest.raises(Conflict, match=r"holds 3 versions, .* give --force"):
        brought_back(home, raw)
    assert facts(home) == before
    with Registry(tmp_path / "fresh"):
        pass
    brought_back(tmp_path / "fresh", raw)


def test_a_state_that_is_in_use_is_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch):
    raw = saved(home)
    monkeypatch.setattr(restore, "PATIENCE", 0.1)
    with Registry(home), pytest.raises(Conflict, match="is in use: stop the service"):
        brought_back(home, raw, force=True)
    brought_back(home, raw, force=True)


def test_nobody_opens_a_state_that_is_being_restored(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("aar.registry.PATIENCE", 0.1)
    raw = saved(home)
    tried = []

    class Slow(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if not tried:
                with pytest.raises(ServiceError, match="being restored"):
                    Registry(home)
                tried.append(True)
            return super().read(size)

    restore.restore(lambda _: state_of(home), home, Slow(raw), Wish(force=True))
    assert tried


def test_a_backup_of_another_service(home: Path, tmp_path: Path):
    raw = saved(home)
    other = archive.parse_header(next(archive.members(BytesIO(raw))).content(10_000)).to_dict()
    out = BytesIO()
    writer = archive.Writer(out)
    writer.document("backup.json", {**other, "service": "ams"})
    for member in list(archive.members(BytesIO(raw)))[1:]:
        writer.content(member.name, b"")
    writer.close()
    with pytest.raises(Invalid):
        brought_back(tmp_path / "other", out.getvalue())


def flip(raw: bytes, position: int) -> bytes:
    return raw[:position] + bytes([raw[position] ^ 0x55]) + raw[position + 1 :]


def test_a_backup_with_any_byte_changed_changes_nothing(home: Path):
    """Bytes that matter: contents, names, sizes, sums. Others are padding of the archive."""
    raw = saved(home)
    with Registry(home) as registry:
        registry.applications.remove("candy", actor=None)
        registry.janitor.run(datetime.now(timezone.utc) + timedelta(days=2))
    before = facts(home)
    dice = random.Random(6)
    positions = set()
    with tarfile.open(fileobj=BytesIO(raw)) as tar:
        for member in tar:
            if member.size and member.name not in ("backup.json", "complete.json"):
                positions.add(member.offset_data + dice.randrange(member.size))
                positions.add(member.offset + dice.randrange(20))  # in its name
                positions.add(member.offset + 124 + dice.randrange(11))  # in its size
    refused = 0
    for position in sorted(positions):
        with pytest.raises(ServiceError):
            brought_back(home, flip(raw, position), force=True)
        assert facts(home) == before, position
        refused += 1
    print(f"{refused} changed backups refused")
    assert refused >= 15
    brought_back(home, raw, force=True)
    assert len(keys_of(home)) == 3


def test_a_backup_that_was_cut_changes_nothing(home: Path):
    raw = saved(home)
    with Registry(home) as registry:
        registry.applications.remove("candy", 0, actor=None)
    before = facts(home)
    end = len(raw.rstrip(b"\0"))
    for size in [*range(0, end, max(end // 20, 1)), end - 1]:
        with pytest.raises(ServiceError):
            brought_back(home, raw[:size], force=True)
        assert facts(home) == before, size


def test_a_full_disk_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch):
    raw = saved(home)
    with Registry(home) as registry:
        registry.applications.remove("candy", 0, actor=None)
        registry.janitor.run(datetime.now(timezone.utc) + timedelta(days=2))
    before = facts(home)
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if "restore-" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NoSpace):
        brought_back(home, raw, force=True)
    monkeypatch.undo()
    assert facts(home) == before
    assert list((home / "data" / "uploads").iterdir()) == []


def test_a_present_database_that_is_broken(home: Path):
    raw = saved(home)
    database = home / "data" / "aar.db"
    for path in database.parent.glob("aar.db-*"):
        path.unlink()
    database.write_bytes(b"not a database" * 1000)
    with pytest.raises(Conflict, match="--accept-lost-revocations"):
        brought_back(home, raw, force=True)
    brought_back(home, raw, accept_lost_revocations=True)
    assert len(keys_of(home)) == 3


# -- damage -------------------------------------------------------------------------------------


def test_damage_is_told_and_the_rest_is_saved_and_restored(home: Path, tmp_path: Path):
    digest = Digest.of(b"apk 1")
    path = home / "data" / "blobs" / "sha256" / digest.hex[:2] / digest.hex
    path.write_bytes(b"APK 1")
    operator = Operator(tmp_path)
    target = tmp_path / "b.tar"
    done = operator.aar("backup", str(target))
    assert done.returncode == 3
    assert f"damaged here, so not saved: {digest}\n" in done.stderr
    other = tmp_path / "other"
    result = brought_back(other, target.read_bytes())
    assert result.lost == (digest,)
    with Registry(other) as registry:
        report = scrub(registry.blobs, RegistryBooks(registry.database))
        assert [damage.digest for damage in report.left] == [digest]
        push(registry, Key("candy", 1, "amd64"), {"app.apk": b"apk 1"})
        assert scrub(registry.blobs, RegistryBooks(registry.database)).sound


# -- beside a running registry ------------------------------------------------------------------


def test_beside_publishers_and_the_janitor(tmp_path: Path):
    """What was acknowledged before a backup began is in it, whole; the service never stops."""
    operator = Operator(tmp_path)
    acknowledged: list[int] = []
    over = threading.Event()
    with running(operator.home, workers=2) as server:
        pin = server.certificate.fingerprint

        def publish() -> None:
            session = server.new_session(server.publisher.identity)
            while not over.is_set():
                number = len(acknowledged)
                content = {"app.apk": os.urandom(50_000) + b"%d" % number}
                push_application(session, "busy", number, files=content)
                acknowledged.append(number)
                if number % 3 == 2:
                    session.delete(f"/1.0/applications/busy/{number - 1}")

        def clean() -> None:
            while not over.is_set():
                with Registry(operator.home) as registry:
                    registry.janitor.run(
                        datetime.now(timezone.utc), older_than=timedelta(minutes=1)
                    )

        threads = [threading.Thread(target=work) for work in (publish, clean)]
        for thread in threads:
            thread.start()
        made = []
        try:
            for number in range(3):
                server.until(lambda number=number: len(acknowledged) > number * 3)
                before = len(acknowledged)
                target = tmp_path / f"{number}.tar"
                operator.ok("backup", str(target))
                assert target.stat().st_mode & 0o777 == 0o600
                made.append((target, before))
        finally:
            over.set()
            for thread in threads:
                thread.join(30)
        assert server.client.get("/v2/").status_code == 200
    other, before = operator, 0
    for target, before in made:
        other = Operator(tmp_path / target.stem)
        said = other.ok("restore", str(target))
        assert "Start the registry now" in said
        assert json.loads(other.ok("verify", "--format", "json"))["damaged"] == []
        with Registry(other.home) as registry:
            known = {change.key.number for change in registry.feed.read().changes}
        assert known >= set(range(before))
    with running(other.home) as again:
        assert again.certificate.fingerprint == pin
        number = before - 1 if before % 3 != 2 else before - 2
        found = again.client.get(f"/v2/busy/manifests/{number}-amd64")
        assert found.status_code in (200, 404)
        assert again.client.get("/1.0/applications").status_code == 200


def test_a_running_registry_is_not_replaced(tmp_path: Path):
    operator = Operator(tmp_path)
    with running(operator.home) as server:
        push_application(server.publisher, "candy")
        operator.ok("backup", str(tmp_path / "b.tar"))
        said = operator.fails("restore", "--force", str(tmp_path / "b.tar"))
        assert "is in use: stop the service" in said
        assert server.client.get("/1.0/applications/candy").status_code == 200
        server.stop()
        operator.ok("restore", "--force", str(tmp_path / "b.tar"))
        server.restart()
        assert server.client.get("/1.0/applications/candy").status_code == 200


def test_files_pipes_and_what_is_in_the_way(home: Path, tmp_path: Path):
    operator = Operator(tmp_path)
    target = tmp_path / "b.tar"
    operator.ok("backup", str(target))
    assert "exists: give another name, or --force" in operator.fails("backup", str(target))
    operator.ok("backup", "--force", "--without-keys", str(target))
    assert not any(name.startswith("certs") for name in names(target.read_bytes()))
    assert "No such file" in operator.fails("backup", str(tmp_path / "no" / "b.tar"))
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    with (tmp_path / "piped.tar").open("wb") as out:
        process = operator.start(["backup", "-"], stdout=out, stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=60)
    assert said.startswith("Saved ")
    other = Operator(tmp_path / "other")
    with (tmp_path / "piped.tar").open("rb") as source:
        process = other.start(["restore", "-"], stdin=source, stdout=subprocess.PIPE)
        assert process.communicate(timeout=60)[0].startswith("Restored the backup of ")
        assert process.returncode == 0
    assert len(keys_of(other.home)) == 3


# -- kill -9 ------------------------------------------------------------------------------------

# Ends itself at the n-th call that changes a file system: nothing is flushed, nothing cleaned up.
KILLED = """
import os, signal, sys
from pathlib import Path
home, source, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
from aar import backup as ours
from aar.settings import Settings
from regkit.upkeep import restore
def counted(call):
    def wrapped(*args, **more):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*args, **more)
    return wrapped
for name in ("rename", "unlink", "fsync", "mkdir", "open"):
    setattr(os, name, counted(getattr(os, name)))
with open(source, "rb") as file:
    restore.restore(
        lambda _: ours.state(home, Settings()), home, file, restore.Wish(force=True)
    )
print("done", flush=True)
"""


def killed_at(home: Path, source: Path, step: int) -> bool:
    """Restore, killed at a step; return whether it ended before that."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(home), str(source), str(step)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done
    return done.returncode == 0


def test_kill_9_leaves_the_old_or_the_new_state(tmp_path: Path):
    operator = Operator(tmp_path)
    home = operator.home
    with Registry(home) as registry:
        push(registry, KEY, {"app.apk": b"old"})
        identity.ensure(
            home / "certs/server.crt", home / "certs/server.key", "aar", (), usage="server"
        )
    source = tmp_path / "b.tar"
    source.write_bytes(saved(home))
    new_key = (home / "certs/server.key").read_bytes()
    with Registry(home) as registry:
        push(registry, Key("candy", 1, "amd64"), {"app.apk": b"later"})
        certificate = certify()
        registry.trust.add(certificate, Role.CLIENT, now=NOW)
        registry.trust.revoke(certificate.fingerprint)
    for name in ("crt", "key"):
        (home / f"certs/server.{name}").unlink()
    identity.ensure(home / "certs/server.crt", home / "certs/server.key", "b", (), usage="server")
    present = tmp_path / "present.tar"
    present.write_bytes(saved(home))
    old, old_key = keys_of(home), (home / "certs/server.key").read_bytes()
    assert old_key != new_key

    outcomes = {"old": 0, "new": 0}
    step, ended = 0, False
    while not ended:
        ended = killed_at(home, source, step)
        # Whoever comes next finishes what was begun, or finds that nothing was.
        swap.complete(home)
        with Registry(home) as registry:
            assert registry.trust.list(revoked=True)[0].fingerprint == certificate.fingerprint
        found, key = keys_of(home), (home / "certs/server.key").read_bytes()
        if (found, key) == (old, old_key):
            outcomes["old"] += 1
        else:
            assert (found, key) == (["candy 0-amd64"], new_key), step
            parsed = Certificate.parse((home / "certs/server.crt").read_bytes())
            assert parsed.common_name == "aar"
            outcomes["new"] += 1
            brought_back(home, present.read_bytes(), force=True)
            assert keys_of(home) == old
        step += 1 + step // 12  # every one of the first, then fewer: they are alike
    print(f"killed at {step} steps: {outcomes}")
    assert outcomes["old"] > 10
    assert outcomes["new"] >= 2


def test_a_command_finishes_what_was_committed(tmp_path: Path):
    operator = Operator(tmp_path)
    with Registry(operator.home) as registry:
        push(registry, KEY)
    source = tmp_path / "b.tar"
    operator.ok("backup", str(source))
    with Registry(operator.home) as registry:
        registry.applications.remove("candy", actor=None)
    marker = operator.home / swap.MARKER
    done = Committed()
    with pytest.raises(Committed):
        brought_back_until_marked(operator.home, source.read_bytes(), done)
    assert marker.exists()
    assert "candy" in operator.ok("application", "list")
    assert not marker.exists()


class Committed(Exception):  # noqa: N818 - where the power was cut
    pass


def brought_back_until_marked(home: Path, raw: bytes, end: Exception) -> None:
    """Restore up to the commit, as a power cut right after it would have it."""
    finish: Callable[[Path], None] = swap._finish

    def cut(_: Path) -> None:
        raise end

    swap._finish = cut
    try:
        brought_back(home, raw, force=True)
    finally:
        swap._finish = finish


def test_leftovers_of_a_killed_backup_go(home: Path):
    old = home / "data" / ".backup-999999999.db"
    old.write_bytes(b"left")
    saved(home)
    assert not old.exists()
    assert list((home / "data").glob(".backup-*")) == []


def test_blobs_stay_while_they_are_saved(home: Path):
    with Registry(home) as registry:
        registry.applications.remove("candy", actor=None)
        late = datetime.now(timezone.utc) + timedelta(days=2)
        with backup.opened(state_of(home)) as snapshot:
            assert not registry.janitor.run(late).ran
            assert len(snapshot.wanted) == 6
        counts = registry.janitor.run(late)
        assert (counts.ran, counts.blobs) == (True, 6)


def test_the_digest_of_everything_is_in_the_header(home: Path):
    raw = saved(home)
    members = {member.name: b"".join(member.chunks()) for member in archive.members(BytesIO(raw))}
    header = archive.parse_header(members["backup.json"])
    for name, found in header.sums.items():
        assert f"sha256:{found}" == digest_of(members[name])
    assert header.blobs == sum(name.startswith("blobs") for name in members)

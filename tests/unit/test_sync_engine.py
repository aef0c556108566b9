"""The engine against a registry in memory: what arrives, what leaves, when it tries again."""

from __future__ import annotations

import threading

import pytest

from ams.sync.door import Silent
from ams.sync.feed import FeedRefused
from ams.sync.transfer import ATTEMPTS, SILENT_ATTEMPTS, stage_name
from regkit.blobs import DigestMismatch
from regkit.errors import Conflict, Forbidden, Invalid, NoSpace, NotFound, Unavailable
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from support.feeds import RegistrySimulator
from support.site import URL, Site

BIG = bytes(range(256)) * 2000


@pytest.fixture
def registry():
    registry = RegistrySimulator(url=URL)
    yield registry
    assert registry.opened == 0, "a door was left open"


@pytest.fixture
def site(tmp_path, registry, databases):
    site = Site(tmp_path, registry.connect, databases=databases)
    yield site
    site.close()


@pytest.fixture
def publisher(tmp_path, registry, databases):
    site = Site(tmp_path, registry.connect, mode="push", databases=databases)
    yield site
    site.close()


# Pull


def test_a_cold_sync_brings_everything_and_the_next_one_nothing(site, registry):
    registry.publish("candy", files={"app.apk": BIG, "extra-data/x": b"x"}, tags=["sweet"])
    registry.publish("candy", 7)
    registry.publish("other", 0, "arm64")
    report = site.engine.sync_now()
    assert set(report.done) == {"import candy 0-amd64", "import candy 7-amd64"}
    assert site.versions() == {"candy 0-amd64", "candy 7-amd64"}
    assert report.moved.received == len(BIG) + 1 + len(b"apk of candy 7-amd64")
    application = site.catalogue.get("candy")
    assert application.immutable
    assert application.published
    assert b"".join(site.blobs.read(Digest.of(BIG))) == BIG
    assert site.blobs.staged() == []
    again = site.engine.sync_now()
    assert (again.planned, again.done, again.bytes) == ((), (), 0)


def test_only_the_files_that_changed_are_fetched(site, registry):
    registry.publish("candy", 0, files={"big": BIG, "app.apk": b"one"})
    site.engine.sync_now()
    registry.publish("candy", 1, files={"big": BIG, "app.apk": b"three"})
    report = site.engine.sync_now()
    assert report.done == ("import candy 1-amd64",)
    assert report.bytes == len(b"three")


def test_a_file_of_several_versions_is_fetched_once(site, registry):
    for number in range(6):
        registry.publish("candy", number, files={"big": BIG, "n": str(number).encode()})
    report = site.engine.sync_now()
    assert len(report.done) == 6
    assert report.bytes == len(BIG) + 6
    assert registry.count("blob", str(Digest.of(BIG))) == 1


def test_what_the_registry_removes_is_removed(site, registry):
    first, second = registry.publish("candy"), registry.publish("candy", 1)
    site.engine.sync_now()
    registry.remove(first)
    assert site.engine.sync_now().done == ("remove candy 0-amd64",)
    registry.remove(second)
    site.engine.sync_now()
    assert site.catalogue.list() == []


def test_a_dry_run_changes_nothing(site, registry):
    registry.publish("candy")
    report = site.engine.sync_now(dry_run=True)
    assert report.planned == ("import candy 0-amd64",)
    assert report.done == ()
    assert site.versions() == set()
    assert registry.count("blob") == 0


def test_a_new_filter_or_mode_removes_nothing(site, registry):
    registry.publish("candy", tags=["sweet"])
    site.engine.sync_now()
    site.set("registry.filter", "salty")
    registry.publish("chips", tags=["salty"])
    assert site.engine.sync_now().done == ("import chips 0-amd64",)
    for mode in ("push", "manual"):
        site.set("registry.mode", mode)
        assert site.engine.sync_now().planned == ()
    assert site.versions() == {"candy 0-amd64", "chips 0-amd64"}


def test_a_reinstalled_registry_removes_nothing_until_allowed(site, registry):
    registry.publish("candy")
    site.engine.sync_now()
    registry.reset()
    registry.publish("new")
    report = site.engine.sync_now()
    assert report.done == ("import new 0-amd64",)
    assert "removing candy 0-amd64" in report.held[0]
    assert site.engine.status()["held"] == list(report.held)
    assert site.engine.sync_now(allow_deletions=True).done == ("remove candy 0-amd64",)
    assert site.versions() == {"new 0-amd64"}


def test_an_old_backup_is_refused_until_accepted(site, registry):
    registry.publish("candy")
    registry.publish("newer")
    site.engine.sync_now()
    registry.restore(1)
    with pytest.raises(FeedRefused, match="went back in time"):
        site.engine.sync_now()
    assert "went back in time" in site.engine.status()["last_error"]
    with pytest.raises(FeedRefused):
        site.engine.sync_now(allow_deletions=True, dry_run=True)
    assert len(site.versions()) == 2
    assert site.engine.sync_now(allow_deletions=True).done == ("remove newer 0-amd64",)
    assert site.engine.status()["last_error"] == ""


def test_a_mass_removal_is_held_until_allowed(site, registry):
    keys = [registry.publish(f"app{number}") for number in range(12)]
    site.engine.sync_now()
    registry.remove(*keys)
    report = site.engine.sync_now()
    assert report.done == ()
    assert "12 of 12" in report.held[0]
    assert len(site.versions()) == 12
    assert len(site.engine.sync_now(allow_deletions=True).done) == 12


def test_a_cut_download_goes_on_where_it_was(site, registry):
    registry.publish("candy", files={"big": BIG})
    registry.cut_after = [100_000, 50_000]
    report = site.engine.sync_now()
    assert report.done == ("import candy 0-amd64",)
    assert report.bytes == len(BIG)
    starts = [int(asked[2]) for asked in registry.asked if asked[0] == "blob"]
    assert starts == [0, 100_000, 150_000]


def test_a_download_goes_on_after_the_service_was_killed(site, registry):
    registry.publish("candy", files={"big": BIG})
    with site.blobs.stage(stage_name(Digest.of(BIG))) as staged:
        staged.write(BIG[:200_000])
        staged.sync()
    report = site.engine.sync_now()
    assert report.bytes == len(BIG) - 200_000


def test_a_damaged_remainder_is_fetched_again(site, registry):
    registry.publish("candy", files={"big": BIG})
    with site.blobs.stage(stage_name(Digest.of(BIG))) as staged:
        staged.write(b"\0" * 200_000)
    assert site.engine.sync_now().done == ("import candy 0-amd64",)
    assert b"".join(site.blobs.read(Digest.of(BIG))) == BIG


@pytest.mark.parametrize("damaged", [b"?" + BIG[1:], BIG[:-1], BIG + b"?"])
def test_a_damaged_blob_that_no_version_uses_is_fetched_again(site, registry, damaged):
    """What a removed version has left lies there until it is collected, and nobody verifies it."""
    key = registry.publish("candy", files={"app.apk": BIG})
    registry.publish("other")
    site.engine.sync_now()
    registry.remove(key)
    site.engine.sync_now()
    assert site.versions() == {"other 0-amd64"}
    digest = Digest.of(BIG)
    assert site.blobs.size(digest) == len(BIG)
    path = site.root / "data/blobs/sha256" / digest.hex[:2] / digest.hex
    path.write_bytes(damaged)
    registry.publish("candy", 2, files={"app.apk": BIG, "more": b"more"})
    registry.publish("candy", 3, files={"app.apk": BIG})
    report = site.engine.sync_now()
    assert (report.failed, report.bytes) == ((), len(BIG) + len(b"more"))
    assert b"".join(site.blobs.read(digest)) == BIG
    assert [path.read_bytes() for path in (site.root / "data/damaged").iterdir()] == [damaged]


def test_a_sound_blob_that_no_version_uses_is_not_fetched_again(site, registry):
    key = registry.publish("candy", files={"app.apk": BIG})
    registry.publish("other")
    site.engine.sync_now()
    registry.remove(key)
    site.engine.sync_now()
    registry.publish("candy", 1, files={"app.apk": BIG})
    assert site.engine.sync_now().bytes == 0
    assert "candy 1-amd64" in site.versions()


def test_a_bad_item_is_set_aside_and_the_rest_arrives(site, registry):
    bad = registry.publish("bad", files={"app.apk": b"good content"})
    registry.publish("fine")
    registry.blobs["bad"][Digest.of(b"good content")] = b"evil content"
    report = site.engine.sync_now()
    assert report.done == ("import fine 0-amd64",)
    assert len(report.failed) == 1
    assert report.failed[0].startswith("import bad 0-amd64: ")
    entry = site.engine.status()["quarantined"][0]
    assert (entry["version"], entry["attempts"]) == ("bad 0-amd64", 1)
    assert entry["retry_at"] == "2026-01-01T00:01:00Z"
    # In the background it waits for its time; the pauses double.
    asked = registry.count("manifest", str(bad))
    assert site.engine.round() == pytest.approx(60)
    assert registry.count("manifest", str(bad)) == asked
    site.clock.tick(seconds=60)
    assert site.engine.round() == pytest.approx(120)
    assert registry.count("manifest", str(bad)) == asked + 1
    # Mended, an operator's sync doesn't wait.
    registry.blobs["bad"][Digest.of(b"good content")] = b"good content"
    assert site.engine.sync_now().done == ("import bad 0-amd64",)
    assert site.engine.status()["quarantined"] == []


def test_what_is_set_aside_is_forgotten_when_it_is_gone(site, registry):
    bad = registry.publish("bad")
    registry.faults[Digest.of(registry.versions[bad])] = lambda: DigestMismatch("damaged")
    site.engine.sync_now()
    assert len(site.engine.status()["quarantined"]) == 1
    registry.remove(bad)
    site.engine.sync_now()
    assert site.engine.status()["quarantined"] == []


def test_a_manifest_of_another_version_is_set_aside(site, registry):
    candy = registry.publish("candy")
    other = registry.publish("other", tags=["x"])
    registry.remove(other)
    evil = Key("evil", 0, "amd64")
    registry.blobs["evil"] = registry.blobs["candy"]
    registry._publish(evil, registry.versions[candy])
    report = site.engine.sync_now()
    assert report.done == ("import candy 0-amd64",)
    assert "the registry's content is that of candy 0-amd64" in report.failed[0]


def test_a_registry_that_fails_for_one_item_sets_that_one_aside(site, registry):
    bad = registry.publish("bad", files={"a": b"a"})
    registry.publish("fine")
    registry.faults[Digest.of(b"a")] = lambda: Unavailable("the registry answers 500")
    report = site.engine.sync_now()
    assert report.done == ("import fine 0-amd64",)
    assert site.engine.status()["quarantined"][0]["version"] == str(bad)
    assert len(site.pauses) == ATTEMPTS - 1


def test_one_item_that_only_stalls_is_set_aside_sooner(site, registry):
    """Each try takes a minute: the end of the sync, and what is published then, waits for it."""
    bad = registry.publish("bad", files={"a": b"a"})
    registry.publish("fine")
    registry.faults[Digest.of(b"a")] = lambda: Silent("the registry doesn't answer in time")
    report = site.engine.sync_now()
    assert report.done == ("import fine 0-amd64",)
    assert site.engine.status()["quarantined"][0]["version"] == str(bad)
    assert len(site.pauses) == SILENT_ATTEMPTS - 1


def test_a_registry_that_goes_away_is_no_items_fault(site, registry):
    registry.publish("candy", files={"big": BIG})

    def gone():
        registry.down = Unavailable("can't be reached")
        return Unavailable("can't be reached")

    registry.faults[Digest.of(BIG)] = gone
    with pytest.raises(Unavailable):
        site.engine.sync_now()
    status = site.engine.status()
    assert status["quarantined"] == []
    assert status["last_error"] == "can't be reached"


def test_a_full_disk_is_told_before_anything_is_fetched(site, registry, monkeypatch):
    registry.publish("candy", files={"big": BIG})
    registry.publish("small", files={"s": b"s"})
    monkeypatch.setattr(site.blobs, "free", lambda: 1000)
    with pytest.raises(NoSpace, match="2 versions need 512001 bytes"):
        site.engine.sync_now()
    assert registry.count("blob") == 0
    assert site.versions() == set()
    assert site.engine.status()["quarantined"] == []


def test_cancelling_keeps_what_arrived(site, registry):
    registry.publish("candy", files={"big": BIG})

    class EnoughError(Exception):
        pass

    def progress(what, done, total):
        assert what == "import candy 0-amd64"
        assert 0 < done <= total == len(BIG)
        raise EnoughError

    with pytest.raises(EnoughError):
        site.engine.sync_now(progress=progress)
    assert site.engine.status()["quarantined"] == []
    assert [info.name for info in site.blobs.staged()] == [stage_name(Digest.of(BIG))]
    assert site.engine.sync_now().bytes < len(BIG)


def test_an_untrusting_registry_is_told_with_what_to_do(site, registry):
    registry.trusted = False
    with pytest.raises(Forbidden, match=r"cdcdcdcdcdcd.*aar trust add client\.crt"):
        site.engine.sync_now()
    assert not site.engine.status()["connected"]


# Push


def test_published_versions_are_pushed_and_only_the_files_that_changed(publisher, registry):
    publisher.create("candy", {"app.apk": BIG, "extra-data/x": b"x"})
    first = publisher.engine.sync_now()
    assert first.done == ("push candy 0-amd64",)
    assert Key("candy", 0, "amd64") in registry.versions
    publisher.update("candy", {"app.apk": BIG, "extra-data/x": b"y"})
    puts = registry.count("put_blob")
    second = publisher.engine.sync_now()
    assert second.done == ("push candy 1-amd64",)
    assert registry.count("put_blob") == puts + 2, "the changed file and the config"
    assert second.moved.sent < 1000 < first.moved.sent
    assert publisher.engine.sync_now().planned == ()
    assert publisher.engine.status()["seq"] == 2, "own pushes were read back"


def test_unpublished_versions_stay(publisher, registry):
    publisher.set("application.auto_publish", "false")
    application = publisher.create("candy", {"app.apk": b"a"})
    assert publisher.engine.sync_now().planned == ()
    publisher.catalogue.publish(application.id, 0)
    assert publisher.engine.sync_now().done == ("push candy 0-amd64",)


def test_revoking_and_deleting_withdraws(publisher, registry):
    publisher.create("candy", {"app.apk": b"a"})
    publisher.create("sweet", {"app.apk": b"a"})
    publisher.engine.sync_now()
    publisher.catalogue.revoke("candy", 0)
    publisher.catalogue.delete("sweet")
    report = publisher.engine.sync_now()
    assert set(report.done) == {"withdraw candy 0-amd64", "withdraw sweet 0-amd64"}
    assert registry.versions == {}
    assert publisher.engine.sync_now().planned == ()
    publisher.catalogue.publish("candy", 0)
    assert publisher.engine.sync_now().done == ("push candy 0-amd64",)


def test_what_was_removed_there_comes_back_only_when_asked(publisher, registry):
    publisher.create("candy", {"app.apk": b"a"})
    publisher.engine.sync_now()
    registry.remove(Key("candy", 0, "amd64"))
    report = publisher.engine.sync_now()
    assert report.planned == ()
    assert "amc registry push candy" in report.notes[0]
    assert publisher.engine.push("candy").done == ("push candy 0-amd64",)
    assert len(registry.versions) == 1


def test_a_reinstalled_registry_gets_everything_again(publisher, registry):
    publisher.create("candy", {"app.apk": b"a"})
    publisher.engine.sync_now()
    registry.reset()
    assert publisher.engine.sync_now().done == ("push candy 0-amd64",)


def test_a_cut_upload_goes_on_where_it_was(publisher, registry):
    publisher.create("candy", {"app.apk": BIG})
    registry.cut_after = [100_000]
    assert publisher.engine.sync_now().done == ("push candy 0-amd64",)
    sends = [asked[1:] for asked in registry.asked if asked[0] == "send"]
    assert sends == [("0", str(len(BIG))), ("100000", str(len(BIG)))]


def test_a_version_revoked_while_it_is_uploaded_is_not_published(publisher, registry):
    publisher.create("candy", {"app.apk": b"a"})
    original = registry.has_blob

    def revoke_first(key, digest):
        publisher.catalogue.revoke("candy", 0)
        return original(key, digest)

    registry.has_blob = revoke_first
    report = publisher.engine.sync_now()
    assert "revoked or deleted meanwhile" in report.failed[0]
    assert registry.versions == {}


def test_a_crash_after_the_push_is_made_good(publisher, registry):
    publisher.create("candy", {"app.apk": b"a"})

    class CrashError(BaseException):
        pass

    def crash():
        registry.before_put = None
        key = Key("candy", 0, "amd64")
        registry.put_manifest(key, publisher.catalogue.image(key)[0])
        raise CrashError

    registry.before_put = crash
    with pytest.raises(CrashError):
        publisher.engine.sync_now()
    assert len(registry.versions) == 1
    # Deleted before the next sync, it is withdrawn although no push was recorded as complete.
    publisher.catalogue.delete("candy")
    assert publisher.engine.sync_now().done == ("withdraw candy 0-amd64",)


def test_a_client_may_not_push(publisher, registry):
    registry.role = "client"
    with pytest.raises(Forbidden, match="aar trust add --publisher"):
        publisher.engine.sync_now()


# By hand


def test_manual_mode_acts_only_when_asked(site, registry):
    site.set("registry.mode", "manual")
    registry.publish("candy")
    registry.publish("other")
    assert site.engine.round() == pytest.approx(3600)
    assert registry.asked == []
    assert site.engine.pull("candy").done == ("import candy 0-amd64",)
    site.create("mine", {"app.apk": b"a"})
    assert site.engine.push("mine").done == ("push mine 0-amd64",)
    assert site.engine.sync_now().planned == ()
    assert site.versions() == {"candy 0-amd64", "mine 0-amd64"}


def test_what_cannot_be_pushed_or_pulled_is_told(site, registry):
    registry.publish("candy")
    registry.publish("arm", 0, "arm64")
    site.engine.sync_now()
    with pytest.raises(Forbidden, match="imported"):
        site.engine.push("candy")
    with pytest.raises(NotFound):
        site.engine.push("nothing")
    for name in ("nothing", "arm"):
        with pytest.raises(NotFound, match="amc registry list"):
            site.engine.pull(name)
    site.create("mine", {"app.apk": b"a"})
    registry.publish("mine")
    with pytest.raises(Conflict, match="local application"):
        site.engine.pull("mine")
    with pytest.raises(Conflict, match="other content"):
        site.engine.push("mine")
    site.catalogue.revoke("mine", 0)
    with pytest.raises(Conflict, match="no published version"):
        site.create("unpublished", {"a": b"a"})
        site.catalogue.revoke("unpublished", 0)
        site.engine._ledger.settle(list(site.engine._ledger.withdrawals().items()), ())
        site.engine.push("unpublished")


def test_deleting_in_the_registry(publisher, registry):
    registry.publish("candy")
    registry.publish("candy", 1)
    publisher.engine.delete("candy", 0)
    assert list(registry.versions) == [Key("candy", 1, "amd64")]
    publisher.engine.delete("candy")
    with pytest.raises(NotFound):
        publisher.engine.delete("candy")
    registry.role = "client"
    with pytest.raises(Forbidden, match="--publisher"):
        publisher.engine.delete("candy")


def test_the_list_shows_what_the_registry_holds(site, registry):
    registry.publish("candy", 0, files={"a": b"aa"})
    registry.publish("candy", 1, files={"a": b"b"}, tags=["x"])
    registry.publish("candy", 1, "arm64", files={"a": b"c"}, tags=["x"])
    assert site.engine.list() == []
    site.engine.sync_now()
    assert site.engine.list() == [
        {
            "name": "candy",
            "versions": [0, 1],
            "architectures": ["amd64", "arm64"],
            "tags": ["x"],
            "size": 4,
        }
    ]


# When


def test_without_a_registry_nothing_happens_and_asking_says_what_to_set(site, registry):
    site.set("registry.fingerprint", "")
    with pytest.raises(Invalid, match=r"registry\.fingerprint is not set"):
        site.engine.sync_now()
    site.set("registry.url", "")
    with pytest.raises(Invalid, match=r"amc config set registry\.url"):
        site.engine.sync_now()
    assert site.engine.round() == pytest.approx(3600)
    assert registry.asked == []
    assert site.engine.status()["next_check"] == ""


def test_failures_back_off_up_to_the_interval_and_success_ends_it(site, registry):
    site.set("registry.update_interval", "20s")
    registry.down = Unavailable("can't be reached")
    delays = [site.engine.round() for _ in range(8)]
    assert delays == [0.5, 1, 2, 4, 8, 10, 10, 10]
    assert site.engine.status()["last_error"] == "can't be reached"
    assert site.engine.status()["next_check"] == "2026-01-01T00:00:10Z"
    registry.down = None
    assert site.engine.round() == pytest.approx(20)
    registry.down = Unavailable("can't be reached")
    assert site.engine.round() == pytest.approx(0.5)


def test_a_refusal_is_looked_at_again_soon(site, registry):
    """Trust may be given at any time, by whoever looks at the registry."""
    registry.down = Forbidden("the registry doesn't trust this service")
    delays = [site.engine.round() for _ in range(8)]
    assert delays == [0.5, 1, 2, 4, 8, 15, 15, 15]


def test_a_fault_of_ours_does_not_end_the_sync(site, registry):
    class BugError(Exception):
        pass

    registry.down = BugError("surprise")  # type: ignore[assignment]
    assert site.engine.round() == pytest.approx(0.5)
    registry.down = None
    assert site.engine.round() == pytest.approx(3600)


def test_waking_syncs_at_once_and_stopping_ends_it(site, registry):
    seen: list[threading.Event] = [threading.Event(), threading.Event()]
    original = registry.changes

    def changes(since, wait=0):
        page = original(since, wait)
        seen[min(registry.count("changes") - 1, 1)].set()
        return page

    registry.changes = changes
    loop = threading.Thread(target=site.engine.run_forever)
    loop.start()
    try:
        assert seen[0].wait(10)
        site.engine.wake("application-created", "id", "name")
        assert seen[1].wait(10), "an hour's interval would not have ended by itself"
    finally:
        site.engine.stop()
        loop.join(10)
    assert not loop.is_alive()


def test_one_sync_at_a_time(site, registry):
    registry.publish("candy", files={"big": BIG})
    inside, go_on = threading.Event(), threading.Event()
    running: list[int] = []

    def progress(what, done, total):
        running.append(registry.opened)
        inside.set()
        assert go_on.wait(10)

    first = threading.Thread(target=site.engine.sync_now, kwargs={"progress": progress})
    second = threading.Thread(target=site.engine.sync_now)
    first.start()
    assert inside.wait(10)
    assert site.engine.status()["syncing"]
    second.start()
    go_on.set()
    first.join(10)
    second.join(10)
    assert not first.is_alive()
    assert not second.is_alive()
    assert set(running) == {1}
    assert registry.count("blob") == 1

"""The mirror of the registry against honest and hostile histories of its feed."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from ams.sync.feed import Change, Cursor, FeedRefused, Page, check, parse_page
from ams.sync.view import View
from regkit.errors import Unavailable
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from support.feeds import RegistrySimulator

PIN = "ab" * 32
A, B = Digest.of(b"a"), Digest.of(b"b")


@pytest.fixture
def view(tmp_path, databases):
    database = databases.open(tmp_path / "ams.db", "ams:migrations")
    yield View(database)
    database.close()


@pytest.fixture
def registry():
    return RegistrySimulator(page_size=3)


def held(view: View) -> set[Key]:
    snapshot = view.snapshot()
    assert snapshot is not None
    return {key for key, version in snapshot.versions.items() if not version.carried}


def carried(view: View) -> set[Key]:
    snapshot = view.snapshot()
    assert snapshot is not None
    return {key for key, version in snapshot.versions.items() if version.carried}


def test_it_follows_the_feed_page_by_page(view, registry):
    assert view.snapshot() is None
    keys = {registry.publish("candy", number) for number in range(8)}
    assert view.update(registry, PIN, dict) == 8
    assert held(view) == keys
    registry.remove(*list(keys)[:4])
    registry.publish("sweet", tags=["x"])
    assert view.update(registry, PIN, dict) == 5
    assert held(view) == set(registry.versions)
    assert view.cursor() == Cursor(registry.epoch, 13)
    before = len(registry.asked)
    assert view.update(registry, PIN, dict) == 0
    assert len(registry.asked) == before + 1, "nothing new is one question"


def test_a_page_that_was_taken_stays_when_the_next_one_fails(view, registry):
    view.update(registry, PIN, dict)
    for number in range(5):
        registry.publish("candy", number)
    pages = iter([registry.changes(view.cursor())])

    class Cut:
        def changes(self, since):
            try:
                return next(pages)
            except StopIteration:
                raise Unavailable("cut") from None

    with pytest.raises(Unavailable):
        view.update(Cut(), PIN, dict)
    assert view.cursor() == Cursor(registry.epoch, 3)
    assert {key.number for key in held(view)} == {0, 1, 2}
    view.update(registry, PIN, dict)
    assert len(held(view)) == 5


def test_a_new_epoch_is_read_anew_and_what_it_lacks_is_carried_over(view, registry):
    kept, lost = registry.publish("kept"), registry.publish("lost")
    view.update(registry, PIN, dict)
    registry.reset()
    registry.publish("kept")
    view.update(registry, PIN, lambda: {kept: A, lost: A})
    assert held(view) == {kept}
    assert carried(view) == {lost}
    assert view.cursor() == Cursor(registry.epoch, 1)
    # Published again, or removed by the new history itself, it is no longer carried over.
    registry.publish("lost")
    view.update(registry, PIN, lambda: {kept: A, lost: A})
    assert carried(view) == set()
    registry.remove(lost)
    view.update(registry, PIN, lambda: {kept: A, lost: A})
    assert lost not in held(view) | carried(view)


def test_another_certificate_means_reading_anew(view, registry):
    key = registry.publish("candy")
    view.update(registry, PIN, dict)
    assert view.update(registry, "cd" * 32, lambda: {key: A}) == 1
    assert held(view) == {key}
    assert carried(view) == set()


def test_a_failed_reading_anew_changes_nothing(view, registry):
    key = registry.publish("candy")
    view.update(registry, PIN, dict)
    before = view.cursor()
    other = RegistrySimulator(page_size=1)
    other.publish("x")
    other.publish("y")
    pages = iter([other.changes(None)])

    class Cut:
        def changes(self, since):
            if since == before:
                raise_epoch = other.changes(since)
                raise AssertionError(raise_epoch)
            try:
                return next(pages)
            except StopIteration:
                raise Unavailable("cut") from None

    with pytest.raises(Unavailable):
        view.update(Cut(), PIN, lambda: {key: A})
    assert view.cursor() == before
    assert held(view) == {key}


def test_an_epoch_that_keeps_changing_is_refused(view, registry):
    registry.publish("x")
    view.update(registry, PIN, dict)

    class Flipping:
        def changes(self, since):
            registry.reset()
            for number in range(4):
                registry.publish("x", number)
            return RegistrySimulator.changes(registry, since)

    before = view.cursor()
    with pytest.raises(FeedRefused, match="keeps changing"):
        view.update(Flipping(), PIN, dict)
    assert view.cursor() == before


def test_a_rollback_is_refused_until_accepted(view, registry):
    first, second = registry.publish("first"), registry.publish("second")
    view.update(registry, PIN, dict)
    registry.restore(1)
    with pytest.raises(FeedRefused, match="went back in time, from change 2 to 1"):
        view.update(registry, PIN, dict)
    assert held(view) == {first, second}
    view.update(registry, PIN, lambda: {first: A, second: A}, accept=True)
    assert held(view) == {first}
    assert carried(view) == {second}


def test_a_fork_that_removes_what_was_never_there_is_refused(view, registry):
    first = registry.publish("first")
    registry.publish("second")
    view.update(registry, PIN, dict)
    fork = RegistrySimulator(epoch=registry.epoch)
    fork.publish("first")
    other = fork.publish("other")
    fork.remove(other)
    with pytest.raises(FeedRefused, match="isn't the one that was read before"):
        view.update(fork, PIN, dict)
    assert first in held(view)
    assert view.cursor() == Cursor(registry.epoch, 2)


def test_a_fork_that_changes_a_version_is_refused(view, registry):
    registry.publish("candy")
    view.update(registry, PIN, dict)
    key = Key("candy", 0, "amd64")
    registry.rows.append(Change(2, "published", key, B, 1, ()))
    with pytest.raises(FeedRefused, match="never changes"):
        view.update(registry, PIN, dict)
    snapshot = view.snapshot()
    assert snapshot is not None
    assert snapshot.versions[key].digest == Digest.of(registry.versions[key])
    assert snapshot.seq == 1


def row(seq: int, **more) -> dict:
    return {
        "seq": seq,
        "kind": "published",
        "name": "candy",
        "number": seq,
        "architecture": "amd64",
        "digest": str(A),
        "size": 1,
        "tags": [],
        "at": "2026-01-01T00:00:00Z",
        "by": "",
        **more,
    }


def page(*rows: dict, head: int | None = None, epoch: str = "e") -> Page:
    last = rows[-1]["seq"] if rows else 5
    return parse_page(
        {
            "epoch": epoch,
            "seq": last if head is None else head,
            "cursor": f"{epoch}:{last}",
            "changes": list(rows),
        }
    )


SINCE = Cursor("e", 5)


def test_a_continuing_page_passes():
    check(page(row(6), row(7)), SINCE)
    check(page(head=5), SINCE)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (lambda: page(row(7)), "change 7 came where 6 is next"),
        (lambda: page(row(6), row(8)), "change 8 came where 7 is next"),
        (lambda: page(row(6), row(6)), "change 6 came where 7 is next"),
        (lambda: page(row(5), row(6)), "change 5 came where 6 is next"),
        (lambda: page(row(6), head=4), "went back in time"),
        (lambda: page(head=4), "went back in time"),
        (lambda: page(row(6), row(7), head=6), "beyond its own head"),
        (lambda: page(head=9), "withholds the changes after 5"),
        (lambda: parse_page(None), "isn't an object"),
        (lambda: parse_page({"epoch": "", "seq": 1}), "names no epoch"),
        (lambda: parse_page({"epoch": "e", "seq": True}), "seq must be a whole number"),
        (lambda: parse_page({"epoch": "e", "seq": -1}), "seq must be a whole number"),
        (lambda: parse_page({"epoch": "e", "seq": 1}), "must hold a list"),
        (lambda: parse_page({"epoch": "e", "seq": 1, "changes": [1]}), "isn't an object"),
        (lambda: page(row(6, kind="moved")), "'moved' is not a kind"),
        (lambda: page(row(6, name="../x")), "not an application name"),
        (lambda: page(row(6, number="6")), "number must be a whole number"),
        (lambda: page(row(6, number=2**40)), "not a version number"),
        (lambda: page(row(6, architecture="AMD 64")), "not an architecture"),
        (lambda: page(row(6, digest="sha256:x")), "not a digest"),
        (lambda: page(row(6, size=1.5)), "size must be a whole number"),
        (lambda: page(row(6, tags="x")), "aren't a list"),
        (lambda: page(row(6, tags=[1])), "aren't a list"),
        (lambda: page(*(row(6) for _ in range(1001))), "at most 1000"),
        (
            lambda: parse_page({"epoch": "e", "seq": 6, "cursor": "e:9", "changes": [row(6)]}),
            "cursor isn't that of its last change",
        ),
    ],
)
def test_a_broken_page_is_refused(given, why):
    with pytest.raises(FeedRefused, match=why):
        check(given(), SINCE)


def test_how_the_last_sync_went_is_kept(view):
    assert view.last() == (None, None, "")
    first = datetime(2026, 1, 1, tzinfo=timezone.utc)
    second = datetime(2026, 1, 2, tzinfo=timezone.utc)
    view.record(first, "", succeeded=True)
    view.record(second, "can't be reached", succeeded=False)
    assert view.last() == (second, first, "can't be reached")
    assert view.snapshot() is None

"""The planner: tables of single rules, and properties over whole histories."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.sync.plan import (
    Import,
    Plan,
    PlanInput,
    Push,
    Pushed,
    Quarantined,
    RemoteVersion,
    RemoveImported,
    SiteVersion,
    Snapshot,
    Withdraw,
    plan,
)
from regkit.oci.application import Key
from regkit.oci.digest import Digest

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
A, B = Digest.of(b"a"), Digest.of(b"b")
CANDY = Key("candy", 0, "amd64")
EMPTY = PlanInput(
    mode="pull",
    architecture="amd64",
    filter=frozenset(),
    remote=Snapshot("e1", 0, {}),
    local=(),
    pushed={},
    withdrawals={},
    quarantine={},
    allow_deletions=False,
    now=NOW,
)


def remote(*versions: RemoteVersion, epoch: str = "e1") -> Snapshot:
    return Snapshot(epoch, len(versions), {version.key: version for version in versions})


def there(key: Key = CANDY, digest: Digest = A, tags=(), carried=False) -> RemoteVersion:
    return RemoteVersion(key, digest, 10, tuple(tags), carried)


def local(key: Key = CANDY, digest: Digest = A, published: bool = True) -> SiteVersion:
    return SiteVersion(key, digest, published, imported=False)


def imported(key: Key = CANDY, digest: Digest = A) -> SiteVersion:
    return SiteVersion(key, digest, published=True, imported=True)


PULL = [
    ("new version", {"remote": remote(there())}, [Import(CANDY, A, 10)]),
    ("already here", {"remote": remote(there()), "local": [imported()]}, []),
    ("other architecture", {"remote": remote(there(Key("candy", 0, "arm64")))}, []),
    ("tag fits", {"remote": remote(there(tags=["x", "y"])), "filter": {"y", "z"}}, ["import"]),
    ("tag doesn't fit", {"remote": remote(there(tags=["x"])), "filter": {"z"}}, []),
    ("no tags but a filter", {"remote": remote(there()), "filter": {"z"}}, []),
    ("removed there", {"local": [imported()]}, [RemoveImported(CANDY, A)]),
    (
        "a new filter removes nothing",
        {"remote": remote(there(tags=["x"])), "local": [imported()], "filter": {"z"}},
        [],
    ),
    ("carried over is not imported", {"remote": remote(there(carried=True))}, []),
    ("local versions are left alone", {"local": [local()]}, []),
    (
        "withdrawals wait for push mode",
        {
            "remote": remote(there()),
            "withdrawals": {CANDY: A},
            "pushed": {CANDY: Pushed(A, "e1")},
            "local": [imported()],
        },
        [],
    ),
]


@pytest.mark.parametrize(
    ("changes", "steps"), [row[1:] for row in PULL], ids=[row[0] for row in PULL]
)
def test_pull(changes, steps):
    changes = {**changes, "filter": frozenset(changes.get("filter", ()))}
    result = plan(replace(EMPTY, **changes))
    if steps == ["import"]:
        steps = [Import(CANDY, A, 10)]
    assert list(result.steps) == steps
    assert (result.held, result.conflicts, result.notes) == ((), (), ())


def test_a_local_application_of_the_same_name_is_a_conflict_and_left_alone():
    other = Key("candy", 3, "amd64")
    result = plan(replace(EMPTY, remote=remote(there(), there(other)), local=[local()]))
    assert result.steps == ()
    assert len(result.conflicts) == 1
    assert result.conflicts[0].startswith("candy: a local application")


def test_what_a_new_epoch_lacks_is_held_until_allowed():
    given_ = replace(EMPTY, remote=remote(there(carried=True)), local=[imported()])
    held = plan(given_)
    assert held.steps == ()
    assert "--allow-deletions" in held.held[0]
    assert plan(replace(given_, allow_deletions=True)).steps == (RemoveImported(CANDY, A),)


def test_other_content_under_an_imported_key_is_replaced_only_when_allowed():
    given_ = replace(EMPTY, remote=remote(there(digest=B)), local=[imported()])
    assert plan(given_).steps == ()
    assert "other content" in plan(given_).conflicts[0]
    allowed = plan(replace(given_, allow_deletions=True))
    assert allowed.steps == (Import(CANDY, B, 10, replace=True),)
    assert allowed.conflicts == ()


@pytest.mark.parametrize(
    ("gone", "kept", "held"), [(10, 0, False), (11, 0, True), (11, 11, False), (11, 10, True)]
)
def test_many_removals_at_once_are_held(gone, kept, held):
    keys = [Key(f"app{n}", 0, "amd64") for n in range(gone + kept)]
    given_ = replace(
        EMPTY,
        remote=remote(*(there(key) for key in keys[gone:])),
        local=[imported(key) for key in keys],
    )
    result = plan(given_)
    assert bool(result.held) is held
    assert len(result.steps) == (0 if held else gone)
    assert len(plan(replace(given_, allow_deletions=True)).steps) == gone


def test_removing_old_versions_of_many_applications_is_not_held():
    keys = [Key(f"app{n}", number, "amd64") for n in range(30) for number in range(2)]
    kept = [there(key) for key in keys if key.number == 1]
    result = plan(replace(EMPTY, remote=remote(*kept), local=[imported(key) for key in keys]))
    assert len(result.steps) == 30
    assert result.held == ()


PUSH = [
    ("published", {"local": [local()]}, [Push(CANDY, A)]),
    ("unpublished", {"local": [local(published=False)]}, []),
    ("imported", {"local": [imported()]}, []),
    ("pushed into another epoch", {"local": [local()], "pushed": {"e0": A}}, [Push(CANDY, A)]),
    ("push under way when killed", {"local": [local()], "pushed": {"": A}}, [Push(CANDY, A)]),
    ("there already", {"local": [local()], "remote": remote(there())}, []),
    (
        "carried over is absent",
        {"local": [local()], "remote": remote(there(carried=True))},
        [Push(CANDY, A)],
    ),
    (
        "withdrawn",
        {"remote": remote(there()), "withdrawals": {CANDY: A}, "pushed": {"e1": A}},
        [Withdraw(CANDY, A)],
    ),
    (
        "withdrawn after a crash while pushing",
        {"remote": remote(there()), "withdrawals": {CANDY: A}, "pushed": {"": A}},
        [Withdraw(CANDY, A)],
    ),
    (
        "withdrawn, but somebody else had pushed it",
        {"remote": remote(there()), "withdrawals": {CANDY: A}},
        [],
    ),
    (
        "unpublished without a tombstone: absence never removes",
        {"remote": remote(there()), "local": [local(published=False)], "pushed": {"e1": A}},
        [],
    ),
    ("nothing local, much remote", {"remote": remote(there()), "pushed": {"e1": A}}, []),
]


@pytest.mark.parametrize(
    ("changes", "steps"), [row[1:] for row in PUSH], ids=[row[0] for row in PUSH]
)
def test_push(changes, steps):
    records = [Pushed(digest, epoch) for epoch, digest in changes.get("pushed", {}).items()]
    pushed = dict.fromkeys([CANDY] * len(records), *records)
    result = plan(replace(EMPTY, **{**changes, "mode": "push", "pushed": pushed}))
    assert list(result.steps) == steps
    assert (result.held, result.conflicts, result.notes) == ((), (), ())


def test_what_was_removed_there_is_not_pushed_again_by_itself():
    given_ = replace(EMPTY, mode="push", local=[local()], pushed={CANDY: Pushed(A, "e1")})
    assert plan(given_).steps == ()
    assert "amc registry push candy" in plan(given_).notes[0]
    assert plan(replace(given_, only="candy")).steps == (Push(CANDY, A),)
    assert plan(replace(given_, only="other")).steps == ()


def test_other_content_under_a_pushed_key_is_a_conflict():
    result = plan(replace(EMPTY, mode="push", local=[local()], remote=remote(there(digest=B))))
    assert result.steps == ()
    assert "publish a new version" in result.conflicts[0]


def test_a_withdrawal_spares_other_content():
    result = plan(
        replace(
            EMPTY,
            mode="push",
            remote=remote(there(digest=B)),
            withdrawals={CANDY: A},
            pushed={CANDY: Pushed(A, "e1")},
        )
    )
    assert result.steps == ()
    assert result.settled == (CANDY,)
    assert "not withdrawn" in result.conflicts[0]


def test_what_is_found_there_is_recorded_as_pushed():
    given_ = replace(EMPTY, mode="push", local=[local()], remote=remote(there()))
    assert plan(given_).found == ((CANDY, A),)
    assert plan(replace(given_, pushed={CANDY: Pushed(A, "e1")})).found == ()


def test_manual_does_nothing_by_itself():
    given_ = replace(
        EMPTY, mode="manual", remote=remote(there(Key("x", 0, "amd64"))), local=[local()]
    )
    assert plan(given_) == Plan()


def test_what_is_set_aside_waits_for_its_time_and_only_with_that_content():
    entry = Quarantined(A, "damaged", 1, NOW + timedelta(minutes=1))
    given_ = replace(EMPTY, remote=remote(there()), quarantine={CANDY: entry})
    assert plan(given_).steps == ()
    assert "damaged" in plan(given_).notes[0]
    assert plan(replace(given_, now=entry.retry_at)).steps != ()
    assert plan(replace(given_, remote=remote(there(digest=B)))).steps != ()


# Properties

NAMES = st.sampled_from(["a", "b", "c"])
KEYS = st.builds(Key, NAMES, st.integers(0, 2), st.sampled_from(["amd64", "arm64"]))
OWN_KEYS = st.builds(Key, NAMES, st.integers(0, 2), st.just("amd64"))
DIGESTS = st.sampled_from([A, B])


@st.composite
def inputs(draw: st.DrawFn) -> PlanInput:
    own_names = draw(st.sets(NAMES))
    versions = draw(
        st.lists(st.builds(RemoteVersion, KEYS, DIGESTS, st.just(1), st.just(()), st.booleans()))
    )
    here = draw(st.dictionaries(OWN_KEYS, st.tuples(DIGESTS, st.booleans())))
    withdrawals = draw(st.dictionaries(OWN_KEYS, DIGESTS, max_size=3))
    pushed = draw(
        st.dictionaries(
            OWN_KEYS, st.builds(Pushed, DIGESTS, st.sampled_from(["", "e0", "e1"])), max_size=4
        )
    )
    return replace(
        EMPTY,
        mode=draw(st.sampled_from(["pull", "push", "manual"])),
        remote=remote(*versions),
        local=[
            SiteVersion(
                key, digest, published or key.name not in own_names, key.name not in own_names
            )
            for key, (digest, published) in here.items()
        ],
        withdrawals=withdrawals,
        pushed=pushed,
        allow_deletions=draw(st.booleans()),
    )


def execute(given_: PlanInput, result: Plan) -> PlanInput:
    """What the runner does, on a model."""
    versions = dict(given_.remote.versions)
    here = {version.key: version for version in given_.local}
    pushed, withdrawals = dict(given_.pushed), dict(given_.withdrawals)
    for key, digest in result.found:
        pushed[key] = Pushed(digest, given_.remote.epoch)
    for key in result.settled:
        withdrawals.pop(key)
    for key in result.forgotten:
        pushed.pop(key, None)
    for step in result.steps:
        if isinstance(step, RemoveImported):
            assert here.pop(step.key).imported
        elif isinstance(step, Import):
            assert step.replace is (step.key in here)
            assert versions[step.key].digest == step.digest
            here[step.key] = SiteVersion(step.key, step.digest, published=True, imported=True)
        elif isinstance(step, Push):
            assert step.key not in versions or versions[step.key].carried
            versions[step.key] = RemoteVersion(step.key, step.digest, 1, ())
            pushed[step.key] = Pushed(step.digest, given_.remote.epoch)
        else:
            assert versions.pop(step.key).digest == withdrawals.pop(step.key)
            pushed.pop(step.key)
    return replace(
        given_,
        remote=replace(given_.remote, versions=versions),
        local=list(here.values()),
        pushed=pushed,
        withdrawals=withdrawals,
    )


@given(inputs())
def test_a_second_plan_has_nothing_to_do(given_):
    first = plan(given_)
    second = plan(execute(given_, first))
    assert second.steps == second.found == second.settled == second.forgotten == ()


@given(inputs())
def test_pull_never_touches_local_versions_and_ends_with_what_the_registry_holds(given_):
    given_ = replace(given_, mode="pull", allow_deletions=True)
    after = execute(given_, plan(given_))
    own = {v.key.name for v in given_.local if not v.imported}
    assert [v for v in after.local if not v.imported] == [
        v for v in given_.local if not v.imported
    ]
    assert {v.key: v.digest for v in after.local if v.imported} == {
        key: version.digest
        for key, version in given_.remote.versions.items()
        if key.architecture == "amd64" and not version.carried and key.name not in own
    }


@given(inputs())
def test_nothing_is_removed_by_absence_when_the_epoch_changed(given_):
    """Every imported version that a new history lacks is carried over by the view."""
    carried = [there(v.key, v.digest, carried=True) for v in given_.local if v.imported]
    given_ = replace(
        given_, mode="pull", allow_deletions=False, remote=remote(*carried, epoch="e2")
    )
    assert plan(given_).steps == ()


@given(inputs())
def test_push_removes_nothing_but_by_tombstone(given_):
    result = plan(replace(given_, mode="push"))
    for step in result.steps:
        assert isinstance(step, (Push, Withdraw))
        if isinstance(step, Withdraw):
            assert given_.withdrawals[step.key] == step.digest
            assert given_.pushed[step.key].digest == step.digest
        else:
            version = next(v for v in given_.local if v.key == step.key)
            assert version.published
            assert not version.imported

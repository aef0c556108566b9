"""Where a service keeps its state."""

from __future__ import annotations

from pathlib import Path

import pytest

from regkit.paths import state_root

EVERYTHING = {
    "AAR_HOME": "/srv/aar",
    "SNAP_COMMON": "/var/snap/x/common",
    "XDG_STATE_HOME": "/state",
    "HOME": "/home/me",
}


@pytest.mark.parametrize(
    ("missing", "uid", "expected"),
    [
        ([], 0, "/srv/aar"),
        (["AAR_HOME"], 0, "/var/snap/x/common"),
        (["AAR_HOME"], 1000, "/var/snap/x/common"),
        (["AAR_HOME", "SNAP_COMMON"], 0, "/var/snap/aar/common"),
        (["AAR_HOME", "SNAP_COMMON"], 1000, "/state/aar"),
        (["AAR_HOME", "SNAP_COMMON", "XDG_STATE_HOME"], 1000, "/home/me/.local/state/aar"),
        (list(EVERYTHING), 1000, "/.local/state/aar"),
    ],
)
def test_order(missing: list[str], uid: int, expected: str) -> None:
    environ = {key: value for key, value in EVERYTHING.items() if key not in missing}
    assert state_root("aar", environ, uid) == Path(expected)


def test_one_service_does_not_take_the_others_home() -> None:
    assert state_root("ams", {"AAR_HOME": "/srv/aar"}, 0) == Path("/var/snap/ams/common")


def test_an_empty_variable_counts_as_unset() -> None:
    empty = {"AAR_HOME": "", "SNAP_COMMON": "", "XDG_STATE_HOME": "", "HOME": "/home/me"}
    assert state_root("aar", empty, 1000) == Path("/home/me/.local/state/aar")


def test_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert state_root("aar", {"AAR_HOME": "here"}, 0) == tmp_path / "here"


def test_the_process_environment_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMS_HOME", str(tmp_path / "ams"))
    assert state_root("ams") == tmp_path / "ams"
    assert not (tmp_path / "ams").exists()

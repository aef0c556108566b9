"""The remotes that a user knows: names, URLs, the default, and the file that keeps them."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aar_interface import Fingerprint
from ams.client.remotes import LOCAL, UNIX, Remote, Remotes, folder, parse_url
from regkit.errors import Conflict, Invalid, NotFound, Unavailable

PIN = Fingerprint("ab" * 32)
SITE = Remote("site", "https://192.168.178.46:8444", PIN)


@pytest.fixture
def remotes(tmp_path: Path) -> Remotes:
    return Remotes(tmp_path / "deep" / "amc")


def test_this_machine_is_always_there_and_nothing_is_written(tmp_path: Path) -> None:
    remotes = Remotes(tmp_path / "amc")
    assert remotes.list() == [Remote(LOCAL, UNIX)]
    assert remotes.get() == remotes.get(LOCAL) == Remote(LOCAL, UNIX)
    assert remotes.default == LOCAL
    assert not (tmp_path / "amc").exists()


def test_what_was_added_is_there_for_the_next(remotes: Remotes, tmp_path: Path) -> None:
    remotes.add(SITE)
    again = Remotes(tmp_path / "deep" / "amc")
    assert again.list() == [Remote(LOCAL, UNIX), SITE]
    assert again.get("site") == SITE
    assert again.get() == Remote(LOCAL, UNIX)
    again.set_default("site")
    assert remotes.get() == SITE
    moved = Remote("site", "https://elsewhere:1", PIN)
    remotes.replace(moved)
    assert again.get() == moved


def test_only_the_owner_can_read_it(remotes: Remotes, tmp_path: Path) -> None:
    remotes.add(SITE)
    remotes.identity()
    home = tmp_path / "deep" / "amc"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
    assert names == {"remotes.json": 0o600, "client.crt": 0o600, "client.key": 0o600}


def test_the_identity_is_made_once_and_is_a_clients(remotes: Remotes) -> None:
    made = remotes.identity()
    assert made.certificate.client_usable
    assert "@" in made.certificate.common_name
    assert remotes.identity().certificate == made.certificate


def test_names_are_unique(remotes: Remotes) -> None:
    remotes.add(SITE)
    for taken in (SITE, Remote(LOCAL, "unix:///elsewhere")):
        with pytest.raises(Conflict, match="amc remote set-url"):
            remotes.add(taken)
        with pytest.raises(Conflict):
            remotes.check_new(taken.name)
    assert remotes.get("site") == SITE


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x" * 64, "ä", "a\n"])
def test_what_is_no_name(remotes: Remotes, name: str) -> None:
    with pytest.raises(Invalid, match="can't be a remote's name"):
        remotes.add(Remote(name, SITE.url, PIN))
    with pytest.raises(Invalid):
        remotes.check_new(name)
    assert len(remotes.list()) == 1


def test_removing(remotes: Remotes) -> None:
    remotes.add(SITE)
    remotes.set_default("site")
    with pytest.raises(Conflict, match="amc remote set-default local"):
        remotes.remove("site")
    with pytest.raises(Conflict, match="this machine"):
        remotes.remove(LOCAL)
    remotes.set_default(LOCAL)
    remotes.remove("site")
    assert remotes.list() == [Remote(LOCAL, UNIX)]


def test_unknown_names(remotes: Remotes) -> None:
    for call in (remotes.get, remotes.remove, remotes.set_default):
        with pytest.raises(NotFound, match="amc remote list"):
            call("nobody")
    with pytest.raises(NotFound):
        remotes.replace(SITE)


def test_this_machines_service_may_be_elsewhere(remotes: Remotes) -> None:
    remotes.replace(Remote(LOCAL, "unix:///srv/unix.socket"))
    assert remotes.get().socket(Path("/default")) == Path("/srv/unix.socket")
    remotes.replace(Remote(LOCAL, UNIX))
    assert remotes.get().socket(Path("/default")) == Path("/default")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"default": "site", "remotes": {}}',
        '{"default": "local", "remotes": {"a": {"url": "https://a:1", "fingerprint": "xx"}}}',
        '{"default": "local", "remotes": {"a": {"url": "http://a:1", "fingerprint": ""}}}',
        '{"default": "local", "remotes": {"a": 1}}',
        '{"default": "local", "remotes": []}',
        "\udcff",
    ],
)
def test_a_damaged_file_is_told_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "remotes.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    before = path.read_bytes()
    with pytest.raises(Invalid, match="is damaged: remove it"):
        Remotes(tmp_path).list()
    with pytest.raises(Invalid):
        Remotes(tmp_path).add(SITE)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"choose another folder with \$AMC_HOME"):
        Remotes(tmp_path / "file" / "amc").add(SITE)


def test_the_file_is_replaced_in_one_step(remotes: Remotes, tmp_path: Path) -> None:
    remotes.add(SITE)
    home = tmp_path / "deep" / "amc"
    # What a crash may have left is no obstacle.
    (home / ".remotes.json.new").write_text("half a fi")
    first = (home / "remotes.json").stat().st_ino
    remotes.set_default("site")
    assert (home / "remotes.json").stat().st_ino != first
    assert json.loads((home / "remotes.json").read_text())["default"] == "site"
    assert not (home / ".remotes.json.new").exists()


def test_changes_side_by_side_lose_nothing(tmp_path: Path) -> None:
    names = [f"site-{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: Remotes(tmp_path).add(Remote(name, SITE.url, PIN)), names))
    assert {remote.name for remote in Remotes(tmp_path).list()} == {LOCAL, *names}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("unix://", "unix://"),
        ("unix:///run/ams.socket", "unix:///run/ams.socket"),
        ("https://192.168.178.46", "https://192.168.178.46:8444"),
        ("https://192.168.178.46:1/", "https://192.168.178.46:1"),
        ("HTTPS://ams.example:8444", "https://ams.example:8444"),
        ("https://[fd00::1]", "https://[fd00::1]:8444"),
    ],
)
def test_urls(given: str, kept: str) -> None:
    assert parse_url(given) == kept
    assert parse_url(kept) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.168.178.46:8444",
        "http://192.168.178.46:8444",
        "https://",
        "https://host:99999",
        "https://user@host",
        "https://host/path",
        "https://host:1?x",
        "unix://relative/path",
        "ftp://host",
    ],
)
def test_what_leads_nowhere(text: str) -> None:
    with pytest.raises(Invalid, match="write"):
        parse_url(text)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"AMC_HOME": "/srv/amc", "XDG_CONFIG_HOME": "/x", "HOME": "/h"}, "/srv/amc"),
        ({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}, "/x/amc"),
        ({"HOME": "/home/me"}, "/home/me/.config/amc"),
        ({}, "/.config/amc"),
    ],
)
def test_where_it_is(environ: dict[str, str], expected: str) -> None:
    assert folder(environ) == Path(expected)

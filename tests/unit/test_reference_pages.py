"""The pages below `docs/reference` are what the code says, or it is said how to renew them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "reference"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.reference", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_the_pages_are_current() -> None:
    done = run("--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_not_current_is_told_and_renewed(tmp_path: Path) -> None:
    copy = tmp_path / "reference"
    shutil.copytree(PAGES, copy)
    (copy / "amc.md").write_text("old")
    (copy / "settings.md").unlink()
    (copy / "by-hand.md").write_text("something")
    done = run("--check", "--folder", copy)
    assert done.returncode == 1
    told = done.stdout.splitlines()
    for name in ("amc.md", "settings.md", "by-hand.md"):
        (line,) = [line for line in told if name in line]
        assert "./dev docs" in line
    assert (copy / "amc.md").read_text() == "old"
    assert run("--folder", copy).returncode == 0
    assert run("--check", "--folder", copy).returncode == 0
    assert not (copy / "by-hand.md").exists()


def test_dev_renews_them() -> None:
    assert "-m tools.reference" in (ROOT / "dev").read_text()


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("amc.md", ["## amc application set", "resources.gpu-slots", "## amc wait", "130"]),
        ("aar.md", ["## aar trust revoke", "## aar trust apply", "ls"]),
        ("ams.md", ["## ams serve"]),
        ("settings.md", ["`registry.update_interval` | `1h`", "`http.addr` | `0.0.0.0:3000`"]),
        ("rest-api.md", ["### PATCH /1.0/applications/{id_or_name}", "GET /1.0/changes", "/v2/"]),
    ],
)
def test_what_each_page_is_for(page: str, words: list[str]) -> None:
    text = (PAGES / page).read_text()
    for word in words:
        assert word in text
    assert "\b" not in text

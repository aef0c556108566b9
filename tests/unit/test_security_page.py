"""The security page is true: each test it names is there, as on the page of reliability.

Workflows have what they need only.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "security.md"
RELIABILITY = ROOT / "docs" / "explanation" / "reliability.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


def promises() -> list[str]:
    """The rows of the table of promises."""
    section = PAGE.read_text().partition("## Promises and their tests")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return rows[1:]  # without the headings


def test_each_promise_names_a_test():
    rows = promises()
    assert len(rows) > 20
    for row in rows:
        assert NAMED.search(row), row


@pytest.mark.parametrize("page", [PAGE, RELIABILITY], ids=lambda page: page.stem)
def test_each_test_that_is_named_is_there(page: Path):
    known: dict[str, set[str]] = {}
    for path, name in NAMED.findall(page.read_text()):
        if path not in known:
            tree = ast.parse((ROOT / path).read_text())
            known[path] = {
                node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
            }
        assert name in known[path], f"{path} has no {name}"


def test_each_module_of_attacks_is_on_the_page():
    page = PAGE.read_text()
    for path in sorted((ROOT / "tests" / "attacks").glob("test_*.py")):
        assert f"tests/attacks/{path.name}::" in page


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_read_only_and_pin_what_they_use(path: Path):
    workflow: dict[str, Any] = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["permissions"] == {"contents": "read"}, name
        for step in job["steps"]:
            if used := step.get("uses"):
                assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", used), used

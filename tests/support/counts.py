"""How many tests passed on which engine, at the end of a run: hooks of pytest.

A test counts for an engine when one of the fixtures below chose it. Such tests have the marker
`engines`, so that `-m engines` runs them and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from support.engines import PAIRS

MARKER = "engines"
_COLUMNS = {
    "pair": PAIRS,
    "store_kind": ("files", "s3"),
    "databases": ("sqlite", "postgresql"),
}
"""By fixture, what its parameters may be: the columns of a table."""
_NAMES = {"store_kind": "rules of a blob store", "databases": "stores over a database"}

Key = tuple[str, str, str]
"""Fixture, name of the tests, engine."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", f"{MARKER}: the same test runs on several engines")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note which engine a test is for; its reports carry it, also from another process."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    for fixture in _COLUMNS:
        engine = params.get(fixture)
        if engine is not None:
            name = _NAMES.get(fixture) or item.path.stem.removeprefix("test_").replace("_", " ")
            item.user_properties.append((MARKER, [fixture, name, engine]))
            item.add_marker(MARKER)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables, once there is something of more than one engine to tell."""
    passed = _count(terminalreporter.stats.get("passed", ()))
    rest = _count(
        report
        for outcome in ("failed", "error", "skipped")
        for report in terminalreporter.stats.get(outcome, ())
    )
    if not any(fixture == "pair" for fixture, _, _ in (*passed, *rest)):
        return
    terminalreporter.section("passed on each engine")
    for fixture in _COLUMNS:
        for line in table(fixture, passed, rest):
            terminalreporter.line(line)


def table(fixture: str, passed: Counter[Key], rest: Counter[Key]) -> Iterator[str]:
    """Give a table in Markdown: how many passed, and of how many where that isn't all."""
    columns = _COLUMNS[fixture]
    names = sorted({name for kind, name, _ in (*passed, *rest) if kind == fixture})
    if not names:
        return
    yield f"| tests of | {' | '.join(columns)} |"
    yield "|---|" + "--:|" * len(columns)
    for name in names:
        cells = []
        for engine in columns:
            good, other = passed[fixture, name, engine], rest[fixture, name, engine]
            cells.append(f"{good} of {good + other}" if other else str(good or "-"))
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def _count(reports: Iterable[pytest.TestReport]) -> Counter[Key]:
    found: Counter[Key] = Counter()
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == MARKER:
                fixture, tests, engine = value
                found[fixture, tests, engine] += 1
    return found

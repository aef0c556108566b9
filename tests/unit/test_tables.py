"""Output for eyes and for programs."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import datetime, timezone
from typing import Any

import pytest
import yaml
from rich.cells import cell_len

from regkit.tables import FORMATS, render, show

COLUMNS = (("NAME", "name"), ("TAGS", "tags"), ("ACTIVE", "active"))
ROWS: list[dict[str, Any]] = [
    {"name": "candy", "tags": ["a", "b"], "active": True, "id": 1},
    {"name": None, "tags": [], "active": False, "id": 2},
]


def test_csv_holds_the_columns_and_quotes() -> None:
    rows = [*ROWS, {"name": 'x,"y"\nz'}]
    read = list(csv.reader(io.StringIO(render(rows, COLUMNS, "csv"))))
    assert read == [
        ["NAME", "TAGS", "ACTIVE"],
        ["candy", "a,b", "true"],
        ["", "", "false"],
        ['x,"y"\nz', "", ""],
    ]


def test_json_and_yaml_hold_whole_rows() -> None:
    assert json.loads(render(ROWS, COLUMNS, "json")) == ROWS
    assert yaml.safe_load(render(ROWS, COLUMNS, "yaml")) == ROWS


def test_times_become_text() -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    for name in ("json", "yaml"):
        read = yaml.safe_load(render([{"at": moment}], (), name))
        assert read == [{"at": "2026-01-01 00:00:00+00:00"}]


@pytest.mark.parametrize(
    ("name", "text"), [("json", "[]\n"), ("yaml", "[]\n"), ("csv", "NAME,TAGS,ACTIVE\n")]
)
def test_no_rows(name: str, text: str) -> None:
    assert render([], COLUMNS, name) == text


def test_a_table_without_rows_has_its_headings() -> None:
    text = render([], COLUMNS, "table")
    assert all(heading in text for heading, _ in COLUMNS)


def test_a_table_shows_each_row_on_one_line_uncut() -> None:
    long = "x" * 500
    lines = render([{"name": long, "tags": ["a"], "active": True}], COLUMNS, "table").splitlines()
    (line,) = [line for line in lines if long in line]
    assert "true" in line


def test_a_table_passes_no_control_character_and_reads_no_markup() -> None:
    text = render([{"name": "\x1b[31mred\r\n[bold]x[/bold]"}], COLUMNS, "table")
    assert "?[31mred??[bold]x[/bold]" in text
    assert "\x1b" not in text


def test_the_lines_of_a_table_are_equally_long() -> None:
    rows = [{"name": "漢字", "tags": ["é"]}, {"name": "x" * 30, "tags": []}]
    lines = render(rows, COLUMNS, "table").splitlines()
    assert {cell_len(line) for line in lines} == {cell_len(lines[0])}
    assert len(lines) == 6


def test_many_rows_take_no_time() -> None:
    rows = [{"name": f"application-{number}", "tags": ["a", "b"]} for number in range(10_000)]
    started = time.process_time()
    assert render(rows, COLUMNS, "table").count("\n") == 10_004
    assert time.process_time() - started < 3  # measured: 0.1 s


@pytest.mark.parametrize("name", FORMATS)
def test_show_prints_what_render_gives(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, COLUMNS, name)
    printed = capsys.readouterr().out
    assert printed == render(ROWS, COLUMNS, name)
    assert printed.endswith("\n")
    assert not printed.endswith("\n\n")

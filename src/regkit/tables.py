"""Output of both command lines: a table for eyes, csv, json or yaml for programs.

The caller gives rows as dictionaries whose keys are the programs' names; a table's columns choose
from them. Colours and boxes appear on a terminal only.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
import yaml

FORMATS = ("table", "csv", "json", "yaml")

Row = Mapping[str, Any]
Columns = Sequence[tuple[str, str]]
"""Pairs of a heading (`COMMON NAME`) and the key of a row."""


def render(rows: Sequence[Row], columns: Columns, output_format: str) -> str:
    """Return `rows` as text in `output_format`, one of FORMATS, ending in a newline.

    json and yaml carry whole rows, table and csv only `columns`. An empty list is `[]` in json
    and yaml, and the headings alone in a table.
    """
    if output_format == "json":
        return json.dumps([dict(row) for row in rows], indent=2, default=str) + "\n"
    if output_format == "yaml":
        return dump_yaml([dict(row) for row in rows])
    if output_format == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(heading for heading, _ in columns)
        writer.writerows([_cell(row.get(key)) for _, key in columns] for row in rows)
        return buffer.getvalue()
    return _table(rows, columns)


def show(rows: Sequence[Row], columns: Columns, output_format: str) -> None:
    """Print `rows` as `render` gives them."""
    click.echo(render(rows, columns, output_format), nl=False)


def dump_yaml(value: Any) -> str:
    """Return plain block YAML in the order of the keys."""
    plain = json.loads(json.dumps(value, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=False)


def _table(rows: Sequence[Row], columns: Columns) -> str:
    from rich.box import ASCII2, SQUARE  # noqa: PLC0415 - rich costs 60 ms; programs don't need it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    terminal = sys.stdout.isatty()
    encoding = (sys.stdout.encoding or "ascii").lower()
    table = Table(box=SQUARE if encoding.startswith("utf") else ASCII2, show_lines=False)
    for heading, _ in columns:
        table.add_column(Text(heading), overflow="fold", no_wrap=not terminal)
    for row in rows:
        table.add_row(*(Text(_printable(_cell(row.get(key)))) for _, key in columns))
    buffer = io.StringIO()
    # Off a terminal nothing is wrapped or cut: a script may read it by lines.
    console = Console(file=buffer, width=None if terminal else 10_000, highlight=False)
    console.print(table)
    return buffer.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(_cell(item) for item in value)
    return str(value)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)

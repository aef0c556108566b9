"""Output of both command lines: a table for eyes, csv, json or yaml for programs.

The caller gives rows as dictionaries whose keys are the programs' names; a table's columns choose
from them. A table is folded to the width of a terminal, and nowhere else.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import click
import yaml

FORMATS = ("table", "csv", "json", "yaml")
NARROWEST = 4
"""Columns of a terminal that a cell keeps, however small the terminal is."""

_BOX = ("│", "┌─┬┐", "├─┼┤", "└─┴┘")
_ASCII_BOX = ("|", "+-++", "+-++", "+-++")

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
    # libyaml is some ten times faster, where it is there.
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(
        plain, Dumper=dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )


def _table(rows: Sequence[Row], columns: Columns) -> str:
    # Not rich's own table: for 10,000 rows that takes 4 s, this 0.2 s.
    from rich.cells import cell_len  # noqa: PLC0415 - programs don't need it

    headings = [heading for heading, _ in columns]
    cells = [[_printable(_cell(row.get(key))) for _, key in columns] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    if sys.stdout.isatty():
        # Off a terminal nothing is wrapped or cut: a script may read it by lines.
        widths = _fitted(widths, shutil.get_terminal_size().columns - 3 * len(widths) - 1)
    encoding = (sys.stdout.encoding or "ascii").lower()
    side, top, middle, bottom = _BOX if encoding.startswith("utf") else _ASCII_BOX
    lines = [_rule(top, widths), *_lines(headings, widths, side), _rule(middle, widths)]
    for row in cells:
        lines += _lines(row, widths, side)
    return "\n".join([*lines, _rule(bottom, widths), ""])


def _fitted(widths: Sequence[int], available: int) -> list[int]:
    """Take from the widest columns until all fit, as far as that goes."""
    fitted = list(widths)
    while sum(fitted) > available and max(fitted) > NARROWEST:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def _rule(pieces: str, widths: Sequence[int]) -> str:
    left, line, cross, right = pieces
    return left + cross.join(line * (width + 2) for width in widths) + right


def _lines(cells: Sequence[str], widths: Sequence[int], side: str) -> list[str]:
    """Return a row as the lines that it takes: what is too wide goes on in the next line."""
    from rich.cells import cell_len, chop_cells  # noqa: PLC0415

    folded = [
        [cell] if cell_len(cell) <= width else chop_cells(cell, width)
        for cell, width in zip(cells, widths, strict=True)
    ]
    return [
        f"{side} "
        + f" {side} ".join(
            piece + " " * (width - cell_len(piece))
            for piece, width in zip(pieces, widths, strict=True)
        )
        + f" {side}"
        for pieces in zip_longest(*folded, fillvalue="")
    ]


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

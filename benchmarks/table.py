"""Reports as text: a Markdown table for each measurement, which reads well on a terminal, too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.results import Goal, Report, Row

ORDER = (
    "small",
    "poll",
    "pull",
    "push",
    "tail",
    "idle",
    "fleet",
    "sync",
    "startup",
    "client",
    "units",
)


def render(report: Report) -> str:
    """Return a measurement's title, rows, goals and notes."""
    names = list(dict.fromkeys(name for row in report.rows for name in row.samples[0].more))
    heads = ["case", "server", "median", "lowest - highest", "unit"]
    heads += ["server CPU s", "client CPU s", "per", "server peak", *names]
    rows = [_cells(row, names) for row in report.rows]
    parts = [f"## {report.title}", "", *grid(heads, rows), ""]
    if report.goals:
        parts += [*goals([report]), ""]
    parts += [f"- {note}" for note in report.notes] + ([""] if report.notes else [])
    return "\n".join(parts)


def goals(reports: Iterable[Report]) -> list[str]:
    """Return the goals of reports as a table."""
    rows = [
        [goal.text, "-" if goal.value is None else _number(goal.value), _verdict(goal)]
        for report in reports
        for goal in report.goals
    ]
    return grid(["goal", "measured", ""], rows)


def page(folder: Path) -> str:
    """Return everything that was saved in `folder` as one page."""
    reports = [Report.load(path) for name in ORDER if (path := folder / f"{name}.json").exists()]
    parts = [
        "# Results",
        "",
        "Written by `./dev bench`; what the figures mean: "
        "[performance](../../docs/explanation/performance.md). Each measurement's environment and "
        "every sample are in its JSON file.",
        "",
        "## Goals",
        "",
        *goals(reports),
        "",
    ]
    for report in reports:
        parts += [render(report), _where(report), ""]
        if (folder / f"{report.name}.png").exists():
            parts += [f"![{report.title}]({report.name}.png)", ""]
    return "\n".join(parts)


def _where(report: Report) -> str:
    at = report.environment
    load = at["load"][0]
    return (
        f"{report.rounds} rounds, {at['at']}, revision {at['revision'] or 'unknown'}; "
        f"{at['cores']} cores of {at['cpu']}, Linux {at['kernel']}, Python {at['python']}; "
        f"load average before: {load:.2f}"
    )


def _cells(row: Row, names: Sequence[str]) -> list[str]:
    more = [_number(row.more(name)) if name in row.samples[0].more else "" for name in names]
    return [
        row.case,
        row.contender,
        _number(row.median),
        f"{_number(row.lowest)} - {_number(row.highest)}",
        row.unit,
        _number(row.cpu),
        _number(row.client_cpu),
        row.per,
        f"{row.peak / 1e6:.0f} MB",
        *more,
    ]


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [heads, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(heads))]
    text = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [text[0], rule, *text[1:]]


def _number(value: float) -> str:
    """Write three significant digits, and thousands with commas."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _verdict(goal: Goal) -> str:
    if goal.met is None:
        return "not measured"
    return "met" if goal.met else "**not met**"

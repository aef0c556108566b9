"""A PNG for each measurement, made from its JSON: `python -m benchmarks.plots <folder>`.

Bars are medians, whiskers the lowest and the highest round. Runs in the benchmarks' own
environment: matplotlib, nothing of the services.
"""
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # before pyplot: no display is needed
import matplotlib.pyplot as plt

from benchmarks.results import Report, Row

COLOURS = ("#0b6e99", "#d9822b", "#7a8a99", "#5c9f45", "#9a4f96")
WIDE = 50
"""From this ratio of the largest to the smallest bar on, the scale is logarithmic."""


def plot(report: Report, path: Path) -> None:
    """Draw a report, a panel for each unit."""
    units = list(dict.fromkeys(row.unit for row in report.rows))
    panels = [[row for row in report.rows if row.unit == unit] for unit in units]
    heights = [max(1.6, 0.55 + 0.27 * len(rows)) for rows in panels]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(8.5, sum(heights) + 0.7),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for (axis,), rows, unit in zip(axes, panels, units, strict=True):
        _draw(axis, rows, unit)
    figure.suptitle(report.title, fontsize=12, fontweight="bold")
    figure.savefig(path, dpi=110, metadata={"Software": ""})
    plt.close(figure)


def _draw(axis: Any, rows: list[Row], unit: str) -> None:
    contenders = list(dict.fromkeys(row.contender for row in rows))
    position, ticks, labels = 0.0, [], []
    for case in dict.fromkeys(row.case for row in rows):
        group = [row for row in rows if row.case == case]
        ticks.append(position + (len(group) - 1) / 2)
        labels.append(textwrap.fill(case, 30))
        for row in group:
            colour = COLOURS[contenders.index(row.contender) % len(COLOURS)]
            spread = [[max(0.0, row.median - row.lowest)], [max(0.0, row.highest - row.median)]]
            axis.barh(position, row.median, 0.86, color=colour, label=row.contender)
            axis.errorbar(
                row.median, position, xerr=spread, color="#333333", capsize=2, elinewidth=0.9
            )
            axis.annotate(
                f" {_number(row.median)}", (row.highest, position), va="center", fontsize=7.5
            )
            position += 1
        position += 0.6
    axis.set_yticks(ticks, labels, fontsize=8.5)
    axis.invert_yaxis()
    medians = [row.median for row in rows if row.median > 0]
    if medians and max(medians) / min(medians) > WIDE:
        axis.set_xscale("log")
        unit += " (logarithmic)"
    axis.margins(x=0.12)
    axis.set_xlabel(unit, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    handles, names = axis.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    if len(unique) > 1:
        axis.legend(
            unique.values(),
            unique.keys(),
            fontsize=8,
            frameon=False,
            ncols=3,
            loc="lower right",
            bbox_to_anchor=(1, 1),
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> None:
    """Draw every report in the folder that is named on the command line."""
    for path in sorted(Path(sys.argv[1]).glob("*.json")):
        plot(Report.load(path), path.with_suffix(".png"))


if __name__ == "__main__":
    main()

"""`python -m benchmarks.simulation`: parses, simulates each setting, prints the table."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import click

from benchmarks.environment import ROOT
from benchmarks.simulation.capacity import Capacity, from_results
from benchmarks.simulation.release import GB, Figures, Fleet, Knobs, simulate, sweep
from benchmarks.table import grid

RESULTS = ROOT / "benchmarks" / "results"
HEADS = (
    "setting",
    "unit's load, nothing new",
    "memory for waiting, per unit",
    "units busy with answers",
    "longest queue of a unit",
    "first has it",
    "half have it",
    "last has it",
    "downloads at once",
    "unit's load by sending",
)


@click.command()
@click.option("--clients", default=Fleet.clients, show_default=True, type=click.IntRange(1))
@click.option("--places", default=Fleet.places, show_default=True, type=click.IntRange(1))
@click.option("--package-gb", default=Fleet.package / GB, show_default=True, type=float)
@click.option("--units", default=Knobs.units, show_default=True, type=click.IntRange(1))
@click.option("--cores", type=click.IntRange(1), help="Of each unit; not given: as measured.")
@click.option(
    "--results",
    default=RESULTS,
    show_default="benchmarks/results",
    type=click.Path(file_okay=False, path_type=Path),
    help="What ./dev bench small idle units has measured of one unit.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write simulation.md and simulation.json there, too.",
)
def main(
    clients: int,
    places: int,
    package_gb: float,
    units: int,
    cores: int | None,
    results: Path,
    output: Path | None,
) -> None:
    """Compute what a release means for a fleet too large to start.

    \b
    Example:
      python -m benchmarks.simulation --clients 100000 --units 3 --cores 8
    """
    try:
        unit = from_results(results)
    except (FileNotFoundError, LookupError) as fault:
        raise click.ClickException(
            f"one unit's capacity isn't measured ({fault}): run './dev bench small idle units'"
        ) from None
    unit = replace(unit, cores=cores) if cores else unit
    fleet = Fleet(clients, places, package_gb * GB)
    found = []
    for name, knobs in sweep(Knobs(units=units)):
        print(f"  {name}", file=sys.stderr, flush=True)
        found.append((name, simulate(fleet, knobs, unit)))
    text = "\n".join([_heading(fleet, unit), "", *grid(HEADS, [_cells(*row) for row in found])])
    print(text)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "simulation.md").write_text(text + "\n", encoding="utf-8")
        document = {
            "fleet": asdict(fleet),
            "unit": asdict(unit),
            "settings": {name: asdict(figures) for name, figures in found},
        }
        (output / "simulation.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _heading(fleet: Fleet, unit: Capacity) -> str:
    return (
        f"{fleet.clients:,} clients in {fleet.places} places of {fleet.place_link * 8 / GB:g} "
        f"Gbit/s, a package of {fleet.package / GB:g} GB; a unit has {unit.cores} cores: "
        f"{1e6 * unit.request:.0f} µs of CPU for a request, {1e6 * unit.connection:.0f} µs for a "
        f"connection, {1e6 * unit.link:.0f} µs for a link, {unit.per_gb:.2f} s for a GB, "
        f"{unit.waiting_bytes / 1000:.0f} KB for a waiting client."
    )


def _cells(name: str, figures: Figures) -> list[str]:
    return [
        name,
        _part(figures.idle_load),
        f"{figures.waiting_memory / GB:.1f} GB",
        _time(figures.storm),
        f"{figures.queue:,}",
        _time(figures.first),
        _time(figures.median),
        _time(figures.last),
        f"{figures.at_once:,}",
        _part(figures.bulk_load),
    ]


def _part(load: float) -> str:
    return f"{100 * load:.1f} %"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.simulation")

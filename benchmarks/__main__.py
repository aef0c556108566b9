"""`./dev bench`: parses, runs the measurements, prints their tables, writes what they found."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click

from benchmarks import environment, table
from benchmarks.drivers import DriverFailed
from benchmarks.environment import Missing, Python
from benchmarks.lab import CONTENDERS, STOCK, Lab
from benchmarks.measures import MEASURES
from benchmarks.measures.scale import Measure, Scale
from benchmarks.processes import NotReady
from benchmarks.results import Report
from regkit.errors import ServiceError

ROUNDS = 5
RESULTS = environment.ROOT / "benchmarks" / "results"
ROOM = 15 * 10**9
"""Bytes of disk that the full form needs: blobs of 1 GB in every store, 100,000 versions."""


def _contenders(_context: click.Context, _option: click.Parameter, text: str) -> tuple[str, ...]:
    found = tuple(name.strip() for name in text.split(","))
    if unknown := sorted(set(found) - set(CONTENDERS)):
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(CONTENDERS)}")
    if CONTENDERS[0] not in found:
        raise click.BadParameter(f"{CONTENDERS[0]} is what is measured: it must be among them")
    return found


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MEASURES)), metavar="[NAME]...")
@click.option(
    "--quick", is_flag=True, help="Seconds instead of minutes; the figures mean nothing."
)
@click.option(
    "--rounds", type=click.IntRange(1), help=f"Rounds of each case ({ROUNDS}; quick: 1)."
)
@click.option(
    "--contenders",
    default=",".join(CONTENDERS),
    show_default=True,
    callback=_contenders,
    help="Which servers take part.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the results go (benchmarks/results; quick: build/bench/quick).",
)
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    default=environment.FOLDER / "work",
    help="A folder on the disk that is to be measured (build/bench/work).",
)
@click.option(
    "--python",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An interpreter with pycurl for the drivers, instead of one that is made for them.",
)
def main(
    names: tuple[str, ...],
    quick: bool,
    rounds: int | None,
    contenders: tuple[str, ...],
    output: Path | None,
    work: Path,
    python: Path | None,
) -> None:
    """Measure the registry and AMS, beside docker-registry and nginx.

    Without names everything: small, poll, pull, push, tail, idle, fleet, sync, startup, client,
    units.
    """
    wanted = [MEASURES[name] for name in names] or list(MEASURES.values())
    scale = Scale(quick, rounds or (1 if quick else ROUNDS))
    folder = (output or (environment.FOLDER / "quick" if quick else RESULTS)).resolve()
    try:
        if any(set(measure.needs) & set(contenders) for measure in wanted):
            environment.require_peers()
        runner = Python(python, plots=False) if python else environment.own_python()
        _prepare(work.resolve(), scale)
        try:
            reports = [
                _measure(measure, scale, contenders, work.resolve(), runner, folder)
                for measure in wanted
            ]
        finally:
            shutil.rmtree(work / STOCK, ignore_errors=True)
            _publish(folder, runner)  # also what was measured before a fault
    except (Missing, NotReady, DriverFailed, ServiceError) as fault:
        raise click.ClickException(str(fault)) from fault
    _summarise(reports, folder)


def _publish(folder: Path, runner: Python) -> None:
    """Draw the plots, and put all tables on one page."""
    if not any(folder.glob("*.json")):
        return
    if runner.plots:
        command = [runner.path, "-m", "benchmarks.plots", folder]
        subprocess.run(command, cwd=environment.ROOT, check=True)
    (folder / "README.md").write_text(table.page(folder) + "\n", encoding="utf-8")


def _prepare(work: Path, scale: Scale) -> None:
    """See that there is room on the disk, and take all the open files that are allowed."""
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise Missing(f"{work} can't be used ({fault.strerror}): name another --work") from fault
    if not scale.quick and (free := shutil.disk_usage(work).free) < ROOM:
        raise Missing(
            f"{work} has room for {free / 1e9:.0f} GB, {ROOM / 1e9:.0f} are needed: "
            "name another disk with --work"
        )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # The servers are to be found as they are installed, whatever this shell says.
    for name in [name for name in os.environ if name.startswith(("AAR_", "AMS_", "AMC_"))]:
        del os.environ[name]


def _measure(
    measure: Measure,
    scale: Scale,
    contenders: tuple[str, ...],
    work: Path,
    runner: Python,
    folder: Path,
) -> Report:
    """Run one measurement in a lab of its own, save and print it."""
    print(f"{measure.name}: {measure.title}", file=sys.stderr, flush=True)
    at, begun = environment.describe(), time.monotonic()
    with Lab(runner.path, work, contenders) as lab:
        measured = measure.run(lab, scale)
        notes = [*measured.notes, *lab.ciphers()]
    report = Report(
        measure.name,
        measure.title,
        scale.rounds,
        scale.quick,
        at | {"load_after": list(os.getloadavg()), "seconds": round(time.monotonic() - begun)},
        measured.rows,
        measured.goals,
        notes,
    )
    report.save(folder)
    print(table.render(report), flush=True)
    print(f"{measure.name}: took {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return report


def _summarise(reports: list[Report], folder: Path) -> None:
    verdicts = [goal.met for report in reports for goal in report.goals]
    met, missed, unknown = (verdicts.count(verdict) for verdict in (True, False, None))
    tried = " (tried out: the figures mean nothing)" if reports[0].quick else ""
    print(f"goals: {met} met, {missed} not met, {unknown} not measured{tried}; {folder}")


if __name__ == "__main__":
    main(prog_name="./dev bench")

"""Figures of the benchmarks: rounds in turn, medians, goals, what is written about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.benches import catalogue, results, rounds, table
from support.benches import environment as machine

Sample, Row, Rows = results.Sample, results.Row, results.Rows


def test_rounds_go_in_turn_and_the_first_may_be_thrown_away() -> None:
    order: list[str] = []

    def trial(case: str, contender: str) -> rounds.Trial:
        def run() -> results.Sample:
            order.append(case + contender)
            return Sample(value=float(len(order)))

        return rounds.Trial(case, contender, "requests/s", "request", run)

    trials = [trial("x", "a"), trial("y", "a"), trial("x", "b")]
    rows = rounds.interleave(trials, 2, warm_up=True)
    assert order == ["xa", "xb"] * 3 + ["ya"] * 3
    assert [(row.case, row.contender, len(row.samples)) for row in rows] == [
        ("x", "a", 2),
        ("x", "b", 2),
        ("y", "a", 2),
    ]
    assert rows[0].median == 4.0  # of the third and the fifth call


def row(case: str, contender: str, *values: float, **more: float) -> results.Row:
    samples = [
        Sample(value, cpu=2 * value, work=4.0, peak=10**6, more=dict(more)) for value in values
    ]
    return Row(case, contender, "requests/s", "1,000 requests", samples)


def test_rows_give_medians_and_ratios() -> None:
    found = Rows([row("read", "aar", 9.0, 1.0, 6.0, p99=8.0), row("read", "peer", 2.0, p99=16.0)])
    ours = found.get("read", "aar")
    assert ours is not None
    assert (ours.median, ours.lowest, ours.highest) == (6.0, 1.0, 9.0)
    assert (ours.cpu, ours.peak) == (3.0, 10**6)
    assert found.ratio("read", "aar", "peer") == 3.0
    assert found.ratio("read", "aar", "peer", "p99") == 0.5
    assert found.ratio("read", "aar", "nobody") is None
    assert found.value("write", "aar") is None


@pytest.mark.parametrize(
    ("make", "value", "met"),
    [
        (results.at_least, 2.5, True),
        (results.at_least, 2.49, False),
        (results.at_least, None, None),
        (results.at_most, 2.5, True),
        (results.at_most, 2.51, False),
        (results.at_most, None, None),
    ],
)
def test_goals(
    make: Callable[[str, float | None, float], results.Goal], value: float | None, met: bool | None
) -> None:
    assert make("reads", value, 2.5).met is met


def report() -> results.Report:
    rows = [row("read", "aar", 1.0, 3.0), row("read", "peer", 12345.0)]
    goals = [
        results.at_least("fast", 1.0, 2.0),
        results.at_most("small", 1.0, 2.0),
        results.at_most("unknown", None, 2.0),
    ]
    place = machine.describe()
    return results.Report("small", "Small reads", 2, False, place, rows, goals, ["a note"])


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    made = report()
    made.save(tmp_path)
    assert results.Report.load(tmp_path / "small.json") == made


def test_tables_say_what_was_met(tmp_path: Path) -> None:
    made = report()
    text = table.render(made)
    assert "| read | aar    | 2      | 1 - 3" in text
    assert "12,345" in text
    assert "| fast ≥ 2    | 1        | **not met**  |" in text
    assert "| small ≤ 2   | 1        | met          |" in text
    assert "| unknown ≤ 2 | -        | not measured |" in text
    assert "- a note" in text
    made.save(tmp_path)
    page = table.page(tmp_path)
    assert page.startswith("# Results") and "2 rounds" in page and "Small reads" in page
    assert "small.png" not in page


def test_the_machine_is_described() -> None:
    found = machine.describe()
    assert found["cores"] >= 1 and found["memory"] > 0 and found["cpu"]


def test_a_filled_catalogue_is_what_pushing_makes(tmp_path: Path) -> None:
    total = catalogue.fill(tmp_path, catalogue.entries(25))
    assert total == 25
    for at in (0, 9, 10, 24):
        catalogue.check(tmp_path, next(catalogue.entries(1, first=at)), 25)
    # Adding goes on where the feed is.
    catalogue.fill(tmp_path, catalogue.entries(5, prefix="more"))
    catalogue.check(tmp_path, next(catalogue.entries(1, prefix="more", first=4)), 30)

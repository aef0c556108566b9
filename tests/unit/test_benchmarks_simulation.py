"""The simulated fleet, held to what can be computed by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.benches import capacity, release, results, sharing

WIDE = 1e12
UNIT = capacity.Capacity(
    cores=2,
    request=0.0002,
    connection=0.001,
    wake=0.0002,
    link=0.002,
    per_gb=0.5,
    waiting_bytes=50_000,
)


@pytest.mark.parametrize(
    ("running", "links", "rates"),
    [
        ([1, 1], sharing.Links(WIDE, WIDE, 10), [10, 10]),  # the receiver's link is narrow
        ([1, 4], sharing.Links(WIDE, 10, WIDE), [10, 2.5]),  # each place's is
        ([1, 4], sharing.Links(10, WIDE, WIDE), [2, 2]),  # the source's is
        ([1, 4], sharing.Links(15, 10, WIDE), [5, 2.5]),  # the second place's, then the source's
        ([3, 0], sharing.Links(9, WIDE, WIDE), [3, 0]),
    ],
)
def test_the_narrowest_link_decides(
    running: list[int], links: sharing.Links, rates: list[float]
) -> None:
    assert sharing.fair_rates(running, links) == pytest.approx(rates)


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=8),
    *[st.floats(1, 1e6) for _ in range(3)],
)
def test_no_link_carries_more_than_it_can_and_none_that_is_wanted_idles(
    running: list[int], source: float, place: float, receiver: float
) -> None:
    rates = sharing.fair_rates(running, sharing.Links(source, place, receiver))
    total = sum(rate * count for rate, count in zip(rates, running, strict=True))
    assert total <= source * (1 + 1e-9)
    for rate, count in zip(rates, running, strict=True):
        assert rate <= receiver * (1 + 1e-9)
        assert rate * count <= place * (1 + 1e-9)
        bound = total >= source * (1 - 1e-9)
        narrow = rate >= min(receiver, place / count) * (1 - 1e-9) if count else True
        assert bound or narrow


def test_transfers_share_and_the_last_ends_when_all_bytes_have_passed() -> None:
    links = sharing.Links(source=10, place=WIDE, receiver=WIDE)
    ended = sharing.transfer([[0, 0], [0, 0]], 100, links, quantum=0)
    assert ended.times == pytest.approx([40] * 4)
    assert ended.at_once == 4


def test_a_late_one_takes_its_share_of_what_is_left() -> None:
    links = sharing.Links(source=10, place=WIDE, receiver=WIDE)
    # Alone for 5 s: 50 bytes. Then both at 5/s: the first ends at 15, the second has the rest.
    ended = sharing.transfer([[0], [5]], 100, links, quantum=0)
    assert ended.times == pytest.approx([15, 20])


def test_nothing_to_transfer() -> None:
    assert sharing.transfer([[], []], 100, sharing.Links(1, 1, 1)).times == ()


def test_the_time_to_the_last_is_the_bytes_over_the_source() -> None:
    fleet = release.Fleet(clients=2_000, places=4, package=1e9, place_link=WIDE, client_link=WIDE)
    knobs = release.Knobs(units=2, redirected=False, unit_link=1e9)
    found = release.simulate(fleet, knobs, UNIT)
    assert found.last == pytest.approx(2_000 / 2, rel=0.01)
    # At 1 GB/s a unit spends half of one of its two cores.
    assert found.bulk_load == pytest.approx(0.25, rel=0.02)


def test_each_knob_turns_what_it_is_for() -> None:
    fleet = release.Fleet(clients=5_000, places=5, package=1e8)
    base = release.Knobs(units=1, store_link=1e9)
    found = {
        name: release.simulate(fleet, knobs, UNIT)
        for name, knobs in {
            "base": base,
            "units": replace(base, units=5),
            "spread": replace(base, spread=3600),
            "interval": replace(base, long_poll=False),
            "store": replace(base, store_link=2e9),
            "bulk": replace(base, redirected=False, unit_link=1e9),
        }.items()
    }
    before = found["base"]
    assert found["units"].storm == pytest.approx(before.storm / 5)
    assert found["units"].idle_load == pytest.approx(before.idle_load / 5)
    assert found["units"].waiting_memory == pytest.approx(before.waiting_memory / 5)
    assert found["spread"].queue < before.queue / 10
    assert found["spread"].at_once < before.at_once / 2
    assert found["interval"].idle_load < before.idle_load
    assert found["interval"].waiting_memory == 0
    assert found["store"].last < before.last * 0.6
    assert before.bulk_load == 0 < found["bulk"].bulk_load


def test_the_same_seed_gives_the_same_figures() -> None:
    fleet = release.Fleet(clients=500, places=5, package=1e8)
    knobs = release.Knobs(spread=60)
    assert release.simulate(fleet, knobs, UNIT, 7) == release.simulate(fleet, knobs, UNIT, 7)


def test_a_units_capacity_is_read_from_what_was_measured(tmp_path: Path) -> None:
    def write(name: str, *rows: tuple[str, str, float, float]) -> None:
        made = [
            results.Row(case, who, "x", "y", [results.Sample(value, cpu=cpu)])
            for case, who, value, cpu in rows
        ]
        at = {"cores": 2}
        results.Report(name, name, 1, False, at, made, [], []).save(tmp_path)

    write("small", ("manifest, kept connection", "aar", 1, 0.2))
    write(
        "units",
        ("no-change poll", "1 unit", 1, 0.3),
        ("no-change poll", "2 units", 1, 9.0),
        ("100 MB down, 4 streams", "1 unit", 1, 0.9),
        ("redirected download", "redirecting unit", 1, 3.0),
    )
    with pytest.raises(FileNotFoundError):
        capacity.from_results(tmp_path)
    write("idle", ("2,000 long-polling", "aar", 40, 1))
    with pytest.raises(LookupError, match="new connection"):
        capacity.from_results(tmp_path)
    write(
        "small",
        ("manifest, kept connection", "aar", 1, 0.2),
        ("manifest, new connection", "aar", 1, 1.2),
    )
    found = capacity.from_results(tmp_path)
    assert found.cores == 2
    seconds = (found.request, found.connection, found.wake, found.link, found.per_gb)
    assert seconds == pytest.approx((0.0003, 0.001, 0.0003, 0.003, 0.9))
    assert found.waiting_bytes == pytest.approx(40 * 1024)

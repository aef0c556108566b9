from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regkit.rates import Rates


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_and_then_the_rate():
    clock = Clock()
    rates = Rates(2, 3, clock=clock)
    assert [rates.wait("a") for _ in range(3)] == [0, 0, 0]
    assert rates.wait("a") == pytest.approx(0.5)
    assert rates.wait("a") == pytest.approx(0.5)
    assert rates.wait("b") == 0
    clock.now += 0.5
    assert rates.wait("a") == 0
    assert rates.wait("a") > 0
    clock.now += 1000
    assert [bool(rates.wait("a")) for _ in range(4)] == [False] * 3 + [True]


@given(
    rate=st.floats(0.1, 100),
    burst=st.integers(1, 50),
    steps=st.lists(st.floats(0, 3), max_size=200),
)
def test_never_more_than_the_burst_and_the_rate(rate: float, burst: int, steps: list[float]):
    clock = Clock()
    rates = Rates(rate, burst, clock=clock)
    allowed = 0
    for step in steps:
        clock.now += step
        wait = rates.wait("a")
        allowed += not wait
        assert allowed <= burst + clock.now * rate + 1e-6
        if wait:
            clock.now += wait + 1e-9
            assert rates.wait("a") < 1e-6
            allowed += 1


def test_memory_is_bounded_and_the_quietest_is_forgotten():
    clock = Clock()
    rates = Rates(0.001, 1, keys=3, clock=clock)
    for key in "abc":
        assert rates.wait(key) == 0
    assert rates.wait("a") > 0
    assert rates.wait("d") == 0  # in the place of b
    assert rates.wait("a") > 0
    assert rates.wait("b") == 0
    assert len(rates._buckets) == 3

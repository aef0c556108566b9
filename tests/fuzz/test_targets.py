"""Each parser of foreign bytes: a value or its documented error, whatever hypothesis invents."""

from __future__ import annotations

import sys
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS

CASES = 200
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)
told: dict[str, tuple[Counter[str], float]] = {}

PIECES = st.sampled_from(
    [b"", b"\0", b"\n", b"-", b"../", b"[", b"{", b"}", b'"', b"\xff", b"\xed\xa0\x80", b":", b"0"]
)
"""What parsers stumble over."""


@st.composite
def bytes_like(draw: st.DrawFn, good: tuple[bytes, ...]) -> bytes:
    """Any bytes, or a good example with a few places changed, cut out or repeated."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(_encoded)))
    raw = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        to = min(len(raw), at + draw(st.sampled_from([0, 0, 1, 2, 16, 512])))
        piece = draw(st.one_of(PIECES, st.binary(max_size=4), st.just(bytes(raw[at:to]) * 2)))
        raw[at:to] = piece
    return bytes(raw)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("name", TARGETS)
def test_a_value_or_the_documented_error(name: str):
    target = TARGETS[name]
    counts: Counter[str] = Counter()

    for raw in target.good:
        target.read(raw)

    @settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=SLOW)
    @given(bytes_like(target.good))
    def check(raw: bytes) -> None:
        try:
            target.read(raw)
        except target.errors as error:
            counts["refused"] += 1
            # What an operator reads is one line that can be printed.
            assert "\n" not in str(error)
            str(error).encode()
        else:
            counts["taken"] += 1

    began = time.monotonic()
    check()
    told[name] = counts, time.monotonic() - began
    assert counts.total() >= CASES // 2


def test_how_many_there_were(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    if len(told) < len(TARGETS):
        pytest.skip("needs the other tests of this file")
    cases = sum((counts for counts, _ in told.values()), Counter())
    seconds = sum(took for _, took in told.values())
    with capsys.disabled():
        print(
            f"\nfuzzed: {len(told)} parsers, {cases.total()} cases ({cases['taken']} taken, "
            f"{cases['refused']} refused) in {seconds:.0f} s",
            file=sys.stderr,
        )
    assert cases["taken"] and cases["refused"]

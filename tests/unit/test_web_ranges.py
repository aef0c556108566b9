"""The range headers of the distribution API, as pure functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aar.web.distribution.ranges import Span, Unsatisfiable, announced, requested
from regkit.errors import Invalid


@pytest.mark.parametrize(
    ("header", "size", "span"),
    [
        (None, 10, None),
        ("", 10, None),
        ("bytes=0-9", 10, Span(0, 10)),
        ("bytes=2-4", 10, Span(2, 5)),
        ("BYTES= 2 - 4 ", 10, Span(2, 5)),
        ("bytes=9-", 10, Span(9, 10)),
        ("bytes=-3", 10, Span(7, 10)),
        ("bytes=-30", 10, Span(0, 10)),
        ("bytes=3-99", 10, Span(3, 10)),
        ("bytes=4-2", 10, None),
        ("bytes=-", 10, None),
        ("bytes=0-1,3-4", 10, None),
        ("items=0-1", 10, None),
        ("bytes=+1-2", 10, None),
        ("bytes=1_0-20", 10, None),
        ("bytes=\u0661-\u0662", 10, None),
    ],
)
def test_requested(header, size, span):
    assert requested(header, size) == span


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0)]
)
def test_unsatisfiable(header, size):
    with pytest.raises(Unsatisfiable):
        requested(header, size)


@given(st.text(max_size=60), st.integers(0, 2**63))
def test_any_text_gives_a_span_inside_or_nothing(text, size):
    try:
        span = requested("bytes=" + text, size)
    except Unsatisfiable:
        return
    assert span is None or 0 <= span.start < span.stop <= size


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("0-0", Span(0, 1)),
        ("5-9", Span(5, 10)),
        ("bytes 5-9/100", Span(5, 10)),
        ("bytes=5-9", Span(5, 10)),
        ("bytes 5-9/*", Span(5, 10)),
    ],
)
def test_announced(header, span):
    assert announced(header) == span


@pytest.mark.parametrize(
    "header", ["", "5", "-5", "5-", "9-5", "a-b", "0-" + "9" * 300, "0-1,2-3"]
)
def test_not_announced_properly(header):
    with pytest.raises(Invalid):
        announced(header)

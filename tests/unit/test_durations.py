"""Durations in Go's notation."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regkit.durations import MAX, parse, render


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", timedelta()),
        ("0s", timedelta()),
        ("90s", timedelta(seconds=90)),
        (" 5m ", timedelta(minutes=5)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        (".5s", timedelta(milliseconds=500)),
        ("500ms", timedelta(milliseconds=500)),
        ("10us", timedelta(microseconds=10)),
        ("10µs", timedelta(microseconds=10)),
        ("1999ns", timedelta(microseconds=1)),
        ("30m1h", timedelta(minutes=90)),
        (f"{366 * 10 * 24}h", MAX),
    ],
)
def test_notation(text: str, expected: timedelta) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "5", "5 m", "m", "-5m", "+5m", "1d", "1h 30m", "1e3s", "5mx", "x5m", "\u0665m"],
)
def test_anything_else_is_refused_with_the_notation(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 30s, 5m or 1h30m"):
        parse(text)


@pytest.mark.parametrize("text", [f"{366 * 10 * 24}h1us", "999999999999h"])
def test_too_long_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is too long: at most 3660 days"):
        parse(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(hours=1), "1h"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(minutes=5), "5m"),
        (timedelta(milliseconds=1500), "1.5s"),
        (timedelta(hours=1, seconds=10), "1h10s"),
        (timedelta(microseconds=1), "0.000001s"),
    ],
)
def test_written_short(duration: timedelta, text: str) -> None:
    assert render(duration) == text


@given(st.timedeltas(min_value=timedelta(), max_value=MAX))
def test_what_is_written_reads_back(duration: timedelta) -> None:
    assert parse(render(duration)) == duration


@given(st.text(max_size=60))
def test_any_text_is_a_duration_in_range_or_a_value_error(text: str) -> None:
    try:
        duration = parse(text)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert timedelta() <= duration <= MAX

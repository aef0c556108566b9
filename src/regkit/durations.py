"""Durations in Go's notation (`time.ParseDuration`), as the settings of the reference use it."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

_UNITS = {
    "ns": Decimal("0.001"),
    "us": Decimal(1),
    "µs": Decimal(1),
    "ms": Decimal(1000),
    "s": Decimal(1_000_000),
    "m": Decimal(60_000_000),
    "h": Decimal(3_600_000_000),
}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})(ns|us|µs|ms|s|m|h)", re.ASCII)
MAX = timedelta(days=366 * 10)
"""Longer ones are slips of the pen, and would overflow clocks."""


def parse(text: str) -> timedelta:
    """Read `90s`, `5m`, `1h30m`, `500ms`. Raises ValueError that shows the notation."""
    stripped = text.strip()
    if stripped == "0":
        return timedelta()
    position, microseconds = 0, Decimal()
    while position < len(stripped):
        part = _PART.match(stripped, position)
        if part is None:
            break
        microseconds += Decimal(part[1]) * _UNITS[part[2]]
        position = part.end()
    if not stripped or position != len(stripped):
        raise ValueError(f"{text[:40]!r} is not a duration: write it like 30s, 5m or 1h30m")
    if microseconds > MAX // timedelta(microseconds=1):
        raise ValueError(f"{text[:40]!r} is too long: at most {MAX.days} days")
    return timedelta(microseconds=int(microseconds))


def render(duration: timedelta) -> str:
    """Write a duration so that `parse` reads it back: `1h30m`, `5m`, `0s`, `1.5s`."""
    microseconds = duration // timedelta(microseconds=1)
    hours, rest = divmod(microseconds, 3_600_000_000)
    minutes, rest = divmod(rest, 60_000_000)
    seconds = f"{Decimal(rest) / 1_000_000:f}s" if rest else ""
    return f"{hours}h" * bool(hours) + f"{minutes}m" * bool(minutes) + seconds or "0s"

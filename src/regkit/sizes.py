"""Amounts of bytes as people write them: `64GiB`, `500MB`, `4096`."""

from __future__ import annotations

import re

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}B": 1000 ** (i + 1) for i, letter in enumerate("KMGT")}
_UNITS |= {f"{letter}iB": 1024 ** (i + 1) for i, letter in enumerate("KMGT")}
_SIZE = re.compile(r"([0-9]{1,15})\s*([A-Za-z]{0,3})", re.ASCII)
MAX = 2**60


def parse(text: str) -> int:
    """Read a whole number of bytes, kB, MB, GB, TB (powers of 1000) or KiB, … TiB (of 1024).

    Raises ValueError that shows the notation.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = match[2][:1].upper() + match[2][1:] if match else None
    if match is None or unit not in _UNITS:
        raise ValueError(f"{text[:40]!r} is not a size: write it like 500MB or 64GiB")
    size = int(match[1]) * _UNITS[unit]
    if size > MAX:
        raise ValueError(f"{text[:40]!r} is too large")
    return size


def render(size: int) -> str:
    """Write a size for people: three digits and a decimal unit, such as `1.23 GB`."""
    if size < 1000:
        return f"{size} bytes"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 999.5 or unit == "PB":
            break
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {unit}"

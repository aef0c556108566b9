from __future__ import annotations

import pytest

from regkit import sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("4096", 4096), ("4096B", 4096), ("1kB", 1000), ("1KB", 1000),
        ("2 MB", 2_000_000),
        ("3GB", 3_000_000_000), ("1TB", 10**12), ("1KiB", 1024), ("64GiB", 64 * 2**30),
        (" 5MiB ", 5 * 2**20), ("1TiB", 2**40),
    ],
)  # fmt: skip
def test_sizes_are_read(text: str, size: int):
    assert sizes.parse(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "-1", "1.5GB", "1 G", "1gib", "1PB", "\u0661GB", "9" * 16]
)
def test_what_is_no_size(text: str):
    with pytest.raises(ValueError, match="is not a size"):
        sizes.parse(text)


def test_sizes_have_an_end():
    with pytest.raises(ValueError, match="too large"):
        sizes.parse("999999999999999TB")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1.00 kB"), (1234, "1.23 kB"),
        (12_345, "12.3 kB"), (123_456, "123 kB"), (999_500, "1.00 MB"), (5 * 10**9, "5.00 GB"),
        (10**18, "1000 PB"),
    ],
)  # fmt: skip
def test_sizes_are_written(size: int, text: str):
    assert sizes.render(size) == text

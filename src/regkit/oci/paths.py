"""Paths of a package's files as a whole: none may be a folder of another.

What one path may look like is the business of whoever reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise


def below_a_file(paths: Iterable[str]) -> str | None:
    """Return a path that is given twice or lies below another one; None when there is none.

    In sorted order whatever lies below a path follows it at once, so that neighbours are all that
    must be compared: strangers choose the paths, and every folder of every path would be
    gigabytes for a package of a few kilobytes.
    """
    ordered = sorted(f"{path}/" for path in paths)
    for path, following in pairwise(ordered):
        if following.startswith(path):
            return following[:-1]
    return None

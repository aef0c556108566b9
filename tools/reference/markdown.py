"""Pieces of Markdown that several pages need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, ending in a newline."""
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Put a paragraph on one line; what would be taken for HTML outside of code is escaped."""
    pieces = " ".join(text.split()).split("`")
    pieces[::2] = [piece.replace("<", "\\<") for piece in pieces[::2]]
    return "`".join(pieces)

"""JSON from strangers, read without surprises.

What Python's `json` lets pass and other readers see differently is refused: keys given twice,
NaN and Infinity, lone surrogates, very deep nesting.
"""

from __future__ import annotations

import json
import math
from typing import Any

from regkit.errors import Invalid

MAX_DEPTH = 64


def load_object(content: bytes, what: str) -> dict[str, Any]:
    """Parse one JSON object. `what` begins the error's message. Raises Invalid."""
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except RecursionError:
        raise Invalid(f"{what} is nested too deeply") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise Invalid(f"{what} is not valid JSON: {_brief(error)}") from None
    if not isinstance(value, dict):
        raise Invalid(f"{what} must be a JSON object")
    check_plain(value, what)
    return value


def check_plain(value: Any, what: str, depth: int = 0) -> None:
    """Check that `value` is JSON data that survives writing and reading. Raises Invalid."""
    if depth > MAX_DEPTH:
        raise Invalid(f"{what} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise Invalid(f"{what} has the key {key!r}, which is not a text")
            _check_text(key, what)
            check_plain(item, what, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_plain(item, what, depth + 1)
    elif isinstance(value, str):
        _check_text(value, what)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Invalid(f"{what} holds a number that JSON can't express")
    elif value is not None and not isinstance(value, (bool, int)):
        raise Invalid(f"{what} holds a {type(value).__name__}, which JSON can't express")


def dump(value: Any) -> bytes:
    """Write JSON in one canonical way: sorted keys, no spaces, UTF-8."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def _check_text(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{what} holds a text that is not valid Unicode") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is given twice")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:120]

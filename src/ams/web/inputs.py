"""Parsing what callers send: JSON bodies and query parameters, into plain values or Invalid."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, TypeVar

from flask import request
from pydantic import BaseModel, ValidationError

from regkit import documents, durations, serving
from regkit.errors import Invalid, TooLarge

MAX_JSON = 1024 * 1024
"""Bytes of a JSON body. Packages take another way."""

Model = TypeVar("Model", bound=BaseModel)


def json_body(model: type[Model]) -> Model:
    """Read the request's body as `model`; no body counts as an empty object.

    The content type isn't looked at, as the public SDK sends none. Raises Invalid, TooLarge.
    """
    content = b""
    for chunk in serving.read_body(request.environ):
        content += chunk
        if len(content) > MAX_JSON:
            raise TooLarge(f"the request's body is too large (over {MAX_JSON} bytes)")
    try:
        document: Any = json.loads(content, parse_constant=_refuse) if content.strip() else {}
        json.dumps(document, ensure_ascii=False).encode()  # half a character is no text
    except (ValueError, RecursionError):
        raise Invalid("the request's body is not JSON") from None
    if not isinstance(document, dict):
        raise Invalid("the request's body must be a JSON object")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise Invalid(f"the request's body can't be used: {documents.faults(error)}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def flag(name: str, default: bool = False) -> bool:
    """Read a query parameter like `recursion=1` or `vm=true`. Raises Invalid."""
    text = request.args.get(name, "").lower()
    if not text:
        return default
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise Invalid(f"{name}: {text[:40]!r} is neither true nor false")


def page() -> tuple[int, int | None]:
    """Read `offset` and `limit`; no limit gives everything. Raises Invalid."""
    return _count("offset") or 0, _count("limit")


def _count(name: str) -> int | None:
    text = request.args.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid(f"{name}: {text[:40]!r} is not a number of applications")
    return int(text)


def wait_time(longest: timedelta) -> timedelta:
    """Read `timeout`, in seconds or as a Go duration; none or -1 means `longest`.

    Raises Invalid.
    """
    text = request.args.get("timeout", "").strip()
    if text in ("", "-1"):
        return longest
    try:
        asked = (
            timedelta(seconds=int(text))
            if text.isascii() and text.isdigit() and len(text) < 10
            else durations.parse(text)
        )
    except ValueError as error:
        raise Invalid(f"timeout: {error}") from None
    return min(asked, longest)

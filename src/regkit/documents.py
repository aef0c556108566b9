"""Documents that operators and charms write: YAML or JSON, read strictly into a model.

Every fault is told at once, in one line, with the key that it stands at. What a document means is
its model's business.
"""

from __future__ import annotations

import contextlib
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from regkit import yamlsafe
from regkit.errors import Invalid
from regkit.oci import strict

MAX_FAULTS = 20
"""More would hide what is wrong, not say it."""

MAX_KEY = 100
"""Characters of a key that are shown."""

Model = TypeVar("Model", bound=BaseModel)


def load(raw: bytes, source: str, limit: int) -> Any:
    """Read one document of at most `limit` bytes; None when it is empty.

    Scalars of YAML are texts as they were written, since only the field knows what `on`, `0123`
    or `1:30` should be; JSON has types of its own and keeps them. `source` begins every message.
    Raises Invalid.
    """
    if len(raw) > limit:
        raise Invalid(f"{source} is too large (over {limit} bytes)")
    if raw.lstrip()[:1] == b"{":
        # YAML's flow style begins like that too, and its messages name the line.
        with contextlib.suppress(Invalid):
            return strict.load_object(raw, source)
    try:
        return yamlsafe.load(raw, limit)
    except yamlsafe.InvalidYaml as error:
        raise Invalid(f"{source}: {error}") from None


def parse(content: Any, source: str, model: type[Model]) -> Model:
    """Validate what `load` gave. Raises Invalid with the faults, each with its key."""
    if not isinstance(content, dict):
        keys = [field.alias or name for name, field in model.model_fields.items()]
        examples = " and ".join(f"'{key}:'" for key in keys[:2])
        raise Invalid(f"{source} must hold keys and values, such as {examples}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise Invalid(f"{source}: {faults(error)}") from None


def faults(error: ValidationError) -> str:
    """Say what pydantic found in one line."""
    found = error.errors(include_url=False)
    told = "; ".join(describe(fault) for fault in found[:MAX_FAULTS])
    more = len(found) - MAX_FAULTS
    return f"{told}; and {more} more" if more > 0 else told


def describe(fault: ErrorDetails) -> str:
    """Say one pydantic fault as `key.path[0]: what is wrong`, without repeating secrets."""
    where = ""
    for part in fault["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{_key(part)}"
    where = where.removeprefix(".")
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if fault["type"] == "missing":
        return f"{where}: is missing"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}" if where else message


def _key(part: str) -> str:
    """Return a key as it may stand in a message: strangers wrote it, and it may be anything."""
    shown = part if len(part) <= MAX_KEY else f"{part[:MAX_KEY]}…"
    return shown if shown.isprintable() else repr(shown)

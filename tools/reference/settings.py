"""The options of `amc config` and the keys of both `conf/main.yaml` as one page."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from regkit import durations
from regkit.settings import Section
from tools.reference.markdown import escaped, table

INTRODUCTION = """\
# Settings

Each service keeps its state below one folder, its state root:

1. `$AAR_HOME`, `$AMS_HOME`
2. `$SNAP_COMMON`
3. `/var/snap/aar/common`, `/var/snap/ams/common` for root
4. `aar`, `ams` below `$XDG_STATE_HOME`, or below `~/.local/state`

What a service must know before it opens its database is in `conf/main.yaml` there. What can be
changed while the management service runs is an option of `amc config`.
"""

FILE = """\
Read at start; SIGHUP reads `log.level` anew. Every key may be left out, an unknown one is an
error. `{check}` tells whether a file is in order.
"""


def page() -> str:
    """Return the page."""
    from aar.settings import Settings as Registry  # noqa: PLC0415
    from ams.options import OPTIONS  # noqa: PLC0415
    from ams.settings import Settings as Service  # noqa: PLC0415

    options = [
        (f"`{option.name}`", _code(option.default), escaped(option.description))
        for option in OPTIONS.values()
    ]
    return "\n".join(
        [
            INTRODUCTION,
            "## Options of amc config\n",
            "`amc config set <name> <value>` sets one, an empty value restores its default.\n",
            table(("name", "default", "meaning"), options),
            "## conf/main.yaml of aar\n",
            FILE.format(check="aar check-config <file>"),
            table(("key", "default", "meaning"), list(_keys(Registry))),
            "## conf/main.yaml of ams\n",
            FILE.format(check="ams check-config <file>"),
            table(("key", "default", "meaning"), list(_keys(Service))),
        ]
    )


def _keys(model: type[Section], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    documented = _documented(model)
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        if section := _section(field.annotation):
            yield from _keys(section, f"{key}.")
            continue
        if name not in documented:
            raise LookupError(f"{model.__module__}.{model.__name__}.{name} has no docstring")
        meaning = escaped(documented[name])
        if choices := _choices(field.annotation):
            meaning += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
        yield f"`{key}`", _default(field), meaning


def _section(annotation: Any) -> type[Section] | None:
    """Return the section that a field is, also one that may be left out."""
    for kind in (annotation, *get_args(annotation)):
        if inspect.isclass(kind) and issubclass(kind, Section):
            return kind
    return None


def _documented(model: type[Section]) -> dict[str, str]:
    """Return the docstrings below a model's fields, which Python itself forgets."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, Section):
            found |= _own_documented(kind)
    return found


def _own_documented(model: type[Section]) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    found: dict[str, str] = {}
    for field, after in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(after.value.value).split())
    return found


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next(filter(None, map(_choices, get_args(annotation))), ())


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if field.default_factory is not None or value is None or value == ():
        return ""
    if isinstance(value, bool):
        return _code(str(value).lower())
    return _code(durations.render(value) if isinstance(value, timedelta) else str(value))


def _code(text: str) -> str:
    return f"`{text}`" if text else ""

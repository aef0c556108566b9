"""What a view promises: the words in which each route says it, beside its code.

`swagger` makes the published description of these, and tests hold every route and every answer
to it. Nothing is checked here while requests are served: parsing is `inputs`' business, and the
answers' types are the type checker's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

Schema = Mapping[str, Any]
F = TypeVar("F", bound=Callable[..., Any])

_CONTRACT = "_ams_contract"


@dataclass(frozen=True)
class Parameter:
    """A query parameter or a header of a request."""

    name: str
    description: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    where: Literal["query", "header"] = "query"


@dataclass(frozen=True)
class Sync:
    """An envelope of type `sync`, whose metadata has the type `of`; `total` with its length."""

    of: Any
    total: bool = False
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Async:
    """An envelope of type `async` that names an operation."""


@dataclass(frozen=True)
class File:
    """A body that is no envelope."""

    media_type: str
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Websocket:
    """A connection that becomes a websocket; each message is an event as JSON."""


Answer = Sync | Async | File | Websocket


@dataclass(frozen=True)
class Body:
    """The body of a request: a JSON object of the type `of`, the bytes of a package, or either."""

    of: type[BaseModel] | None = None
    package: bool = False


@dataclass(frozen=True)
class Contract:
    """What one method of one path takes and answers. Faults that any view may have are implied."""

    answers: tuple[Answer, ...]
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    faults: tuple[int, ...] = ()
    not_modified: bool = False


def promises(
    *answers: Answer,
    parameters: tuple[Parameter, ...] = (),
    body: Body | None = None,
    faults: tuple[int, ...] = (),
    not_modified: bool = False,
) -> Callable[[F], F]:
    """Write a view's contract at the view. `faults` are its own error codes."""

    def attach(view: F) -> F:
        contract = Contract(answers, parameters, body, faults, not_modified)
        setattr(view, _CONTRACT, contract)
        return view

    return attach


def contract_of(view: Callable[..., Any]) -> Contract | None:
    """Return the contract at a view, if it has one."""
    return getattr(view, _CONTRACT, None)


FLAG: Schema = {"enum": ["0", "1", "true", "false", "yes", "no", "on", "off"]}
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 999_999_999}

RECURSION = Parameter("recursion", "With 1 the objects themselves, with 0 their URLs.", FLAG)
IF_MATCH = Parameter(
    "If-Match",
    "Only if the application still has one of these ETags (those of GET).",
    where="header",
)
IF_NONE_MATCH = Parameter(
    "If-None-Match", "Answer 304 if the application has this ETag.", where="header"
)
FINGERPRINT = Parameter(
    "X-AMS-Fingerprint",
    "SHA-256 of the body; when given, it must match.",
    {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
    where="header",
)

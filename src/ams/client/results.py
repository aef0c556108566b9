"""What the service answers, as values.

The answers of a service that this machine or the operator chose are parsed here once, so that
nothing else indexes into JSON. `document` keeps an object as it came, for output to programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from regkit.errors import ServiceError

SUCCESS, FAILURE, CANCELLED = 200, 400, 401
"""Final status codes of an operation; every smaller one means that it still runs."""


class BadAnswer(ServiceError):  # noqa: N818 - the name states the fault
    """What came back isn't what the management service answers."""


@dataclass(frozen=True)
class Operation:
    """Work that goes on in the service. `metadata` carries progress while it runs.

    Times are RFC 3339, as the API gives them.
    """

    id: str
    description: str
    status: str
    status_code: int
    may_cancel: bool
    err: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, list[str]] = field(default_factory=dict)
    created: str = ""
    updated: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether it has ended, well or not."""
        return self.status_code >= SUCCESS

    @classmethod
    def parse(cls, document: Any) -> Operation:
        """Read the API's operation object. Raises BadAnswer."""
        body = _mapping(document, "operation")
        return cls(
            id=_text(body, "id"),
            description=_text(body, "description"),
            status=_text(body, "status"),
            status_code=_number(body, "status_code"),
            may_cancel=bool(body.get("may_cancel")),
            err=str(body.get("err") or ""),
            metadata=_mapping(body.get("metadata") or {}, "operation"),
            resources=_mapping(body.get("resources") or {}, "operation"),
            created=str(body.get("created_at") or ""),
            updated=str(body.get("updated_at") or ""),
            document=body,
        )


@dataclass(frozen=True)
class Application:
    """An application as the service lists it. `updated` is aware, UTC."""

    id: str
    name: str
    status: str
    published: bool
    immutable: bool
    instance_type: str
    addons: tuple[str, ...]
    tags: tuple[str, ...]
    updated: datetime
    versions: tuple[Mapping[str, Any], ...]
    document: Mapping[str, Any]

    @classmethod
    def parse(cls, document: Any) -> Application:
        """Read the API's application object. Raises BadAnswer."""
        body = _mapping(document, "application")
        moment = body.get("updated_at") or body.get("created_at") or 0
        return cls(
            id=_text(body, "id"),
            name=_text(body, "name"),
            status=_text(body, "status"),
            published=bool(body.get("published")),
            immutable=bool(body.get("immutable")),
            instance_type=str(body.get("instance_type") or ""),
            addons=tuple(map(str, body.get("addons") or ())),
            tags=tuple(map(str, body.get("tags") or ())),
            updated=datetime.fromtimestamp(moment, timezone.utc),
            versions=tuple(_mapping(v, "version") for v in body.get("versions") or ()),
            document=body,
        )


@dataclass(frozen=True)
class TrustedCertificate:
    """A row of the service's trust store. Times are RFC 3339, as the API gives them."""

    fingerprint: str
    common_name: str
    issued: str
    expires: str
    certificate: str

    @classmethod
    def parse(cls, document: Any) -> TrustedCertificate:
        """Read the API's certificate object. Raises BadAnswer."""
        body = _mapping(document, "certificate")
        return cls(
            fingerprint=_text(body, "fingerprint"),
            common_name=str(body.get("common_name") or ""),
            issued=str(body.get("issued_at") or ""),
            expires=str(body.get("expires_at") or ""),
            certificate=_text(body, "certificate"),
        )


def mapping(document: Any, what: str) -> dict[str, Any]:
    """Return `document` if it is a JSON object. Raises BadAnswer that names `what`."""
    return _mapping(document, what)


def _mapping(document: Any, what: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise BadAnswer(
            f"the service's answer holds no valid {what}: are amc and ams of one version?"
        )
    return document


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise BadAnswer(f"the service's answer lacks {key!r}: are amc and ams of one version?")
    return value


def _number(body: Mapping[str, Any], key: str) -> int:
    value = body.get(key)
    if not isinstance(value, int):
        raise BadAnswer(f"the service's answer lacks {key!r}: are amc and ams of one version?")
    return value

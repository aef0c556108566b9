"""Who is asking, and may they.

Callers on the unix socket are trusted: the socket's file permissions let them in. Over TLS a
caller needs a certificate that is in the trust store and may stand for a client, so that a
registry's server certificate in the same store opens nothing. Every refusal is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Blueprint, current_app, g, request

from ams.service import Service
from regkit import logs, serving
from regkit.trust import Refused

log = logs.get("ams.access")

F = TypeVar("F", bound=Callable[..., Any])

EXTENSION = "ams"
_OPEN = "_ams_open"


@dataclass(frozen=True)
class Caller:
    """Who sent the request: `name` for the log, and why it is refused, if it is."""

    name: str
    refusal: Refused | None = None

    @property
    def trusted(self) -> bool:
        """Whether everything is open to the caller."""
        return self.refusal is None


def service() -> Service:
    """Return the service that the application was made for."""
    return current_app.extensions[EXTENSION]


def caller() -> Caller:
    """Return who sent the current request; asked once per request."""
    if "ams_caller" not in g:
        g.ams_caller = _identify()
    return g.ams_caller


def open_to_all(view: F) -> F:
    """Mark a view that answers callers who aren't trusted."""
    setattr(view, _OPEN, True)
    return view


def is_open(view: Any) -> bool:
    """Return whether a view answers callers who aren't trusted."""
    return getattr(view, _OPEN, False)


def still_trusted() -> Callable[[], None]:
    """Return a check of the current request's caller that may be asked again long after.

    It raises Refused once the trust was taken away or the certificate has expired.
    """
    local = serving.is_local(request.environ)
    certificate = serving.peer_certificate(request.environ)
    trust = service().trust

    def check() -> None:
        if not local:
            trust.admit(certificate)

    return check


def watched(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass the chunks of a long transfer on for as long as its caller is trusted.

    It must be called while the request is at hand. Raises Refused at the first chunk after the
    trust was taken away.
    """
    check = still_trusted()

    def checked() -> Iterator[bytes]:
        for chunk in chunks:
            check()
            yield chunk

    return checked()


def guard(blueprint_or_app: Any) -> None:
    """Refuse untrusted callers before any view that isn't `open_to_all`, and unknown paths too."""
    blueprint_or_app.before_request(_admit)


def _admit() -> None:
    view = current_app.view_functions.get(request.endpoint or "")
    if is_open(view):
        return
    admit_trusted()


def admit_trusted() -> None:
    """Let the current request's caller pass, or log who tried what and raise Refused."""
    who = caller()
    if who.refusal is None:
        return
    log.warning(
        "refused",
        method=request.method,
        path=request.path,
        reason=who.refusal.reason,
        fingerprint=who.refusal.fingerprint or "",
        address=request.remote_addr or "",
    )
    raise who.refusal


def _identify() -> Caller:
    if serving.is_local(request.environ):
        return Caller("unix")
    certificate = serving.peer_certificate(request.environ)
    try:
        entry = service().trust.admit(certificate)
        if certificate is not None and not certificate.client_usable:
            raise Refused("the certificate is a server's, not a client's", entry.fingerprint)
    except Refused as refusal:
        return Caller(str(refusal.fingerprint or "anonymous"), refusal)
    service().trust.touch(entry)
    return Caller(str(entry.fingerprint))


def blueprint(name: str) -> Blueprint:
    """Return a blueprint below `/1.0`."""
    return Blueprint(name, __name__, url_prefix="/1.0")

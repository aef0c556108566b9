"""`/1.0/certificates`: the trust store over the API."""

from __future__ import annotations

import base64
import threading
import time

from flask import Response, request
from pydantic import BaseModel, ConfigDict, Field

from aar_interface import Certificate, InvalidCertificate, Role
from ams.web import documents, inputs, shapes
from ams.web.access import admit_trusted, caller, open_to_all, service
from ams.web.access import blueprint as new_blueprint
from ams.web.answers import done
from ams.web.contract import RECURSION, Async, Body, Sync, promises
from regkit import logs, rest
from regkit.errors import Forbidden, Invalid, NotFound, Unavailable
from regkit.trust import Entry

log = logs.get("ams.certificates")

blueprint = new_blueprint("certificates")


WRONG_GUESS = 1.0
"""Seconds that a wrong trust password costs."""

_guessing = threading.Lock()


class NewCertificate(BaseModel):
    """A certificate as PEM, or as base64 of DER as the public SDK sends it.

    Who isn't trusted yet adds the trust password.
    """

    model_config = ConfigDict(extra="ignore")
    certificate: str = Field(min_length=1, max_length=100_000)
    trust_password: str = Field(default="", max_length=4096, alias="trust-password")


@blueprint.get("/certificates")
@promises(Sync(list[documents.Certificate] | list[documents.Url]), parameters=(RECURSION,))
def list_certificates() -> Response:
    """List the trusted certificates: whole, or as URLs with `recursion=0`."""
    entries = service().trust.list()
    if inputs.flag("recursion", default=True):
        return rest.sync([shapes.certificate(entry) for entry in entries])
    return rest.sync([_url(entry) for entry in entries])


@blueprint.post("/certificates")
@open_to_all
@promises(
    Sync(documents.Certificate, headers=("Location",)),
    body=Body(NewCertificate),
    faults=(409, 413),
)
def add_certificate() -> Response:
    """Trust a certificate. An untrusted caller needs the trust password, and its own key."""
    who = caller()
    if not service().options.get("core.trust_password"):
        admit_trusted()
    body = inputs.json_body(NewCertificate)
    if who.refusal is not None:
        _check_password(body.trust_password)
    certificate = _parse(body.certificate)
    entry = service().trust.add(certificate, Role.CLIENT)
    log.info("certificate-added", fingerprint=entry.fingerprint, by=who.name)
    service().events.lifecycle("certificate-added", _url(entry))
    response = rest.sync(shapes.certificate(entry))
    response.headers["Location"] = _url(entry)
    return response


@blueprint.get("/certificates/<prefix>")
@promises(Sync(documents.Certificate), faults=(404,))
def show_certificate(prefix: str) -> Response:
    """Return the one whose fingerprint begins with `prefix`."""
    return rest.sync(shapes.certificate(_find(prefix)))


@blueprint.delete("/certificates/<prefix>")
@promises(Async(), faults=(404,))
def remove_certificate(prefix: str) -> Response:
    """Stop trusting it."""
    entry = _find(prefix)
    service().trust.remove(entry.fingerprint)
    log.info("certificate-removed", fingerprint=entry.fingerprint, by=caller().name)
    service().events.lifecycle("certificate-removed", _url(entry))
    return done("Removing a certificate", {"certificates": [_url(entry)]})


def _check_password(password: str) -> None:
    """Let one guess through at a time, and a wrong one a second: hashing is meant to be dear.

    Raises Forbidden, Unavailable while another guess is looked at.
    """
    if not _guessing.acquire(blocking=False):
        raise Unavailable("another trust password is being checked: try again in a moment")
    try:
        if service().options.check_password(password):
            return
        log.warning("trust-password-wrong", address=request.remote_addr or "")
        time.sleep(WRONG_GUESS)
    finally:
        _guessing.release()
    raise Forbidden("not authorized: the trust password is wrong")


def _find(prefix: str) -> Entry:
    entry = service().trust.find(prefix)
    if entry.revoked:
        raise NotFound(f"the certificate {entry.fingerprint.short} was revoked")
    return entry


def _url(entry: Entry) -> str:
    return f"/1.0/certificates/{entry.fingerprint}"


def _parse(text: str) -> Certificate:
    try:
        if "-----BEGIN" in text:
            return Certificate.parse(text)
        return Certificate.from_der(base64.b64decode("".join(text.split()), validate=True))
    except InvalidCertificate as error:
        raise Invalid(str(error)) from None
    except ValueError:  # not only binascii.Error: a text may be no ASCII
        raise Invalid("the certificate is neither PEM text nor base64 of DER") from None

"""Blob uploads: end-4, end-5, end-6, end-11 and end-13 of the distribution specification.

Parses, hands the body on piece by piece, answers. What an upload is and when a chunk fits is said
in `aar.uploads`; that the sender is still trusted is asked for every piece.
"""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response, request

from aar.errors import BlobUploadInvalid, DigestInvalid, RangeInvalid, SizeInvalid
from aar.manifests import parse_digest
from aar.registry import Registry
from aar.uploads import Upload
from aar.web.access import Access, current
from aar.web.distribution import ranges
from aar.web.distribution.errors import answer
from aar.web.metrics import Metrics
from regkit.errors import Invalid
from regkit.oci.digest import Digest
from regkit.serving import read_body


def create_uploads(registry: Registry, access: Access, metrics: Metrics) -> Blueprint:
    """Make the routes of blob uploads."""
    routes = Blueprint("uploads", __name__)

    @routes.post("/v2/<path:name>/blobs/uploads/", strict_slashes=False)
    def start(name: str) -> Response:
        if "mount" in request.args:
            digest = parse_digest(request.args["mount"])
            if _mounted(name, digest):
                return _created(name, digest)
        elif "digest" in request.args:
            digest = parse_digest(request.args["digest"])
            owner = current().fingerprint
            registry.uploads.put(name, digest, _body(), _body_length(), owner)
            return _created(name, digest)
        return _progress(registry.uploads.start(name, current().fingerprint), 202)

    @routes.get("/v2/<path:name>/blobs/uploads/<session>")
    def status(name: str, session: str) -> Response:
        # Sessions are a publisher's: reading one tells what is about to be published.
        access.require(writing=True)
        return _progress(registry.uploads.status(name, session), 204)

    @routes.patch("/v2/<path:name>/blobs/uploads/<session>")
    def append(name: str, session: str) -> Response:
        begin, length = _expected(_announced())
        upload = registry.uploads.append(name, session, _body(), start=begin, length=length)
        return _progress(upload, 202)

    @routes.put("/v2/<path:name>/blobs/uploads/<session>")
    def finish(name: str, session: str) -> Response:
        if not request.args.get("digest"):
            raise DigestInvalid("finish the upload with ?digest=sha256:<its digest>")
        digest = parse_digest(request.args["digest"])
        begin, length = _expected(_announced())
        registry.uploads.finish(name, session, digest, _body(), start=begin, length=length)
        return _created(name, digest)

    @routes.delete("/v2/<path:name>/blobs/uploads/<session>")
    def cancel(name: str, session: str) -> Response:
        registry.uploads.cancel(name, session)
        return Response(status=204)

    @routes.errorhandler(RangeInvalid)
    def wrong_place(fault: RangeInvalid) -> Response:
        # The client learns where to go on from, as the specification's end-5 wants.
        response = answer(fault.status, str(fault), fault.code, fault.detail)
        response.headers["Location"] = request.path
        response.headers["Range"] = _range(fault.size)
        return response

    def _mounted(name: str, digest: Digest) -> bool:
        source = request.args.get("from") or None
        return registry.repositories.mount(name, digest, source) is not None

    def _body() -> Iterator[bytes | memoryview]:
        for chunk in access.received(read_body(request.environ)):
            metrics.received.inc(len(chunk))
            yield chunk

    return routes


def _announced() -> ranges.Span | None:
    try:
        span = ranges.announced(request.headers.get("Content-Range"))
    except Invalid as error:
        raise BlobUploadInvalid(str(error)) from None
    length = _body_length()
    if span and length is not None and span.length != length:
        raise SizeInvalid(
            f"Content-Range has {span.length} bytes, Content-Length {length}: they must agree"
        )
    return span


def _expected(span: ranges.Span | None) -> tuple[int | None, int | None]:
    """Return where the chunk begins and how long it is, as far as the client says so."""
    if span is None:
        return None, _body_length()
    return span.start, span.length


def _body_length() -> int | None:
    """Return the announced length; None for chunked transfer encoding."""
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        return None
    return request.content_length or 0


def _progress(upload: Upload, status: int) -> Response:
    response = Response(status=status)
    response.headers["Location"] = f"/v2/{upload.repository}/blobs/uploads/{upload.id}"
    response.headers["Range"] = _range(upload.size)
    response.headers["Docker-Upload-UUID"] = upload.id
    return response


def _range(size: int) -> str:
    """Write what the registry has; the form knows no "nothing", so that 0-0 stands for it too."""
    return f"0-{max(size - 1, 0)}"


def _created(name: str, digest: Digest) -> Response:
    response = Response(status=201)
    response.headers["Location"] = f"/v2/{name}/blobs/{digest}"
    response.headers["Docker-Content-Digest"] = str(digest)
    return response

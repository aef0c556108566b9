"""Blobs: end-2 (pull, whole or a range) and end-10 (delete) of the distribution specification."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response, request

from aar.manifests import parse_digest
from aar.registry import Registry
from aar.web.access import Access, current
from aar.web.distribution import ranges
from aar.web.distribution.errors import answer
from aar.web.kept import LARGEST, offer
from aar.web.metrics import Metrics
from regkit.oci.digest import Digest

_TOLD = 16 * 1024 * 1024
"""Bytes of a download between two additions to the metric: each would cost what a check does."""


def create_blobs(registry: Registry, access: Access, metrics: Metrics) -> Blueprint:
    """Make the routes of blobs."""
    routes = Blueprint("blobs", __name__)

    @routes.get("/v2/<path:name>/blobs/<digest>")
    def pull(name: str, digest: str) -> Response:
        wanted = parse_digest(digest)
        size = registry.repositories.blob_size(name, wanted)
        if request.if_none_match.contains(digest):
            return offer(_described(Response(status=304), wanted))
        try:
            span = ranges.requested(_range_header(digest), size)
        except ranges.Unsatisfiable as fault:
            response = answer(fault.status, str(fault))
            response.headers["Content-Range"] = f"bytes */{size}"
            return response
        whole = span or ranges.Span(0, size)
        # A client repeats its Range where it is sent to, so that one which isn't followed is
        # answered here.
        repeatable = span is not None or "Range" not in request.headers
        if request.method == "GET" and whole.length and repeatable:
            link = registry.repositories.blob_link(wanted)
            if link is not None:
                return _elsewhere(link, wanted)
        response = Response(status=206 if span else 200, content_type="application/octet-stream")
        if request.method == "GET" and whole.length:
            chunks = registry.repositories.read_blob(wanted, whole.start, whole.stop)
            if whole.length <= LARGEST:
                response.response = [b"".join(chunks)]
            else:
                response.response = _counted(access.sending(chunks))
        if span:
            response.headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
        response.content_length = whole.length
        return offer(_described(response, wanted))

    @routes.delete("/v2/<path:name>/blobs/<digest>")
    def delete(name: str, digest: str) -> Response:
        registry.repositories.delete_blob(name, parse_digest(digest), actor=current())
        return Response(status=202)

    def _counted(chunks: Iterator[bytes]) -> Iterator[bytes]:
        untold = 0
        try:
            for chunk in chunks:
                untold += len(chunk)
                if untold >= _TOLD:
                    metrics.sent.inc(untold)
                    untold = 0
                yield chunk
        finally:
            metrics.sent.inc(untold)

    return routes


def _range_header(etag: str) -> str | None:
    """Return `Range`, unless `If-Range` says that it was meant for other content."""
    condition = request.headers.get("If-Range")
    if condition is not None and condition.strip() != f'"{etag}"':
        return None
    return request.headers.get("Range")


def _elsewhere(link: str, digest: Digest) -> Response:
    """Send the client to where the blob is; `Range`, if any, it repeats there."""
    response = Response(status=307)
    response.headers["Location"] = link
    response.headers["Docker-Content-Digest"] = str(digest)
    # The link lets anybody in who has it: it is nobody's to keep.
    response.headers["Cache-Control"] = "no-store"
    return response


def _described(response: Response, digest: Digest) -> Response:
    response.set_etag(str(digest))
    response.headers["Docker-Content-Digest"] = str(digest)
    response.headers["Accept-Ranges"] = "bytes"
    # Content by digest never changes, but who may read it does: every use asks again.
    response.headers["Cache-Control"] = "private, no-cache"
    return response

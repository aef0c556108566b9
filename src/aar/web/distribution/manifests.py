"""Manifests: end-3 (pull), end-7 (push) and end-9 (delete) of the distribution specification."""

from __future__ import annotations

from flask import Blueprint, Response, request

from aar.errors import ManifestTooLarge
from aar.registry import Registry
from aar.web.access import Access, current
from aar.web.kept import offer
from aar.web.metrics import Metrics
from regkit.oci.manifests import MAX_BYTES
from regkit.serving import read_body


def create_manifests(registry: Registry, access: Access, metrics: Metrics) -> Blueprint:
    """Make the routes of manifests."""
    routes = Blueprint("manifests", __name__)

    @routes.get("/v2/<path:name>/manifests/<reference>")
    def pull(name: str, reference: str) -> Response:
        manifest = registry.repositories.manifest(name, reference)
        digest = str(manifest.digest)
        if request.if_none_match.contains(digest):
            response = Response(status=304)
        else:
            response = Response(manifest.content, content_type=manifest.media_type)
        response.set_etag(digest)
        response.headers["Docker-Content-Digest"] = digest
        response.headers["Cache-Control"] = "private, no-cache"
        return offer(response)

    @routes.put("/v2/<path:name>/manifests/<reference>")
    def push(name: str, reference: str) -> Response:
        content = _body()
        media_type = request.mimetype or None
        stored = registry.repositories.put_manifest(
            name, reference, content, media_type, actor=current()
        )
        response = Response(status=201)
        response.headers["Location"] = f"/v2/{name}/manifests/{stored.digest}"
        response.headers["Docker-Content-Digest"] = str(stored.digest)
        if stored.subject is not None:
            response.headers["OCI-Subject"] = str(stored.subject)
        return response

    @routes.delete("/v2/<path:name>/manifests/<reference>")
    def delete(name: str, reference: str) -> Response:
        registry.repositories.delete_manifest(name, reference, actor=current())
        return Response(status=202)

    def _body() -> bytes:
        """Read a manifest; never more than the limit, whatever length was announced."""
        if (request.content_length or 0) > MAX_BYTES:
            raise _too_large()
        content = bytearray()
        for chunk in access.received(read_body(request.environ)):
            metrics.received.inc(len(chunk))
            content += chunk
            if len(content) > MAX_BYTES:
                raise _too_large()
        return bytes(content)

    return routes


def _too_large() -> ManifestTooLarge:
    return ManifestTooLarge(f"a manifest may have {MAX_BYTES} bytes at most: push files as blobs")

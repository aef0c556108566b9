"""What there is: end-1 (support), end-8 (tags), end-12 (referrers), and the catalogue.

`_catalog` isn't in the OCI specification, but in the Docker registry API v2 that it comes from,
and what tools such as `crane catalog` ask for.
"""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, jsonify, request

from aar.errors import Unsupported
from aar.manifests import parse_digest
from aar.registry import Registry
from regkit.oci.manifests import INDEX


def create_listings(registry: Registry) -> Blueprint:
    """Make the routes of lists."""
    routes = Blueprint("listings", __name__)

    @routes.get("/v2/", strict_slashes=False)
    def support() -> Response:
        return jsonify({})

    @routes.get("/v2/_catalog")
    def catalog() -> Response:
        page = registry.repositories.list(_count(), request.args.get("last"))
        return _linked(jsonify({"repositories": page.names}), page.last)

    @routes.get("/v2/<path:name>/tags/list")
    def tags(name: str) -> Response:
        page = registry.repositories.tags(name, _count(), request.args.get("last"))
        return _linked(jsonify({"name": name, "tags": page.names}), page.last)

    @routes.get("/v2/<path:name>/referrers/<digest>")
    def referrers(name: str, digest: str) -> Response:
        artifact_type = request.args.get("artifactType")
        found = registry.repositories.referrers(
            name, parse_digest(digest), artifact_type or None, request.args.get("last")
        )
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [descriptor.to_dict() for descriptor in found.manifests],
        }
        response = Response(json.dumps(index), content_type=INDEX)
        if artifact_type:
            response.headers["OCI-Filters-Applied"] = "artifactType"
        return _linked(response, found.last)

    return routes


def _count() -> int | None:
    """Read `n`, the most entries that the client wants. Raises Unsupported."""
    text = request.args.get("n")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Unsupported("n must be a number of entries, such as n=100")
    return int(text)


def _linked(response: Response, last: str | None) -> Response:
    """Name the next page, which begins after `last`; None: there is none (RFC 8288)."""
    if last is not None:
        query = request.args.to_dict() | {"last": last}
        response.headers["Link"] = f'<{quote(request.path)}?{urlencode(query)}>; rel="next"'
    return response

"""`/v2`: the OCI Distribution Specification 1.1, as routes.

Parses, makes one call, answers; the rules are in `aar.repositories`, `aar.uploads` and
`aar.applications`.
"""

from __future__ import annotations

from flask import Flask, Response

from aar.registry import Registry
from aar.web.access import Access
from aar.web.distribution import errors
from aar.web.distribution.blobs import create_blobs
from aar.web.distribution.listings import create_listings
from aar.web.distribution.manifests import create_manifests
from aar.web.distribution.uploads import create_uploads
from aar.web.metrics import Metrics

__all__ = ["create_distribution"]


def create_distribution(registry: Registry, access: Access, metrics: Metrics) -> Flask:
    """Make the surface for `/v2`."""
    app = Flask("aar.web.distribution", static_folder=None)
    app.url_map.merge_slashes = False
    errors.install(app, access.denied)
    access.guard(app)
    app.register_blueprint(create_listings(registry))
    app.register_blueprint(create_blobs(registry, access, metrics))
    app.register_blueprint(create_uploads(registry, access, metrics))
    app.register_blueprint(create_manifests(registry, access, metrics))

    @app.after_request
    def name_the_api(response: Response) -> Response:
        response.headers["Docker-Distribution-API-Version"] = "registry/2.0"
        if response.content_length == 0 and response.mimetype == "text/html":
            # An empty answer has no type; this is only Flask's default.
            del response.headers["Content-Type"]
        return response

    return app

"""The REST API of the management service: `create_app`, and one module per resource.

A view parses, makes one call of a rule, and answers; it holds no rule itself. Errors become
envelopes in `regkit.rest` only.
"""

from __future__ import annotations

from flask import Flask

from ams.service import Service
from ams.web import absent, access, swagger
from ams.web.routes import register
from regkit import rest


def create_app(service: Service) -> Flask:
    """Make the WSGI application that serves `service`."""
    app = Flask("ams", static_folder=None)
    app.url_map.strict_slashes = False
    app.extensions[access.EXTENSION] = service
    rest.install(app)
    absent.install(app)
    access.guard(app)
    register(app)
    app.register_blueprint(swagger.blueprint)
    return app

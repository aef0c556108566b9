"""What the reference's API has and this service doesn't: said as the reference would.

The public SDK shows nothing but the message, so it says why.
"""

from __future__ import annotations

import re

from flask import Flask, Response, request
from werkzeug.exceptions import NotFound

from regkit import rest

ABSENT = {
    "addons": "addon",
    "artifacts": "artifact",
    "auth": "authorization",
    "containers": "container",
    "identities": "identity",
    "images": "image",
    "instances": "instance",
    "metrics": "metric",
    "nodes": "node",
    "permissions": "permission",
    "shares": "share",
}
"""Collections of the reference's API, and what is in them."""

_PATH = re.compile(r"/1\.0/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?(?:/.*)?")


def install(app: Flask) -> None:
    """Answer for the reference's endpoints that aren't here."""
    app.register_error_handler(NotFound, _not_found)


def _not_found(_fault: NotFound) -> Response:
    found = _PATH.fullmatch(request.path)
    kind = found["kind"] if found else ""
    if found is None or kind not in ABSENT:
        return rest.error(404, "no such endpoint: /1.0/swagger.json describes those there are")
    why = "this service manages applications and runs nothing"
    if found["name"]:
        return rest.error(404, f"{ABSENT[kind]} {found['name'][:80]!r} not found: {why}")
    return rest.error(404, f"{kind} not supported: {why}")

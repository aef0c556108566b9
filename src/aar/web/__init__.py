"""The registry's HTTP doors: `/v2` (OCI distribution) and everything else (`/1.0`, `/metrics`).

Two surfaces, each a Flask application with its own form of an error, behind one WSGI callable and
one gate. No rule lives here.
"""

from __future__ import annotations

from aar.web.app import create_app

__all__ = ["create_app"]

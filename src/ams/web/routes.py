"""Which modules have routes: registered to be served, and to be described."""

from __future__ import annotations

from flask import Flask

from ams.web import (
    applications,
    certificates,
    config,
    events,
    operations,
    registry,
    root,
    versions,
)


def register(app: Flask) -> None:
    """Register every route of the API but that of its description."""
    for module in (
        root,
        applications,
        versions,
        certificates,
        config,
        operations,
        events,
        registry,
    ):
        app.register_blueprint(module.blueprint)

"""`/1.0` and `/metrics`: parses, makes one call, answers in the LXD-style envelope.

The registry's own API for what the distribution API has no word for: applications as a whole, and
the change feed. No rule lives here.
"""

from __future__ import annotations

import time
from functools import partial
from importlib import metadata as distributions
from typing import Any

from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST

from aar.applications import Application, Version
from aar.errors import Denied
from aar.feed import Change, Cursor, CursorAhead, EpochChanged, Page
from aar.registry import Registry
from aar.web.access import Access, current
from aar.web.kept import offer
from aar.web.metrics import Metrics
from aar.web.pages import Pages
from aar.web.watcher import Watcher
from regkit import rest
from regkit.errors import Invalid, NotFound

#: What a client may count on beyond version 1.0 of the API; entries are only ever added.
EXTENSIONS = ("changes", "changes_wait", "applications", "distribution_1_1")

VERSION = distributions.version("anbox-registry")

#: Seconds that a client may wait for a change; a longer wish is cut to this.
MAX_WAIT = 60.0
MAX_PAGE = 1000


def create_api(registry: Registry, access: Access, watcher: Watcher, metrics: Metrics) -> Flask:
    """Make the surface for everything outside `/v2`."""
    app = Flask("aar.web.api", static_folder=None)
    app.url_map.merge_slashes = False
    rest.install(app)
    app.register_error_handler(404, _no_such_path)
    app.register_error_handler(Denied, partial(_denied, access))
    access.guard(app)
    access.open_to_all("status")
    access.open_to_all("root")
    access.open_to_loopback("metrics")
    pages = Pages(registry.feed.read, lambda: watcher.version)

    @app.get("/1.0/status", endpoint="status")
    def status() -> Response:
        # A registry that can't read its database is not well, and this is its health check.
        registry.feed.head()
        return rest.sync({"status": "ready"})

    @app.get("/1.0", endpoint="root")
    def root() -> Response:
        caller = access.caller()
        metadata: dict[str, Any] = {
            "api_version": "1.0",
            "api_status": "stable",
            "api_extensions": list(EXTENSIONS),
            "auth": "trusted" if caller else "untrusted",
            "auth_methods": ["tls"],
            "role": str(caller.role) if caller else "",
            "epoch": registry.feed.head().epoch if caller else "",
            "server": "aar",
            "server_version": VERSION if caller else "",
            "storage_authorities": registry.storage_authorities if caller else "",
        }
        return rest.sync(metadata)

    @app.get("/1.0/applications")
    def list_applications() -> Response:
        found = registry.applications.list(
            tags=request.args.getlist("tag"), architectures=request.args.getlist("architecture")
        )
        if _number("recursion", 0, 0, 1):
            metadata: list[Any] = [_application(application) for application in found]
        else:
            metadata = [f"/1.0/applications/{application.name}" for application in found]
        return rest.sync(metadata, total_size=len(metadata))

    @app.get("/1.0/applications/<name>")
    def show_application(name: str) -> Response:
        return rest.sync(_application(registry.applications.get(name)))

    @app.delete("/1.0/applications/<name>")
    @app.delete("/1.0/applications/<name>/<number>")
    @app.delete("/1.0/applications/<name>/<number>/<architecture>")
    def remove(name: str, number: str | None = None, architecture: str | None = None) -> Response:
        removed = registry.applications.remove(
            name,
            None if number is None else _version_number(number),
            architecture,
            actor=current(),
        )
        return rest.sync({"removed": [_version(version) for version in removed]})

    @app.get("/1.0/changes")
    def changes() -> Response:
        text = request.args.get("since")
        since = Cursor.parse(text) if text else None
        limit = _number("limit", MAX_PAGE, 1, MAX_PAGE)
        deadline = time.monotonic() + min(_seconds("wait"), MAX_WAIT)
        try:
            page = _next_page(since, limit, deadline)
        except (EpochChanged, CursorAhead) as fault:
            head = {"epoch": fault.head.epoch, "seq": fault.head.seq}
            return rest.error(fault.status, str(fault), head)
        if request.if_none_match.contains(str(page.head)):
            response = Response(status=304)
        else:
            response = rest.sync(_page(page))
        response.set_etag(str(page.head))
        return response if "wait" in request.args else offer(response)

    def _next_page(since: Cursor | None, limit: int, deadline: float) -> Page:
        known = request.if_none_match
        while time.monotonic() < deadline:
            version, page = pages.read(since, limit)
            if not known.contains(str(page.head)) if known else bool(page.changes):
                return page
            with metrics.waiting.track_inprogress():
                changed = watcher.wait(version, deadline)
            # Whoever lost its trust while waiting gets no answer about what came since.
            access.require(writing=False)
            if not changed:
                return page
        return registry.feed.read(since, limit)

    @app.get("/metrics", endpoint="metrics")
    def show_metrics() -> Response:
        return Response(metrics.page(), content_type=CONTENT_TYPE_LATEST)

    return app


def _denied(access: Access, fault: Denied) -> Response:
    access.denied(fault)
    return rest.error(fault.status, str(fault))


def _no_such_path(_fault: Exception) -> Response:
    return rest.error(404, "the API has no such path: GET /1.0 is where it begins")


def _application(application: Application) -> dict[str, Any]:
    return {
        "name": application.name,
        "versions": [_version(version) for version in application.versions],
    }


def _version(version: Version) -> dict[str, Any]:
    return {
        "name": version.key.name,
        "number": version.key.number,
        "architecture": version.key.architecture,
        "digest": str(version.digest),
        "size": version.size,
        "tags": list(version.tags),
        "published_at": version.published_at.isoformat(),
        "published_by": version.published_by,
    }


def _page(page: Page) -> dict[str, Any]:
    return {
        "epoch": page.head.epoch,
        "seq": page.head.seq,
        "cursor": str(page.cursor),
        "changes": [_change(change) for change in page.changes],
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "seq": change.seq,
        "kind": change.kind,
        "name": change.key.name,
        "number": change.key.number,
        "architecture": change.key.architecture,
        "digest": str(change.digest),
        "size": change.size,
        "tags": list(change.tags),
        "at": change.at.isoformat(),
        "by": change.by,
    }


def _version_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise NotFound(f"{text[:40]!r} is not a version number: versions are numbered from 0")
    return int(text)


def _number(name: str, default: int, low: int, high: int) -> int:
    """Read a whole number from the query. Raises Invalid."""
    text = request.args.get(name)
    if text is None:
        return default
    valid = text.isascii() and text.isdigit() and len(text) < 10
    if not valid or not low <= int(text) <= high:
        raise Invalid(f"{name} must be a whole number from {low} to {high}")
    return int(text)


def _seconds(name: str) -> float:
    """Read a number of seconds, 0 when absent. Raises Invalid."""
    text = request.args.get(name, "0")
    if not text.isascii() or not text.replace(".", "", 1).isdigit() or len(text) > 9:
        raise Invalid(f"{name} must be a number of seconds")
    return float(text)

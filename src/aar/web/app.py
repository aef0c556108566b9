"""Puts the two surfaces together behind one WSGI callable, and counts and logs their answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response, g, request

from aar.refusals import Refusals
from aar.registry import Registry
from aar.web.access import SAFE_METHODS, Access
from aar.web.api import create_api
from aar.web.distribution import create_distribution
from aar.web.kept import Kept
from aar.web.metrics import Metrics
from aar.web.transfers import Transfers
from aar.web.watcher import Watcher
from regkit import logs
from regkit.serving import whole_request
from regkit.trust import Entry

log = logs.get("aar.web")

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def create_app(
    registry: Registry, refusals: Refusals, stopping: Callable[[], bool]
) -> Application:
    """Make the registry's WSGI application; one per worker.

    Args:
        registry: the registry, open in this process.
        refusals: counts who is refused; whoever makes it writes it down now and then.
        stopping: true once the server has been asked to stop, so that long-polls end.
    """
    metrics = Metrics(registry)
    rate = registry.settings.limits.requests_per_second
    transfers = Transfers(registry.database.version)
    access = Access(registry.trust, refusals, metrics.refused.inc, transfers, rate)
    watcher = Watcher(registry.database.version, stopping)
    api = create_api(registry, access, watcher, metrics)
    distribution = create_distribution(registry, access, metrics)
    for app in (api, distribution):
        _observe(app, metrics)

    kept = Kept(
        registry.database.version,
        registry.database.fresh_version,
        access.may_read_again,
        metrics,
    )

    def application(
        environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        surface = distribution if path == "/v2" or path.startswith("/v2/") else api
        if whole_request(environ) is None:
            return surface(environ, start_response)
        kept.begin(environ)

        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            kept.keep(environ, status, headers)
            return start_response(status, headers, exc_info)

        return surface(environ, start)

    application.shortcut = kept.answer  # type: ignore[attr-defined] - regkit.serving.conversation
    return application


def _observe(app: Flask, metrics: Metrics) -> None:
    @app.after_request
    def observe(response: Response) -> Response:
        # The rule, not the path: names of foreign making must not become labels without end.
        route = request.url_rule.rule if request.url_rule else "unmatched"
        seconds = time.monotonic() - g.started
        metrics.requests.labels(request.method, route, response.status_code).inc()
        metrics.seconds.labels(route).observe(seconds)
        if not response.is_streamed and request.method != "HEAD":
            metrics.sent.inc(response.content_length or 0)
        _log(response, seconds)
        return response


def _log(response: Response, seconds: float) -> None:
    """Write what changed something at `info`, mere reading at `debug`."""
    write = log.debug if request.method in SAFE_METHODS else log.info
    caller: Entry | None = g.get("caller")
    write(
        "answered",
        method=request.method,
        path=request.path[:500],
        status=response.status_code,
        milliseconds=round(seconds * 1000),
        fingerprint=str(caller.fingerprint) if caller else "none",
    )

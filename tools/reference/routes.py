"""The routes of the registry: found in its applications, described here.

What is described but no route, and the other way round, is an error.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from unittest.mock import Mock

from flask import Flask

from tools.reference.markdown import table

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}

OWN: dict[tuple[str, str], str] = {
    ("GET", "/1.0"): "What the registry can do, and who the caller is to it: `auth` (`trusted` or "
    "`untrusted`), `role`, `epoch`. Answers everybody.",
    ("GET", "/1.0/status"): "Health check: 200 when the registry can read its database. Answers "
    "everybody.",
    ("GET", "/1.0/applications"): "The applications: URLs, or with `recursion=1` themselves. "
    "`tag` and `architecture`, each repeatable, choose from them.",
    ("GET", "/1.0/applications/<name>"): "One application with its versions.",
    ("DELETE", "/1.0/applications/<name>"): "Remove an application with all its versions.",
    ("DELETE", "/1.0/applications/<name>/<number>"): "Remove a version, for all architectures.",
    ("DELETE", "/1.0/applications/<name>/<number>/<architecture>"): "Remove a version for one "
    "architecture. Its number is never used again.",
    ("GET", "/1.0/changes"): "The change feed. `since` (`<epoch>:<seq>`) is where the caller is, "
    "`limit` (1 to 1000) how much it takes, `wait` (seconds, at most 60) how long to wait for "
    "something new. 304 for the ETag that the caller names and nothing new; 410 when the "
    "registry has another epoch, 409 when `since` is ahead of it.",
    ("GET", "/metrics"): "Metrics for Prometheus. Answers trusted callers, and this machine.",
}

DISTRIBUTION: dict[tuple[str, str], str] = {
    ("GET", "/v2/"): "Whether this is a registry and the caller is trusted.",
    ("GET", "/v2/_catalog"): "The repositories; `n` and `last` page.",
    ("GET", "/v2/<name>/tags/list"): "The tags of a repository; `n` and `last` page.",
    ("GET", "/v2/<name>/referrers/<digest>"): "What refers to a manifest; `artifactType` chooses.",
    ("GET", "/v2/<name>/manifests/<reference>"): "A manifest by tag or digest.",
    ("PUT", "/v2/<name>/manifests/<reference>"): "Push a manifest.",
    ("DELETE", "/v2/<name>/manifests/<reference>"): "Delete a manifest or a tag.",
    ("GET", "/v2/<name>/blobs/<digest>"): "A blob; `Range` is obeyed.",
    ("DELETE", "/v2/<name>/blobs/<digest>"): "Unlink a blob from the repository.",
    (
        "POST",
        "/v2/<name>/blobs/uploads/",
    ): "Begin an upload; with `digest` the whole blob at once, "
    "with `mount` and `from` one that another repository has.",
    ("GET", "/v2/<name>/blobs/uploads/<session>"): "How far an upload is.",
    ("PATCH", "/v2/<name>/blobs/uploads/<session>"): "Append to an upload.",
    ("PUT", "/v2/<name>/blobs/uploads/<session>"): "Finish an upload as the blob `digest`.",
    ("DELETE", "/v2/<name>/blobs/uploads/<session>"): "Give an upload up.",
}


def tables() -> tuple[str, str]:
    """Return the tables of `/1.0` and of `/v2`."""
    from aar.web.api import create_api  # noqa: PLC0415
    from aar.web.distribution import create_distribution  # noqa: PLC0415

    return _table(create_api, OWN), _table(create_distribution, DISTRIBUTION)


def _table(create: Callable[..., Flask], described: Mapping[tuple[str, str], str]) -> str:
    # Only the routes are asked for, so nothing stands behind the views.
    app = create(*(Mock() for _ in inspect.signature(create).parameters))
    found = {
        (method, re.sub(r"<\w+:", "<", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) & METHODS
    }
    if found != set(described):
        raise LookupError(
            f"tools/reference/routes.py lacks {sorted(found - set(described))} and describes "
            f"{sorted(set(described) - found)}, which are no routes"
        )
    rows = [(f"`{method} {path}`", text) for (method, path), text in described.items()]
    return table(("request", ""), rows)

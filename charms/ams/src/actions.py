"""The actions: what an operator may ask of AMS without logging in to its machine.

Each is a plain function from parameters to results; `charm.py` hands it to Juju.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from manager import Manager

Parameters = Mapping[str, Any]
Results = dict[str, Any]


def sync_now(manager: Manager, parameters: Parameters) -> Results:
    """Synchronise with the registry now, or only say what that would do."""
    report = manager.sync(
        dry_run=parameters["dry-run"], allow_deletions=parameters["allow-deletions"]
    )
    return {"report": report.strip()}


def registry_status(manager: Manager, _: Parameters) -> Results:
    """Return how the synchronisation stands: what a person looks at, and all of it as JSON."""
    status = manager.registry_status()
    shown = {key: status[key] for key in ("url", "mode", "last_success", "last_error")}
    return {
        **{key.replace("_", "-"): value or "" for key, value in shown.items()},
        "status": json.dumps(status),
    }


def list_applications(manager: Manager, _: Parameters) -> Results:
    """Return the applications as JSON."""
    rows = manager.applications()
    return {"count": len(rows), "applications": json.dumps(rows)}


def get_registry_certificate(manager: Manager, _: Parameters) -> Results:
    """Return the certificate that a registry is to trust, for one that isn't related."""
    certificate = manager.certificate()
    return {"certificate": certificate.pem, "fingerprint": str(certificate.fingerprint)}


def rotate_certificate(manager: Manager, _: Parameters) -> Results:
    """Make a new key and certificate; a related registry follows by itself."""
    return {"fingerprint": str(manager.rotate_certificate().fingerprint)}


ACTIONS: dict[str, Callable[[Manager, Parameters], Results]] = {
    "sync-now": sync_now,
    "registry-status": registry_status,
    "list-applications": list_applications,
    "get-registry-certificate": get_registry_certificate,
    "rotate-certificate": rotate_certificate,
}
"""Answers by the name of the action, as in charmcraft.yaml."""

CHANGES = frozenset({"rotate-certificate"})
"""Actions after which the registry is to be told something else."""

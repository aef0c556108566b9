"""The actions: what an operator may ask of the registry without logging in to its machine.

Each is a plain function from parameters to results; `charm.py` hands it to Juju.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from registry import Registry

Parameters = Mapping[str, Any]
Results = dict[str, Any]


def list_trusted(registry: Registry, parameters: Parameters) -> Results:
    """Return the trusted certificates, or the revoked ones, as JSON."""
    rows = registry.trusted(revoked=parameters["revoked"])
    return {"count": len(rows), "trusted": json.dumps(rows)}


def trust_add(registry: Registry, parameters: Parameters) -> Results:
    """Trust a certificate by hand: no relation removes it."""
    architectures = parameters["architectures"].replace(",", " ").split()
    said = registry.trust(
        parameters["certificate"],
        publisher=parameters["publisher"],
        architectures=architectures,
    )
    return {"result": said.strip()}


def trust_remove(registry: Registry, parameters: Parameters) -> Results:
    """Stop trusting a certificate; a relation that still asks for it brings it back."""
    return {"result": registry.distrust(parameters["fingerprint"]).strip()}


def revoke(registry: Registry, parameters: Parameters) -> Results:
    """Revoke a certificate and its key for ever."""
    return {"result": registry.revoke(parameters["fingerprint"]).strip()}


def list_applications(registry: Registry, _: Parameters) -> Results:
    """Return the versions that the registry holds, as JSON."""
    rows = registry.applications()
    return {"count": len(rows), "applications": json.dumps(rows)}


def delete_application(registry: Registry, parameters: Parameters) -> Results:
    """Delete an application, a version, or one architecture of a version."""
    said = registry.delete(
        parameters["name"], parameters.get("version"), parameters.get("architecture")
    )
    return {"result": said.strip()}


def get_certificate(registry: Registry, _: Parameters) -> Results:
    """Return the registry's certificate, for a site that isn't related."""
    certificate = registry.certificate()
    return {"certificate": certificate.pem, "fingerprint": str(certificate.fingerprint)}


def rotate_certificate(registry: Registry, _: Parameters) -> Results:
    """Make a new key and certificate; related sites follow by themselves."""
    return {"fingerprint": str(registry.rotate_certificate().fingerprint)}


ACTIONS: dict[str, Callable[[Registry, Parameters], Results]] = {
    "list-trusted": list_trusted,
    "trust-add": trust_add,
    "trust-remove": trust_remove,
    "revoke": revoke,
    "list-applications": list_applications,
    "delete-application": delete_application,
    "get-certificate": get_certificate,
    "rotate-certificate": rotate_certificate,
}
"""Answers by the name of the action, as in charmcraft.yaml."""

CHANGES = frozenset({"trust-add", "trust-remove", "revoke", "rotate-certificate"})
"""Actions after which the relations may be owed something else."""

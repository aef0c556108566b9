"""`/`, `/1.0` and `/1.0/version`: what this service is, and whether the caller is trusted."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version as installed_version

from flask import Blueprint, Response

from ams.web.access import caller, open_to_all
from regkit import rest

blueprint = Blueprint("root", __name__)

API_VERSION = "1.0"
API_EXTENSIONS = (
    "application_image_export",
    "bulk_delete.applications",
    "registry",
    "vm_support",
    "zip_archive_support",
)
"""Names from the reference for what is true here as well."""


@cache
def service_version() -> str:
    """Return the version of the installed distribution."""
    return installed_version("anbox-registry")


@blueprint.get("/")
@open_to_all
def versions() -> Response:
    """List the versions of the API."""
    return rest.sync([f"/{API_VERSION}"])


@blueprint.get("/1.0")
@open_to_all
def status() -> Response:
    """Say what the service can do, and whether the caller is trusted."""
    return rest.sync(
        {
            "api_extensions": list(API_EXTENSIONS),
            "api_status": "stable",
            "api_version": API_VERSION,
            "auth": "trusted" if caller().trusted else "untrusted",
            "auth_methods": ["2waySSL"],
            "cluster_id": "",
            "cluster_name": "",
        }
    )


@blueprint.get("/1.0/version")
@open_to_all
def version() -> Response:
    """Say the version of the service."""
    return rest.sync({"version": service_version()})

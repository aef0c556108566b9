"""`/`, `/1.0` and `/1.0/version`: what this service is, and whether the caller is trusted."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version as installed_version

from flask import Blueprint, Response

from ams.web import documents
from ams.web.access import caller, open_to_all
from ams.web.contract import Sync, promises
from regkit import rest

blueprint = Blueprint("root", __name__)

API_VERSION = "1.0"
API_EXTENSIONS = (
    "application_gpu_encoder",
    "application_image_export",
    "application_manifest_download",
    "application_manifest_version",
    "application_partial_updates",
    "application_resource_customization",
    "application_services_configuration",
    "application_watchdog_settings",
    "bulk_delete.applications",
    "registry",
    "vm_support",
    "zip_archive_support",
)
"""The reference's names for what is true here as well (its API pages, the public SDK)."""


@cache
def service_version() -> str:
    """Return the version of the installed distribution."""
    return installed_version("anbox-registry")


@blueprint.get("/")
@open_to_all
@promises(Sync(list[documents.Url]))
def versions() -> Response:
    """List the versions of the API."""
    return rest.sync([f"/{API_VERSION}"])


@blueprint.get("/1.0")
@open_to_all
@promises(Sync(documents.ServiceStatus))
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
@promises(Sync(documents.ServiceVersion))
def version() -> Response:
    """Say the version of the service."""
    return rest.sync({"version": service_version()})

"""The applications and versions of a site: `Catalogue` and the values it gives."""

from ams.catalogue.catalogue import Catalogue, Doomed, Listener
from ams.catalogue.records import (
    Application,
    ApplicationStatus,
    Change,
    Export,
    Garbage,
    LocalVersion,
    Version,
    VersionStatus,
)
from ams.catalogue.rules import FILTERS

__all__ = [
    "FILTERS",
    "Application",
    "ApplicationStatus",
    "Catalogue",
    "Change",
    "Doomed",
    "Export",
    "Garbage",
    "Listener",
    "LocalVersion",
    "Version",
    "VersionStatus",
]

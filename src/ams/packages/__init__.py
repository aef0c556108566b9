"""Packages: what operators hand in to create applications and versions.

`read()` is the way in. Nothing here knows of the catalogue.
"""

from ams.packages.archive import Limits
from ams.packages.manifest import Manifest
from ams.packages.package import Package, read, renewed

__all__ = ["Limits", "Manifest", "Package", "read", "renewed"]

"""Calls of the public SDK that several tests begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from support import pairs
from support.ams import Service
from support.contract import Contract
from support.gosdk import Sdk
from support.gotypes import APPLICATION
from support.packages import PACKERS


def join(service: Service, contract: Contract, folder: Path) -> Sdk:
    pair = pairs.make(folder, "program")
    service.ok("config", "trust", "add", pair.cert_path)
    return Sdk(service.address(), pair, contract)


def package(name: str, content: bytes = b"apk", form: str = "tar.bz2", **more: Any) -> bytes:
    manifest = {"name": name, "version": "1.0", "instance-type": "a4.3", **more}
    raw = yaml.safe_dump(manifest).encode()
    return PACKERS[form]({"manifest.yaml": raw, "app.apk": content})


def create(sdk: Sdk, name: str, **more: Any) -> str:
    body = package(name, **more)
    done = sdk.upload("POST", "/1.0/applications", body, {"vm": "false"})
    (url,) = done["resources"]["applications"]
    return url.rpartition("/")[2]


def retrieve(sdk: Sdk, id_or_name: str) -> dict[str, Any]:
    return sdk.call("GET", f"/1.0/applications/{id_or_name}", APPLICATION).metadata

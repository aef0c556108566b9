"""Runs on a machine, as a charm's code would: one verb of MachineService, in JSON and back.

usage: python3 machine_driver.py '{"program": {…}, "verb": …, "arguments": […], "keywords": {…}}'
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from machine_service import MachineService, MachineServiceError, Program


def perform(request: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked; return the result, or the error by its class's name."""
    program = request["program"]
    for name in ("commands", "serve", "shared"):
        program[name] = tuple(program.get(name, ()))
    service = MachineService(Program(**{**program, "home": Path(program["home"])}))
    keywords = request.get("keywords", {})
    if "writable" in keywords:
        keywords["writable"] = [Path(path) for path in keywords["writable"]]
    arguments = request.get("arguments", [])
    if request["verb"] == "install":
        arguments = [Path(path) for path in arguments]
    started = time.monotonic()
    try:
        member = getattr(service, request["verb"])
        result = member(*arguments, **keywords) if callable(member) else member
    except MachineServiceError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"result": result, "seconds": time.monotonic() - started}


if __name__ == "__main__":
    print(json.dumps(perform(json.loads(sys.argv[1]))))

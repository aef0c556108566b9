"""One driver process: reads its job, gets ready, runs it, tells the result."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from benchmarks.driver.fleet import Fleet
from benchmarks.driver.handles import Identity, WrongAnswer
from benchmarks.driver.hold import Hold
from benchmarks.driver.load import Load
from benchmarks.driver.push import Push

KINDS = {"load": Load, "push": Push, "hold": Hold, "fleet": Fleet}


def main() -> None:
    """Do the one job of this process."""
    _raise_limit()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    identities = [Identity(pair, job["pin"]) for pair in job["identities"]]
    try:
        work = KINDS[job["kind"]](job, identities)
        work.prepare()
        _tell("ready")
        if _line() != "go":
            return
        before = _cpu()
        tally = work.run()
        result: dict[str, Any] = dataclasses.asdict(tally)
        result["cpu"] = _cpu() - before
        result["digests"] = getattr(work, "digests", [])
    except WrongAnswer as fault:
        _tell("fault", message=str(fault))
        sys.exit(1)
    _tell("result", **result)


def _tell(event: str, **more: Any) -> None:
    print(json.dumps({"event": event, **more}), flush=True)


def _line() -> str:
    """Read one line and nothing beyond it: what follows is for the loop."""
    text = b""
    while (byte := os.read(sys.stdin.fileno(), 1)) not in (b"", b"\n"):
        text += byte
    return text.decode()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _raise_limit() -> None:
    """Allow as many open files as this user may have: every client is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()

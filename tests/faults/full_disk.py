"""Fills a registry's file system by pushing, deletes a version, and pushes on.

Run as a program, `python -m faults.full_disk FOLDER`, as root in a mount namespace of its own: a
JSON object on stdout says how each step was answered.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from aar.registry import Registry
from faults.services import Filler
from support.distribution import application_parts, digest_of, push_application, put_manifest
from support.registry import running

SIZE = 24
"""MiB of the file system."""


def main(folder: Path) -> dict[str, Any]:
    data = folder / "data"
    data.mkdir()
    options = f"size={SIZE}m,mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "faults", data], check=True)
    rng = random.Random(1)
    with running(folder) as server:
        pushed, refused, kept, blob = 0, 0, b"", b""
        while not refused:
            blob = rng.randbytes(3_000_000)
            _, manifest, config, files = application_parts("full", pushed, files={"a": blob})
            for content in (config, *files.values()):
                answer = server.publisher.post(
                    f"/v2/full/blobs/uploads/?digest={digest_of(content)}", data=content
                )
                if answer.status_code != 201:
                    refused = answer.status_code
                    break
            else:
                assert put_manifest(server.publisher, "full", f"{pushed}-amd64", manifest).ok
                kept, pushed = blob, pushed + 1
        # Not a byte more: now the database can't grow either.
        filler = Filler(data)
        filler.fill()
        read = server.client.get(f"/v2/full/blobs/{digest_of(kept)}").content == kept
        listed = server.client.get("/1.0/applications").status_code == 200
        filler.delete()
        deleted = server.publisher.delete("/1.0/applications/full/0").status_code
        with Registry(server.home) as registry:
            freed = registry.janitor.run(datetime.now(timezone.utc) + timedelta(days=2))
            assert freed.freed >= 3_000_000, (deleted, freed)
        push_application(server.publisher, "again", files={"a": blob})
        again = server.client.get("/v2/again/manifests/0-amd64").status_code
        versions = [
            version
            for application in server.client.get("/1.0/applications?recursion=1").json()[
                "metadata"
            ]
            for version in application["versions"]
        ]
        left = [path.name for path in (data / "uploads").iterdir()]
    subprocess.run(["umount", data], check=True)
    return {
        "pushed": pushed,
        "refused": refused,
        "read while full": read,
        "listed while full": listed,
        "deleted while full": deleted,
        "pushed again": 201 if again == 200 else again,
        "versions": len(versions),
        "uploads left": left,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))

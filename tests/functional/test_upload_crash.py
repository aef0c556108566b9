"""kill -9 in the middle of an upload: what was acknowledged is there, and the upload resumes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aar.errors import BlobUploadUnknown, NameUnknown
from aar.registry import Registry
from regkit.oci.digest import Digest
from support.images import content_of

PIECE = bytes(range(256)) * 4096  # 1 MiB
PIECES = 8

# Acknowledges each chunk on its standard output, as the service does with 202.
SENDER = """
import sys
from pathlib import Path
from aar.registry import Registry
registry = Registry(Path(sys.argv[1]))
piece = bytes(range(256)) * 4096
upload = registry.uploads.start("candy")
print(upload.id, flush=True)
while True:
    print(registry.uploads.append("candy", upload.id, [piece]).size, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 3])
def test_an_upload_resumes_after_kill_9(tmp_path: Path, acknowledged: int):
    process = subprocess.Popen(
        [sys.executable, "-c", SENDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        upload_id = process.stdout.readline().strip()
        sizes = [int(process.stdout.readline()) for _ in range(acknowledged)]
    finally:
        process.kill()
        rest, _ = process.communicate()
    promised = max([*sizes, *(int(line) for line in rest.split("\n")[:-1])])

    content = PIECE * (promised // len(PIECE) + PIECES)
    digest = Digest.of(content)
    with Registry(tmp_path) as registry:
        found = registry.uploads.status("candy", upload_id).size
        assert found >= promised
        with pytest.raises(NameUnknown):
            registry.repositories.blob_size("candy", digest)
        registry.uploads.finish("candy", upload_id, digest, [content[found:]], start=found)
        assert registry.repositories.blob_size("candy", digest) == len(content)
        assert content_of(registry, "candy", digest) == content
        with pytest.raises(BlobUploadUnknown):
            registry.uploads.status("candy", upload_id)
        assert registry.blobs.staged() == []

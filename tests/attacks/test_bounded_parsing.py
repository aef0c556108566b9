"""A few kilobytes that once took hours or gigabytes to read: each in a process with hard limits.

Beyond its limits the kernel ends the process, so that neither is a matter of timing: before they
were mended these inputs needed hours, minutes of a stopped service, or tens of gigabytes.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

CPU_SECONDS = 60
MEMORY = 1536 * 1024 * 1024

CERTIFICATE = """
from aar_interface import Certificate, InvalidCertificate
for text in (
    "-----BEGIN CERTIFICATE-----" + " " * 65_000,
    "-----BEGIN A-----" * 3_800,
    "".join(f"-----BEGIN {n}-----" for n in range(3_000)),
    "-----BEGIN A----------END B-----" * 2_000,
):
    try:
        Certificate.parse(text)
    except InvalidCertificate:
        continue
    raise SystemExit("taken")
"""

DATABAG = """
from aar_interface.databag import InvalidDatabag, RequirerData
try:
    RequirerData.read({"certificate": "-----BEGIN CERTIFICATE-----" + "\\\\n" * 32_000})
except InvalidDatabag:
    raise SystemExit(0)
raise SystemExit("taken")
"""

DEEP_ARCHIVE = """
import io, tarfile
from ams.packages.archive import Limits, members
packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
    for number in range(2_000):
        archive.addfile(tarfile.TarInfo(f"{number}/" + "a/" * 2_040 + "x"))
packed.seek(0)
assert len(list(members(packed, Limits()))) == 2_000
"""

DEEP_LAYERS = """
from regkit.oci.application import ApplicationImage, Key, PackageFile, build, read
from regkit.oci.digest import Digest
from regkit.oci.manifests import parse_manifest
digest = Digest.of(b"")
files = tuple(PackageFile(f"{n}/" + "a/" * 2_035 + "x", digest, 0) for n in range(900))
config, manifest = build(ApplicationImage(Key("deep", 0, "amd64"), {}, files))
assert len(manifest) < 4 * 1024 * 1024, "a registry takes it"
for _ in range(5):
    assert len(read(parse_manifest(manifest), config).files) == 900
"""

MANY_LAYERS = """
from regkit.errors import Invalid
from regkit.oci.application import ApplicationImage, Key, PackageFile, build
from regkit.oci.digest import Digest
digest = Digest.of(b"")
names = [f"file{n}" for n in range(9_999)]
for _ in range(40):
    try:
        build(ApplicationImage(
            Key("many", 0, "amd64"), {},
            tuple(PackageFile(name, digest, 0) for name in [*names, names[-1]])
        ))
    except Invalid as error:
        assert "twice" in str(error)
    else:
        raise SystemExit("taken")
"""

YAML = """
from regkit import yamlsafe
size = yamlsafe.MAX_BYTES - 10
texts = [
    b"- a\\n" * (size // 4), b"[" + b"a," * (size // 2 - 2) + b"]", b"#\\n" * (size // 2),
    b"[" * size, b"? " * (size // 2), b"a: |\\n" + b"\\n" * (size - 10),
    b"a: b\\n" + b" c\\n" * (size // 3 - 10), b'"' + b"\\\\x41" * (size // 4 - 2) + b'"',
    b"a: &a [x]\\n" + b"".join(b"%d: &b%d [*a,*a]\\n" % (n, n) for n in range(1000)),
]
for text in texts:
    try:
        yamlsafe.load(text)
    except yamlsafe.InvalidYaml:
        pass
"""

JSON = """
from regkit.errors import Invalid
from regkit.oci.manifests import MAX_BYTES, parse_manifest
for text in (
    b"[" * MAX_BYTES, b'{"a":' * (MAX_BYTES // 5), b'{"a":' + b"1" * (MAX_BYTES - 10) + b"}",
    b'{"layers":[' + b"{}," * (MAX_BYTES // 3 - 10) + b"{}]}",
    b'{"a":"' + b"\\\\u0000" * (MAX_BYTES // 6 - 10) + b'"}',
):
    try:
        parse_manifest(text)
    except Invalid:
        continue
    raise SystemExit("taken")
"""


@pytest.mark.parametrize(
    "code",
    [CERTIFICATE, DATABAG, DEEP_ARCHIVE, DEEP_LAYERS, MANY_LAYERS, YAML, JSON],
    ids=["certificate", "databag", "archive", "layers", "many layers", "yaml", "json"],
)
def test_hostile_text_is_read_or_refused_within_limits(code: str):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])

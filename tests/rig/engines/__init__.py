"""Applications that provide what several units of the registry share: real engines, tiny charms.

`postgresql` and `radosgw` are charms in plain Python that install the distribution's packages on
their machine and speak the relation as the real charms do. Machines have no way out, so a charm
brings its packages along: fetched once for the base, cached, and zipped without charmcraft, since
there is nothing to build.
"""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

from rig import base, cache, isolation
from rig.errors import RigError

SOURCES = Path(__file__).parent
PACKAGES = {
    "postgresql": ("postgresql", "postgresql-client"),
    "radosgw": ("radosgw", "ceph-mon", "ceph-osd", "ceph-common"),
}


def charm(name: str) -> Path:
    """Return the packed charm of an engine, made first when it is not cached."""
    packages = _packages(name)
    source = SOURCES / name
    target = cache.directory() / f"engine-{name}-{cache.key(packages.name, _text(source))}"
    with cache.building(target) as scratch:
        if scratch is not None:
            with zipfile.ZipFile(scratch / f"{name}.charm", "w") as archive:
                for path in sorted(source.iterdir()):
                    archive.write(path, path.name, zipfile.ZIP_DEFLATED)
                for deb in sorted(packages.glob("*.deb")):
                    archive.write(deb, f"debs/{deb.name}")
    return target / f"{name}.charm"


def _text(source: Path) -> str:
    return cache.tree_key(source, {"__pycache__"})


def _packages(name: str) -> Path:
    """Return a folder with an engine's packages and all that they need beyond the base."""
    lower = base.path()
    target = cache.directory() / f"debs-{name}-{cache.key(lower.name, *PACKAGES[name])}"
    with cache.building(target) as scratch:
        if scratch is None:
            return target
        (scratch / "partial").mkdir()
        options = {
            "Dir::State::status": lower / "root/var/lib/dpkg/status",
            "Dir::Cache::archives": scratch,
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Sandbox::User": "root",
        }
        settings = [part for k, v in options.items() for part in ("-o", f"{k}={v}")]
        install = ["install", "-qy", "--no-install-recommends", "--download-only"]
        # From within a running rig, by the network of the process that started it.
        keeper = os.environ.get("RIG_KEEPER")
        outside = ["nsenter", f"--net=/proc/{keeper}/ns/net"] if keeper else []
        done = subprocess.run(
            [*outside, *isolation.quick(["apt-get", *settings, *install, *PACKAGES[name]])],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RigError(f"no packages for {name}:\n{done.stdout[-500:]}{done.stderr[-2000:]}")
        (scratch / "partial").rmdir()
        (scratch / "lock").unlink(missing_ok=True)
    return target

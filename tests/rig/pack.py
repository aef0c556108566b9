"""Pack a charm for real: charmcraft with the uv plugin, inside the machines' own base.

The same base packs and runs, so that the charm's virtual environment fits the machine's Python.
Packing needs a package index; this machine's pip and uv settings and CA bundle are passed in.
Results are cached by the content of the source tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from rig import base, cache, isolation
from rig.errors import RigError

CHARMCRAFT = "charmcraft>=4.5,<4.6"
UV = "uv>=0.8"
TOOLCHAIN = "python3-apt python3-dev git gcc libc6-dev xz-utils"
SKIP = (".git", ".venv", ".tox", ".ruff_cache", ".pytest_cache", "__pycache__", "tests")
BUILT = ("parts", "stage", "prime")

SETTINGS = ("PIP_", "UV_", "SSL_CERT_")
SETTING_NAMES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
SETTING_FILES = ("/etc/pip.conf", "~/.config/pip", "~/.pip", "~/.config/uv", "/etc/uv")
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

# Run as PID 1 of its own mount namespace: $1 lower, $2 work tree, $3 project in it, rest: command.
CHROOT = r"""
set -eu
lower=$1 tree=$2 inside=$3 caches=$4; shift 4
scratch=/mnt; mount -t tmpfs -o size=6g tmpfs $scratch
mkdir $scratch/upper $scratch/work $scratch/root
root=$scratch/root
layers=lowerdir=$lower,upperdir=$scratch/upper,workdir=$scratch/work
mount -t overlay overlay -o "$layers" $root
mkdir -p "$root/tree" "$root/root/.cache"
mount --bind "$tree" "$root/tree"; mount --bind "$caches" "$root/root/.cache"
mount -t proc proc $root/proc; mount --rbind /dev $root/dev; mount -t sysfs sysfs $root/sys
cat /etc/resolv.conf >$root/etc/resolv.conf; cat /etc/hosts >$root/etc/hosts
for extra in $RIG_BINDS; do
    [ -d "$extra" ] && { mkdir -p "$root$extra"; mount --rbind "$extra" "$root$extra"; }
    [ -f "$extra" ] && { mkdir -p "$root${extra%/*}"; cat "$extra" >"$root$extra"; }
done
unset RIG_BINDS
exec chroot $root /bin/sh -c 'cd "/tree/$0" && exec "$@"' "$inside" "$@"
"""


def _settings() -> tuple[dict[str, str], list[str]]:
    """Environment for the package clients, and the files and directories that it names."""
    names = {*SETTING_NAMES, *(n.lower() for n in SETTING_NAMES)}
    chosen = {k: v for k, v in os.environ.items() if k.startswith(SETTINGS) or k in names}
    chosen.pop("UV_PROJECT_ENVIRONMENT", None)
    paths = [Path(p).expanduser() for p in SETTING_FILES] + [CA_BUNDLE]
    paths += [Path(v) for v in chosen.values() if v.startswith("/")]
    found = dict.fromkeys(str(p) for p in paths if p.exists() and str(p) != "/etc/ssl/certs")
    return chosen, list(found)


def _inside(lower: Path, tree: Path, project: str, command: Iterable[str], timeout: float) -> str:
    """Output of a command run in an overlay of `lower`, in directory `project` of `tree`."""
    settings, binds = _settings()
    caches = cache.directory() / "packages"
    caches.mkdir(exist_ok=True)
    environment = {
        **settings,
        "RIG_BINDS": " ".join(binds),
        "PATH": "/opt/charmcraft/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "UV_LINK_MODE": "copy",
        "UV_PYTHON_DOWNLOADS": "never",
        "DEBIAN_FRONTEND": "noninteractive",
        "CRAFT_VERBOSITY_LEVEL": "verbose",
    }
    script = ["sh", "-c", CHROOT, "pack", str(lower), str(tree), project, str(caches), *command]
    # From within a running rig, packing goes by the network of the process that started it.
    keeper = os.environ.get("RIG_KEEPER")
    outside = ["nsenter", f"--net=/proc/{keeper}/ns/net"] if keeper else []
    done = subprocess.run(
        [*outside, *isolation.quick(script)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise RigError(f"{' '.join(script[8:])[:200]} failed in the base:\n{done.stdout[-6000:]}")
    return done.stdout


def toolchain() -> Path:
    """The base with charmcraft and uv on top, cached (about a minute to make)."""
    lower = base.path()
    target = cache.directory() / f"pack-{cache.key(lower.name, CHARMCRAFT, UV, TOOLCHAIN, CHROOT)}"
    with cache.building(target) as scratch:
        if scratch is None:
            return target
        copied = scratch / "root"
        subprocess.run(
            ["cp", "-a", "--reflink=auto", str(lower / "root"), str(copied)], check=True
        )
        install = (
            f"apt-get update -q && apt-get install -qy --no-install-recommends {TOOLCHAIN}"
            " && apt-get clean && python3 -m venv --system-site-packages /opt/charmcraft"
            f" && /opt/charmcraft/bin/pip install -q '{CHARMCRAFT}' '{UV}'"
            " && tar -C / -cf /tree/made.tar opt/charmcraft usr var/lib/dpkg etc/alternatives"
        )
        _inside(copied, scratch, ".", ["sh", "-c", install], timeout=900)
        made = scratch / "made.tar"
        subprocess.run(["tar", "-C", str(copied), "-xf", str(made)], check=True)
        made.unlink()
    return target


def pack(project: Path, tree: Path | None = None) -> Path:
    """Pack the charm in `project`; return the `.charm` file in the cache.

    Args:
        project: the directory with charmcraft.yaml.
        tree: a directory above it that the parts may reach into (the repository); copied whole,
            without version control, tests and virtual environments. The project alone by default.

    Raises:
        RigError: with the end of charmcraft's output.
    """
    project = project.resolve()
    tree = (tree or project).resolve()
    inside = str(project.relative_to(tree))
    tools = toolchain()
    name = cache.key(tools.name, inside, cache.tree_key(tree, {*SKIP, *BUILT}))
    target = cache.directory() / f"charm-{project.name}-{name}"
    with cache.building(target) as scratch:
        if scratch is not None:
            work = scratch / "tree"
            ignore = shutil.ignore_patterns(*SKIP, *BUILT, "*.charm")
            shutil.copytree(tree, work, symlinks=True, ignore=ignore)
            # The uv plugin only installs what a lock names; a charm without one gets it now.
            command = "[ -e uv.lock ] || uv lock --quiet; charmcraft pack --destructive-mode -v"
            output = _inside(tools / "root", work, inside, ["sh", "-ec", command], timeout=900)
            (scratch / "pack.log").write_text(output)
            charms = sorted((work / inside).glob("*.charm"))
            if not charms:
                raise RigError(f"charmcraft made no charm in {project}:\n{output[-4000:]}")
            for charm in charms:
                shutil.move(charm, scratch / charm.name)
            shutil.rmtree(work)
    return sorted(target.glob("*.charm"))[0]

"""kill -9 of a real `ams serve` in the middle of an import: nothing partial, and it goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from aar_interface import Certificate, Role
from support import ams
from support.registry import running
from support.scripted import CuttingProxy

SIZE = 24_000_000


def test_a_killed_import_leaves_nothing_partial_and_resumes(tmp_path: Path) -> None:
    with running(tmp_path / "aar") as registry:
        certificate = registry.home / "certs" / "server.crt"
        proxy = CuttingProxy(("127.0.0.1", registry.port))
        try:
            with ams.running(tmp_path / "publisher") as publisher:
                join(publisher, registry, certificate, "push", registry.port)
                folder = ams.write_package(tmp_path / "big", "big")
                (folder / "extra-data").mkdir()
                (folder / "extra-data" / "asset").write_bytes(os.urandom(SIZE))
                manifest = folder / "manifest.yaml"
                manifest.write_text(
                    manifest.read_text() + "extra-data: {asset: {target: /data/asset}}\n"
                )
                publisher.ok("application", "create", folder)
                publisher.ok("registry", "sync")
            proxy.stall = SIZE // 2
            with ams.running(tmp_path / "client") as client:
                join(client, registry, certificate, "pull", proxy.port)
                staged = tmp_path / "client" / "data"
                assert proxy.stalled.wait(60), "the import never began"
                ams.until(lambda: largest(staged) >= SIZE // 4)
                assert client.ok("application", "list", "--format", "json").strip() == "[]"
                kill(client)
            arrived = largest(staged)
            assert SIZE // 4 <= arrived < SIZE
            proxy.go.set()
            proxy.stall = None
            with ams.running(tmp_path / "client") as client:
                ams.until(lambda: "big" in client.ok("application", "list"), 60)
                shown = client.ok("application", "show", "big", "--format", "json")
                assert '"status": "ready"' in shown
            assert not leftovers(staged)
        finally:
            proxy.close()


def join(service: ams.Service, registry, certificate: Path, mode: str, port: int) -> None:
    own = Certificate.parse((service.home / "registry" / "client.crt").read_bytes())
    registry.trust(own, Role.PUBLISHER if mode == "push" else Role.CLIENT)
    service.ok("config", "trust", "add", certificate)
    service.ok("config", "set", "registry.url", f"https://127.0.0.1:{port}")
    fingerprint = str(Certificate.parse(certificate.read_bytes()).fingerprint)
    service.ok("config", "set", "registry.fingerprint", fingerprint)
    service.ok("config", "set", "registry.mode", mode)


def kill(service: ams.Service) -> None:
    """End the master and its worker at once."""
    master = service.process.pid
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    for process in (master, *map(int, workers)):
        os.kill(process, signal.SIGKILL)
    service.process.wait()


def largest(folder: Path) -> int:
    return max((file.stat().st_size for file in folder.rglob("uploads/*")), default=0)


def leftovers(folder: Path) -> list[str]:
    return [str(file) for file in folder.rglob("uploads/*") if file.stat().st_size]

"""One run: its folder, identities, servers that are started when first asked for, and drivers."""

from __future__ import annotations

import os
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import catalogue, identities
from benchmarks.drivers import Crew, Outcome
from benchmarks.identities import Client
from benchmarks.peers import DockerRegistry, Nginx
from benchmarks.processes import Usage
from benchmarks.servers import Aar, Server
from regkit import identity

STOCK = "stock"
"""The folder beside those of labs for what is kept from one to the next."""
CONTENDERS = (Aar.name, DockerRegistry.name, Nginx.name)


class Lab:
    """A context manager; leaving ends every process and removes the folder.

    What takes long to make, registries with many versions, is kept in `stock` for the next lab.
    """

    def __init__(self, python: Path, parent: Path, contenders: Iterable[str] = CONTENDERS) -> None:
        """`python` runs the drivers; `parent` is on the disk that is to be measured."""
        self.python = python
        self._stock = parent / STOCK
        self.contenders = tuple(contenders)
        parent.mkdir(parents=True, exist_ok=True)
        # AMS's unix socket is below it, and the system allows 107 bytes for its path.
        self.folder = Path(tempfile.mkdtemp(prefix="r", dir=parent))
        self.cores = len(os.sched_getaffinity(0))
        self._stack = ExitStack()
        self._servers: dict[str, Server] = {}
        self._crowd: list[Client] = []
        (self.folder / "clients").mkdir()
        self.client = identities.make(self.folder / "clients", "client")
        self.publisher = identities.make(self.folder / "clients", "publisher")
        self.server_identity = identity.ensure(
            self.folder / "server.crt",
            self.folder / "server.key",
            "aar",
            ("127.0.0.1", "localhost"),
            usage="server",
        )

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stack.close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def keep(self, made: Any) -> Any:
        """Enter a context that is left when the run ends."""
        return self._stack.enter_context(made)

    def room(self, name: str) -> Path:
        """Return a folder for one purpose."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def crowd(self, count: int) -> list[Client]:
        """Return `count` clients with a certificate each; the same ones every time."""
        while len(self._crowd) < count:
            name = f"crowd-{len(self._crowd)}"
            self._crowd.append(identities.make(self.folder / "clients", name))
        return self._crowd[:count]

    def server(self, name: str) -> Server:
        """Return one of CONTENDERS, running."""
        if name not in self._servers:
            made = self.another(name, self.folder / name)
            made.start()
            self._stack.callback(made.stop)
            self._servers[name] = made
        return self._servers[name]

    def another(self, name: str, folder: Path, clients: Iterable[Client] = ()) -> Server:
        """Make a server of its own of one of CONTENDERS, not started.

        It trusts the usual two; ours trusts `clients`, too.
        """
        if name == Aar.name:
            return self.aar(folder, clients)
        kind = DockerRegistry if name == DockerRegistry.name else Nginx
        return kind(folder, self.server_identity, (self.client, self.publisher))

    def aar(
        self,
        folder: Path,
        clients: Iterable[Client] = (),
        settings: Mapping[str, object] | None = None,
    ) -> Aar:
        """Make a registry of ours that isn't started; it trusts `clients` beside the usual two."""
        trusted = (self.client, *clients)
        return Aar(folder, self.server_identity, trusted, (self.publisher,), settings)

    def stocked(self, versions: int, clients: Iterable[Client] = ()) -> Aar:
        """Make a registry of ours with so many versions, not started; the versions stay as they
        are for every caller, which must not run at the same time as another's."""
        folder = self._stock / f"aar-{versions}"
        if not folder.exists():
            making = self.folder / f"aar-{versions}"
            total = catalogue.fill(making, catalogue.entries(versions))
            last = next(catalogue.entries(1, first=versions - 1))
            catalogue.check(making, last, total)
            self._stock.mkdir(exist_ok=True)
            making.rename(folder)
        return self.aar(folder, clients)

    def servers(self, *wanted: str) -> list[Server]:
        """Return those of `wanted` that take part in this run, running."""
        return [self.server(name) for name in wanted if name in self.contenders]

    def ciphers(self) -> list[str]:
        """Say what each running server agrees upon with a client that offers what drivers do."""
        return [
            f"{name}: {server.cipher(self.client)}, HTTP/1.1, client certificate"
            for name, server in self._servers.items()
        ]

    # Load

    def job(
        self, kind: str, clients: Sequence[Client] | None = None, /, **more: Any
    ) -> dict[str, Any]:
        """Return a job for a driver that acts as `clients` (one client for all, if None)."""
        key = self.server_identity.certificate.key_hash
        who = [self.client] if clients is None else clients
        return {
            "kind": kind,
            "pin": f"sha256//{b64encode(bytes.fromhex(key)).decode()}",
            "identities": [str(client.pair) for client in who],
            **more,
        }

    def spread(self, count: int) -> list[int]:
        """Divide `count` connections over as many drivers as there are cores."""
        parts = min(count, self.cores)
        return [count // parts + (1 if index < count % parts else 0) for index in range(parts)]

    def run(self, server: Server, jobs: Sequence[dict[str, Any]]) -> tuple[Outcome, Usage]:
        """Run jobs to their end, each in a driver; tell what the server used meanwhile."""
        with self.crew(jobs) as crew, server.group.measured() as used:
            crew.go()
            outcome = crew.outcome()
        return outcome, used

    def crew(self, jobs: Sequence[dict[str, Any]], told: Any = None) -> Crew:
        """Prepare drivers; the caller lets them go."""
        return Crew(self.python, jobs, told)

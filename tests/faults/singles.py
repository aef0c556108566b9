"""One thing is bad and everything else goes on: looked at while it is bad, not afterwards.

What is bad is one item (a damaged blob, an answer about it that is empty, short or an error, an
upload that never ends) or one client's network. While it is, something else is published by each
publisher: that must be acknowledged, and must be at every client whose network is whole.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from socket import create_connection

import requests

from faults.injection import Fault, flip
from faults.invariants import contents
from faults.proxy import HTTP_FAULTS
from faults.services import ManagementService, settled
from faults.world import World
from regkit.errors import ServiceError
from regkit.oci.names import repository_of

BECOMES_BAD = 30.0
"""Seconds within which a client has met what is bad."""
ARRIVES = 60.0
"""Seconds within which something else is everywhere; usually one or two."""
CUTS = ("refuse", "stall")
WHOLE_ANSWERS = ("http-404", "http-500")
"""What a publisher can't take for a success."""


@dataclass
class Single(Fault):
    """A fault of one thing; `is_bad` looks from outside whether it is bad at this moment."""

    is_bad: Callable[[], bool] = lambda: True


class Singles:
    """Makes such faults, lets them be there at the same time, and publishes something else."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._rng = random.Random(f"{seed}/singles")

    def window(self, happened: list[Fault]) -> list[str]:
        """Let one of each kind be there; returns what is wrong, adds those that have struck."""
        faults, spared = self._choose()
        wrong = []
        try:
            for fault in faults:
                fault.begin()
            for fault in faults:
                if not settled(fault.is_bad, BECOMES_BAD):
                    wrong.append(f"{fault.what}: nobody has met it within {BECOMES_BAD:g} s")
            what = ", ".join(fault.what for fault in faults)
            wrong += self._go_on(spared, what)
            wrong += [
                f"{fault.what} was over before it was ended"
                for fault in faults
                if not fault.is_bad()
            ]
        finally:
            for fault in faults:
                fault.end()
            happened += faults
        return wrong

    def _choose(self) -> tuple[list[Single], list[ManagementService]]:
        first, second = self._rng.sample(self._world.clients, 2)
        faults = [
            self._answers(first, self._rng.choice(HTTP_FAULTS)),
            self._answers(self._world.publisher, self._rng.choice(WHOLE_ANSWERS)),
            self._upload(),
        ]
        if self._rng.random() < 0.5:
            return [*faults, self._damaged([first, second])], [first, second]
        return [self._cut(second), *faults, self._damaged([first])], [first]

    def _go_on(self, clients: Sequence[ManagementService], what: str) -> list[str]:
        world = self._world
        shas = {"its publisher": world.publish(), "the registry": world.push()}
        wrong = [
            f"stopped: {who} acknowledges nothing new with {what}"
            for who, sha in shas.items()
            if not sha
        ]
        wanted = {sha for sha in shas.values() if sha}
        for client in clients:
            if not settled(lambda client=client: wanted <= contents(client), ARRIVES):
                wrong.append(f"stopped: {client.name} gets nothing new with {what}")
        return wrong

    # The kinds

    def _answers(self, site: ManagementService, fault: str) -> Single:
        """All answers about one item: to a client that it is pushed for, or to its publisher."""
        world, proxy = self._world, self._world.proxies[site.name]
        publishes = site is world.publisher
        made: list[str] = []

        name = world.new_name("site" if publishes else "direct")

        def begin() -> None:
            proxy.begin(fault, only=f"/v2/{repository_of(name)}/")
            made.append(world.publish(name=name) if publishes else world.push(name=name))

        def is_bad() -> bool:
            if not made[0] or not proxy.hits:
                return False
            if publishes:
                return world.reader.get(f"/1.0/applications/{name}").status_code == 404
            return made[0] not in contents(site)

        label = {"http-404": "404", "http-500": "500"}.get(fault, "200 with a part or nothing")
        return Single(
            f"{label} for one item, the rest goes on",
            f"{site.name} {fault} for one item",
            f"network {site.name}",
            begin,
            is_bad,
            proxy.end,
            is_bad=is_bad,
        )

    def _damaged(self, clients: Sequence[ManagementService]) -> Single:
        """A blob that is damaged before anybody has fetched it."""
        world = self._world
        made: list[str] = []

        def damage(sha: str) -> None:
            flip(world.blob_of(world.registry, sha), self._rng)
            world.damaged.add(world.registry.name)
            world.flipped.add(sha)

        def is_bad() -> bool:
            if not made[0]:
                return False
            name = world.model.promised[made[0]].name
            return all(name in _set_aside(client) for client in clients)

        return Single(
            "blob damaged, the rest goes on",
            "registry: a damaged blob",
            "blobs registry",
            lambda: made.append(world.push(before_manifest=damage)),
            is_bad,
            is_bad=is_bad,
        )

    def _cut(self, site: ManagementService) -> Single:
        """The network of one client."""
        proxy, fault = self._world.proxies[site.name], self._rng.choice(CUTS)

        def is_bad() -> bool:
            return proxy.fault == fault and proxy.hits > 0

        return Single(
            "network of one client cut, the rest goes on",
            f"{site.name} {fault}",
            f"network {site.name}",
            lambda: proxy.begin(fault),
            is_bad,
            proxy.end,
            is_bad=is_bad,
        )

    def _upload(self) -> Single:
        """An upload that is begun and not ended, in the middle of a request."""
        world = self._world
        opened: list[ssl.SSLSocket] = []
        where: list[str] = []

        def begin() -> None:
            answer = world.direct.post("/v2/never-ended/blobs/uploads/")
            answer.raise_for_status()
            where.append(answer.headers["Location"])
            path = "/v2/" + where[0].partition("/v2/")[2]
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            assert world.direct.identity is not None
            context.load_cert_chain(world.direct.identity.path)
            plain = create_connection(("127.0.0.1", world.registry.port), 10)
            opened.append(context.wrap_socket(plain))
            head = f"PATCH {path} HTTP/1.1\r\nHost: registry\r\nContent-Length: 1000000\r\n\r\n"
            opened[0].sendall(head.encode() + b"x" * 30_000)

        def end() -> None:
            for connection in opened:
                with suppress(OSError):
                    connection.close()

        def is_bad() -> bool:
            return world.direct.get(where[0]).status_code == 204

        return Single(
            "upload left open, the rest goes on",
            "registry: an upload that never ends",
            "upload",
            begin,
            is_bad,
            end,
            is_bad=is_bad,
        )


def _set_aside(site: ManagementService) -> str:
    """What a site has set aside, as text; empty when it can't be asked."""
    try:
        with site.api() as client:
            return str(client.registry_status()["quarantined"])
    except (ServiceError, requests.RequestException):
        return ""

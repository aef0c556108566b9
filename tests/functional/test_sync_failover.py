"""A registry at several URLs: two real `aar serve` on one state, and what ends under a site."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from aar_interface import Role
from ams.packages import read
from ams.service import Service
from ams.settings import Settings
from ams.sync.endpoints import Endpoints
from ams.sync.registry import Registry
from ams.sync.transport import Transport
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from support.registry import RunningRegistry, running
from support.scripted import CuttingProxy, answer, scripted

SIZE = 6_000_000


class Pair:
    """Two servers on one state, each behind a proxy of its own."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.servers = [stack.enter_context(running(home)) for _ in range(2)]
        self.proxies = [CuttingProxy(("127.0.0.1", server.port)) for server in self.servers]
        for proxy in self.proxies:
            stack.callback(proxy.close)
        self.urls = [f"https://127.0.0.1:{proxy.port}" for proxy in self.proxies]

    @property
    def registry(self) -> RunningRegistry:
        """Either of them, for what is said to both."""
        return self.servers[1]

    def preferred(self, service: Service) -> int:
        """Which of the two a site asks first."""
        site = str(service.identity.certificate.fingerprint)
        return self.urls.index(Endpoints(self.urls, site).order()[0])

    def end(self, index: int) -> None:
        """Kill -9 one of them, and everything that listens in its place."""
        self.servers[index].kill()
        self.proxies[index].close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(tmp_path / "aar", stack)


Make = Callable[[str, str], Service]


@pytest.fixture
def make(tmp_path: Path, pair: Pair) -> Iterator[Make]:
    with ExitStack() as stack:

        def make(name: str, mode: str) -> Service:
            service = stack.enter_context(Service(tmp_path / name, Settings(architecture="amd64")))
            role = Role.PUBLISHER if mode == "push" else Role.CLIENT
            pair.registry.trust(service.identity.certificate, role)
            service.trust.add(pair.registry.certificate, Role.CLIENT)
            service.options.set("registry.url", ",".join(pair.urls))
            fingerprint = str(pair.registry.certificate.fingerprint)
            service.options.set("registry.fingerprint", fingerprint)
            service.options.set("registry.mode", mode)
            return service

        yield make


def create(service: Service, name: str, content: bytes) -> None:
    folder = service.home / "package" / name
    folder.mkdir(parents=True)
    (folder / "manifest.yaml").write_text(f"name: {name}\ninstance-type: a4.3\n")
    (folder / "app").write_bytes(content)
    with read(folder, service.blobs) as package:
        service.catalogue.create(package)


def test_a_download_goes_on_at_the_other_one_by_range(make: Make, pair: Pair) -> None:
    publisher, client = make("publisher", "push"), make("client", "pull")
    content = os.urandom(SIZE)
    create(publisher, "big", content)
    publisher.sync.sync_now()
    used = pair.preferred(client)
    proxy = pair.proxies[used]
    proxy.stall = SIZE // 2
    reports = []
    thread = threading.Thread(target=lambda: reports.append(client.sync.sync_now()))
    thread.start()
    assert proxy.stalled.wait(30), "the site asks the one that it prefers"
    pair.end(used)
    thread.join(60)
    assert reports[0].done == ("import big 0-amd64",)
    assert reports[0].bytes < SIZE + 200_000, "what had arrived was not fetched again"
    assert b"".join(client.blobs.read(Digest.of(content))) == content


def test_an_upload_ends_at_the_other_one(make: Make, pair: Pair) -> None:
    publisher, client = make("publisher", "push"), make("client", "pull")
    content = os.urandom(SIZE)
    create(publisher, "big", content)
    used = pair.preferred(publisher)
    proxy = pair.proxies[used]
    proxy.upstream, proxy.stall = True, SIZE // 2
    reports = []
    thread = threading.Thread(target=lambda: reports.append(publisher.sync.sync_now()))
    thread.start()
    assert proxy.stalled.wait(30)
    pair.end(used)
    thread.join(60)
    assert reports[0].done == ("push big 0-amd64",)
    assert client.sync.sync_now().done == ("import big 0-amd64",)
    assert b"".join(client.blobs.read(Digest.of(content))) == content


def test_a_site_that_waits_at_one_that_dies_hears_of_what_is_new(make: Make, pair: Pair) -> None:
    publisher, client = make("publisher", "push"), make("client", "pull")
    arrived = threading.Event()

    def look(_: object) -> None:
        if any(version.key.name == "late" for version in client.catalogue.versions()):
            arrived.set()

    client.catalogue.listen(look)
    waiting = threading.Event()
    client.sync.listen(lambda error: waiting.set() if not error else None)
    client.start_background()
    assert waiting.wait(30)
    pair.end(pair.preferred(client))
    create(publisher, "late", b"new")
    publisher.sync.sync_now()
    assert arrived.wait(30)


# One request, and what it meets


def plain() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


KEY, BLOB = Key("candy", 0, "amd64"), b"0123456789"


@pytest.mark.parametrize("status", [502, 503, 504])
def test_one_that_is_not_available_is_passed_over_and_left_alone(status: int) -> None:
    with (
        scripted(lambda *_: answer(status, b"down", retry_after="5")) as down,
        scripted(lambda *_: answer(200, BLOB)) as up,
    ):
        door = Registry(Transport([down.url, up.url], plain))
        for _ in range(3):
            assert door.small_blob(KEY, Digest.of(BLOB), len(BLOB)) == BLOB
        assert door.url == up.url
        assert (len(down.asked), len(up.asked)) == (1, 3)


def test_one_that_refuses_connections_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with scripted(lambda *_: answer(200, BLOB)) as up:
        door = Registry(Transport([nobody, up.url], plain))
        assert door.small_blob(KEY, Digest.of(BLOB), len(BLOB)) == BLOB
        assert door.url == up.url


def test_a_refusal_is_an_answer_that_no_other_is_asked_for() -> None:
    with (
        scripted(lambda *_: answer(404, b"{}")) as first,
        scripted(lambda *_: answer(200)) as second,
    ):
        door = Registry(Transport([first.url, second.url], plain))
        assert not door.has_blob(KEY, Digest.of(BLOB))
        assert not second.asked

"""The sync of two management services through a real `aar serve` over mutual TLS."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aar_interface import Role
from ams.catalogue import Change
from ams.packages import read
from ams.service import Service
from ams.settings import Settings
from ams.sync.transport import WrongCertificate
from regkit.errors import Forbidden, Unavailable
from regkit.oci.digest import Digest
from support.registry import RunningRegistry, running
from support.scripted import CuttingProxy

BIG = os.urandom(6_000_000)


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Iterator[RunningRegistry]:
    with running(tmp_path_factory.mktemp("aar")) as server:
        yield server


@pytest.fixture
def proxy(registry) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(("127.0.0.1", registry.port))
    yield proxy
    proxy.close()


Make = Callable[[str, str], Service]


@pytest.fixture
def make(tmp_path, registry, proxy) -> Iterator[Make]:
    """Make a service in `mode`, trusted by the registry, which it reaches through the proxy."""
    with ExitStack() as stack:

        def make(name: str, mode: str) -> Service:
            service = stack.enter_context(Service(tmp_path / name, Settings(architecture="amd64")))
            role = Role.PUBLISHER if mode == "push" else Role.CLIENT
            registry.trust(service.identity.certificate, role)
            service.trust.add(registry.certificate, Role.CLIENT)
            service.options.set("registry.url", f"https://127.0.0.1:{proxy.port}")
            service.options.set("registry.fingerprint", str(registry.certificate.fingerprint))
            service.options.set("registry.mode", mode)
            return service

        yield make


def package(folder: Path, name: str, **files: bytes) -> Path:
    folder = folder / "package" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.yaml").write_text(f"name: {name}\ninstance-type: a4.3\n")
    for path, content in files.items():
        (folder / path).write_bytes(content)
    return folder


def create(service: Service, name: str, **files: bytes) -> None:
    with read(package(service.home, name, **files), service.blobs) as content:
        service.catalogue.create(content)


def update(service: Service, name: str, **files: bytes) -> None:
    with read(package(service.home, name, **files), service.blobs) as content:
        service.catalogue.update(name, content)


def test_from_publisher_to_client_only_what_changed_moves(make):
    publisher, client = make("publisher", "push"), make("client", "pull")
    create(publisher, "changing", app=BIG, extra=b"one")
    assert publisher.sync.sync_now().done == ("push changing 0-amd64",)
    assert "import changing 0-amd64" in client.sync.sync_now().done
    assert b"".join(client.blobs.read(Digest.of(BIG))) == BIG
    update(publisher, "changing", app=BIG, extra=b"three")
    pushed = publisher.sync.sync_now()
    assert pushed.done == ("push changing 1-amd64",)
    assert pushed.bytes < 1000
    pulled = client.sync.sync_now()
    assert pulled.done == ("import changing 1-amd64",)
    assert pulled.bytes == len(b"three")
    publisher.catalogue.delete("changing")
    assert set(publisher.sync.sync_now().done) == {
        "withdraw changing 0-amd64",
        "withdraw changing 1-amd64",
    }
    assert set(client.sync.sync_now().done) == {
        "remove changing 0-amd64",
        "remove changing 1-amd64",
    }


def test_a_cut_connection_goes_on_by_range(make, proxy):
    publisher, client = make("publisher", "push"), make("client", "pull")
    client.sync.sync_now()
    content = os.urandom(6_000_000)
    create(publisher, "cut", app=content)
    proxy.upstream, proxy.cuts = True, [2_000_000]
    assert publisher.sync.sync_now().done == ("push cut 0-amd64",)
    assert proxy.made == 1
    proxy.upstream, proxy.cuts = False, [2_000_000, 2_000_000]
    report = client.sync.sync_now()
    assert report.done == ("import cut 0-amd64",)
    assert proxy.made == 3
    assert report.bytes < len(content) + 200_000, "what had arrived was not fetched again"
    assert b"".join(client.blobs.read(Digest.of(content))) == content


def test_a_change_arrives_by_itself(make):
    publisher, client = make("publisher", "push"), make("client", "pull")
    arrived, gone = threading.Event(), threading.Event()

    def note(change: Change) -> None:
        if change.name == "quick":
            {"version-imported": arrived, "version-removed": gone}[change.event].set()

    client.catalogue.listen(note)
    for service in (publisher, client):
        service.start_background()
    create(publisher, "quick", app=b"a")
    assert arrived.wait(20), "the interval of an hour would not have brought it"
    publisher.catalogue.delete("quick")
    assert gone.wait(20)


def test_another_certificate_than_the_pinned_one_is_refused(make, registry, tmp_path):
    client = make("client", "pull")
    with running(tmp_path / "other") as other:
        client.options.set("registry.url", other.url)
        with pytest.raises(WrongCertificate, match=r"registry\.fingerprint"):
            client.sync.sync_now()
        # A second URL with the right one is found.
        client.options.set("registry.url", f"{other.url},{registry.url}")
        client.sync.sync_now()


def test_a_client_may_not_push_and_a_revoked_one_not_pull(make, registry):
    client = make("client", "pull")
    client.options.set("registry.mode", "push")
    with pytest.raises(Forbidden, match="--publisher"):
        client.sync.sync_now()
    client.options.set("registry.mode", "pull")
    client.sync.sync_now()
    registry.store.revoke(client.identity.certificate.fingerprint)
    with pytest.raises(Forbidden, match="doesn't trust"):
        client.sync.sync_now()


def test_what_is_not_there_is_told(make, proxy):
    client = make("client", "pull")
    proxy.close()
    with pytest.raises(Unavailable, match="can't be reached"):
        client.sync.sync_now()
    assert "can't be reached" in client.sync.status()["last_error"]

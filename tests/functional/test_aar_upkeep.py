"""`aar verify` and `aar gc` beside a running registry; a site pushes lost content again."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aar_interface import Certificate, Role
from ams.packages import read
from ams.service import Service
from ams.settings import Settings
from support.distribution import digest_of, push_application, push_blob, push_image
from support.operator import Operator
from support.registry import RunningRegistry, running

APK = b"an apk that the disk will lose" * 1000
FILES = {"app.apk": APK}
DIGEST = digest_of(APK)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningRegistry]:
    with running(tmp_path / "state", workers=2) as server:
        push_application(server.publisher, "candy", files=FILES)
        yield server


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def spoil(home: Path, digest: str = DIGEST) -> Path:
    hexa = digest.partition(":")[2]
    path = home / "data" / "blobs" / "sha256" / hexa[:2] / hexa
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    return path


def verified(operator: Operator, *options: str, code: int = 0) -> dict[str, Any]:
    done = operator.aar("verify", "--format", "json", *options)
    assert (done.returncode, done.stderr) == (code, "")
    return json.loads(done.stdout)


def test_damage_is_never_served_and_a_push_mends_it(server: RunningRegistry, operator: Operator):
    assert verified(operator)["sound"]
    spoil(server.home)
    done = operator.aar("verify")
    assert (done.returncode, done.stderr) == (3, "")
    publisher = server.publisher.fingerprint
    assert publisher is not None
    assert f"damaged: {DIGEST}" in done.stdout
    assert f"  {publisher.short} (publisher): candy 0-amd64\n" in done.stdout
    path = f"/v2/candy/blobs/{DIGEST}"
    assert [server.client.get(path).status_code for _ in range(4)] == [404] * 4
    assert server.client.head(path).status_code == 404
    assert server.client.get("/v2/candy/manifests/0-amd64").status_code == 200
    found = verified(operator, code=3)
    assert [item["kind"] for item in found["damaged"]] == ["missing"]

    push_application(server.publisher, "candy", files=FILES)
    assert server.client.get(path).content == APK
    assert verified(operator)["damaged"] == []
    assert operator.ok("verify").endswith("Sound\n")


def test_repaired_from_another_registry(
    server: RunningRegistry, operator: Operator, tmp_path: Path
):
    with running(tmp_path / "peer") as peer:
        push_application(peer.publisher, "candy", files=FILES)
        pin = str(peer.certificate.fingerprint)
        options = ("--repair", "--from", peer.url, "--fingerprint", pin)
        spoil(server.home)
        stranger = verified(operator, *options, code=3)
        assert "answered 403" in stranger["notes"][0]
        own = Certificate.parse((server.home / "certs" / "client.crt").read_bytes())
        peer.trust(own, Role.CLIENT)
        wrong = verified(operator, *options[:-1], "0" * 64, code=3)
        assert "can't be reached" in wrong["notes"][0]
        mended = verified(operator, *options)
        assert [item["restored"] for item in mended["damaged"]] == [peer.url]
    assert server.client.get(f"/v2/candy/blobs/{DIGEST}").content == APK


@pytest.mark.parametrize(
    "options",
    [
        ("--from", "/srv"),
        ("--repair", "--from", "https://192.0.2.1:3000"),
        ("--repair", "--from", "https://192.0.2.1:3000", "--fingerprint", "12345678"),
        ("--repair", "--fingerprint", "0" * 64),
        ("--format", "table"),
    ],
)
def test_wrong_usage(operator: Operator, options: tuple[str, ...]):
    operator.fails("verify", *options, code=2)
    assert not operator.home.exists()


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("/does/not/exist", "No such file"),
        ("http://192.0.2.1", "give a folder, a backup or an https:// URL"),
        (__file__, "neither a folder nor a backup"),
    ],
)
def test_places_that_can_not_be_read(operator: Operator, place: str, says: str):
    assert says in operator.fails("verify", "--repair", "--from", place)


def test_a_site_gives_lost_content_again(
    server: RunningRegistry, operator: Operator, tmp_path: Path
):
    """What `verify` advises: `amc registry push` sends what the registry lost."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "manifest.yaml").write_text("name: toffee\ninstance-type: a4.3\n")
    (package / "app.apk").write_bytes(APK + b"toffee")
    with Service(tmp_path / "ams", Settings(architecture="amd64")) as site:
        server.trust(site.identity.certificate, Role.PUBLISHER)
        site.trust.add(server.certificate, Role.CLIENT)
        site.options.set("registry.url", server.url)
        site.options.set("registry.fingerprint", str(server.certificate.fingerprint))
        site.options.set("registry.mode", "push")
        with read(package, site.blobs) as content:
            site.catalogue.create(content)
        site.sync.sync_now()
        assert site.sync.push("toffee").done == ()
        spoil(server.home, digest_of(APK + b"toffee"))
        assert not verified(operator, code=3)["sound"]
        assert site.sync.push("toffee").done == ("push toffee 0-amd64",)
        assert site.sync.push("toffee").done == ()
    assert verified(operator)["sound"]


def test_left_overs_are_removed_at_once(server: RunningRegistry, operator: Operator):
    assert "0 bytes in all" in operator.ok("gc")
    server.publisher.post("/v2/candy/blobs/uploads/")
    push_blob(server.publisher, "candy", b"never referred to")
    used = push_image(server.publisher, "tools", "v1", b"referred to")
    orphan = server.home / "data" / "blobs" / "sha256" / "00" / ("00" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"left by a crash")
    (upload,) = (server.home / "data" / "uploads").iterdir()
    upload.write_bytes(b"given up")
    assert "0 bytes in all" in operator.ok("gc", "--older-than", "1m")
    # Only files can be made older; rows are, in the janitor's own tests.
    os.utime(upload, (1_600_000_000, 1_600_000_000))

    would = json.loads(operator.ok("gc", "--dry-run", "--format", "json"))
    assert would == {
        "dry-run": True,
        "uploads": {"count": 1, "bytes": 8},
        "blobs": {"count": 0, "bytes": 0},
        "orphans": {"count": 0, "bytes": 0},
        "bytes": 8,
    }
    assert upload.exists()
    done = yaml.safe_load(operator.ok("gc", "--format", "yaml"))
    assert done == {**would, "dry-run": False}
    assert not upload.exists()
    assert server.client.get(f"/v2/tools/manifests/{used}").status_code == 200
    assert operator.fails("gc", "--older-than", "30s", code=2)


def test_collecting_while_publishers_push(server: RunningRegistry, operator: Operator):
    """Everything that is acknowledged is whole, however often it is collected meanwhile."""
    pushed: list[str] = []
    over = threading.Event()

    def publish() -> None:
        session = server.new_session(server.publisher.identity)
        number = 0
        while not over.is_set():
            content = {"app.apk": os.urandom(20_000)}
            push_application(session, "busy", number, files=content)
            pushed.append(digest_of(content["app.apk"]))
            number += 1

    sender = threading.Thread(target=publish)
    sender.start()
    try:
        for _ in range(5):
            operator.ok("gc", "--older-than", "1m")
            assert verified(operator)["sound"]
    finally:
        over.set()
        sender.join(30)
    assert len(pushed) > 5
    for digest in pushed:
        assert server.client.head(f"/v2/busy/blobs/{digest}").status_code == 200
    assert verified(operator)["sound"]

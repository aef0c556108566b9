"""The websockets of events and of one operation, through both doors."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import websocket

from support import pairs
from support.ams import Service, running, until, write_package
from support.pairs import Pair
from support.websockets import Events, connected

GOING_AWAY, POLICY, TRY_LATER = 1001, 1008, 1013
KEY = base64.b64encode(b"0123456789abcdef").decode()
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


@pytest.fixture
def pair(service: Service, tmp_path: Path) -> Iterator[Pair]:
    made = pairs.make(tmp_path, "listener")
    service.ok("config", "trust", "add", made.cert_path)
    yield made
    service.amc("config", "trust", "remove", str(made.certificate.fingerprint))


def settle(events: Events, service: Service, mark: str) -> list[dict[str, Any]]:
    """Return what comes up to the news of a change made now."""
    service.ok("config", "set", "registry.filter", mark)
    heard: list[dict[str, Any]] = []
    while True:
        event = events.next()
        if event["metadata"].get("context") == {"name": "registry.filter"}:
            return heard
        heard.append(event)


@pytest.mark.parametrize("door", ["unix", "tls"])
def test_an_operation_from_its_beginning_to_its_end(
    service: Service, pair: Pair, tmp_path: Path, door: str
) -> None:
    folder = write_package(tmp_path / "package", f"followed-{door}")
    with connected(service, "/1.0/events", pair if door == "tls" else None) as events:
        service.ok("application", "create", folder)
        first = events.next()
        assert (first["type"], first["metadata"]["status_code"]) == ("operation", 100)
        seen = [first]
        while seen[-1]["metadata"].get("status_code") != 200:
            seen.append(events.next())
    id_ = first["metadata"]["id"]
    codes = [e["metadata"]["status_code"] for e in seen if e["type"] == "operation"]
    assert codes == sorted(codes)
    assert {e["metadata"]["id"] for e in seen if e["type"] == "operation"} == {id_}
    (created,) = (e["metadata"] for e in seen if e["type"] == "lifecycle")
    assert created["action"] == "application-created"
    assert [created["source"]] == seen[-1]["metadata"]["resources"]["applications"]
    assert seen[-1]["metadata"] == service.api("GET", f"/1.0/operations/{id_}").json()["metadata"]


def test_what_happens_to_applications_and_what_surrounds_them(
    service: Service, pair: Pair, tmp_path: Path
) -> None:
    other = pairs.make(tmp_path, "other")
    folder = write_package(tmp_path / "package", "eventful")
    with connected(service, "/1.0/events?type=lifecycle", pair) as events:
        service.ok("application", "create", folder)
        (folder / "app.apk").write_bytes(b"other")
        service.ok("application", "update", "eventful", folder)
        path = "/1.0/applications/eventful"
        service.api("PATCH", path, json={"tags": ["new"]})
        service.api("PATCH", f"{path}/0", json={"published": False})
        service.api("PATCH", f"{path}/0", json={"published": True})
        service.api("DELETE", f"{path}/0", json={})
        service.api("DELETE", path, json={})
        service.ok("config", "trust", "add", other.cert_path)
        service.ok("config", "trust", "remove", str(other.certificate.fingerprint))
        service.ok("config", "set", "registry.mode", "manual")
        service.ok("config", "set", "registry.mode", "pull")
        heard = [events.next()["metadata"] for _ in range(11)]
    certificate = f"/1.0/certificates/{other.certificate.fingerprint}"
    assert [item["action"] for item in heard] == [
        "application-created",
        "version-created",
        "application-updated",
        "version-revoked",
        "version-published",
        "version-deleted",
        "application-deleted",
        "certificate-added",
        "certificate-removed",
        "config-updated",
        "config-updated",
    ]
    assert {item["source"] for item in heard[7:9]} == {certificate}
    assert len({item["source"] for item in heard[:7]}) == 1
    assert [item["context"].get("version") for item in heard[:7]] == [None, 1, None, 0, 0, 0, None]


def test_the_registry_is_told_of(service: Service, tmp_path: Path) -> None:
    server = pairs.make(tmp_path, "registry", usage="server")
    service.ok("config", "set", "registry.mode", "manual")
    service.ok("config", "trust", "add", server.cert_path)
    service.ok("config", "set", "registry.fingerprint", str(server.certificate.fingerprint))
    service.ok("config", "set", "registry.url", "https://127.0.0.1:1")
    with connected(service, "/1.0/events?type=lifecycle") as events:
        service.fails("registry", "sync")
        told = events.lifecycle("registry-sync-failed")
    assert told["source"] == "/1.0/registry"
    assert "127.0.0.1:1" in told["context"]["error"]
    service.ok("config", "set", "registry.url", "")


def test_only_the_types_that_were_asked_for(service: Service, tmp_path: Path) -> None:
    for kinds, wanted in [
        ("operation", {"operation"}),
        ("lifecycle", {"lifecycle"}),
        ("operation,lifecycle", {"operation", "lifecycle"}),
        ("", {"operation", "lifecycle"}),
    ]:
        folder = write_package(tmp_path / kinds, f"typed-{kinds.replace(',', '-')}")
        with connected(service, f"/1.0/events?type={kinds}") as events:
            service.ok("application", "create", folder)
            if "lifecycle" in wanted:
                heard = settle(events, service, f"t{len(kinds)}")
            else:
                heard = [events.until(lambda e: e["metadata"]["status_code"] == 200)]
        assert {event["type"] for event in heard} == wanted


def test_events_carry_no_secret(service: Service, tmp_path: Path) -> None:
    newcomer = pairs.make(tmp_path, "newcomer")
    secrets = ["correct horse", "battery staple"]
    with connected(service, "/1.0/events") as events:
        service.ok("config", "set", "core.trust_password", "-", stdin=secrets[0])
        body = {"certificate": newcomer.certificate.pem, "trust-password": secrets[1]}
        assert service.api("POST", "/1.0/certificates", json=body).status_code == 200
        managed = {"config": {"core.trust_password": secrets[1]}}
        service.api("PUT", "/1.0/config/managed/test", json=managed)
        service.api("PUT", "/1.0/config/managed/test", json={"config": {}})
        service.ok("config", "set", "core.trust_password", "")
        heard = json.dumps(settle(events, service, "secret"))
    assert "core.trust_password" in heard
    for secret in (*secrets, "scrypt", "PRIVATE KEY"):
        assert secret not in heard


def test_following_one_operation(service: Service, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sync = stalled(service, silent, tmp_path)
        with (
            connected(service, f"{sync}/websocket?secret=any") as followed,
            connected(service, f"{sync}/websocket") as other,
        ):
            first = followed.next()
            assert (first["type"], first["metadata"]["status_code"]) == ("operation", 103)
            assert service.api("GET", "/1.0/tasks").json()["metadata"][0] == {
                "id": sync.rpartition("/")[2],
                "status": "running",
                "object_id": "",
                "object_type": "",
            }
            assert service.api("DELETE", sync).status_code == 200
            cancelling = followed.until(lambda e: e["metadata"]["status_code"] != 103)
            assert cancelling["metadata"]["status"] == "Cancelling"
            silent.accept()[0].close()
            silent.close()
            last = followed.until(lambda e: e["metadata"]["status_code"] >= 200)
            assert last["metadata"]["status"] == "Cancelled"
            assert followed.ended() == 1000
            assert other.ended() == 1000
        # It has ended: who comes now is told so, and sent away.
        with connected(service, f"{sync}/websocket") as late:
            assert late.next()["metadata"] == last["metadata"]
            assert late.ended() == 1000
    service.ok("config", "set", "registry.url", "")


def stalled(service: Service, silent: socket.socket, folder: Path) -> str:
    """Start a sync with a registry that says nothing, and return its operation's URL."""
    server = pairs.make(folder, "silent", usage="server")
    service.ok("config", "set", "registry.mode", "manual")
    service.ok("config", "trust", "add", server.cert_path)
    service.ok("config", "set", "registry.fingerprint", str(server.certificate.fingerprint))
    service.ok("config", "set", "registry.url", f"https://127.0.0.1:{silent.getsockname()[1]}")
    url = service.api("POST", "/1.0/registry/sync", json={}).json()["operation"]
    until(lambda: service.api("GET", url).json()["metadata"]["status_code"] == 103)
    return url


def test_trust_that_is_taken_away_ends_it(service: Service, pair: Pair) -> None:
    with connected(service, "/1.0/events", pair) as events:
        settle(events, service, "trusted")
        service.ok("config", "trust", "remove", str(pair.certificate.fingerprint))
        service.ok("config", "set", "registry.filter", "unheard")
        heard: list[bytes] = []
        while True:
            opcode, data = events.connection.recv_data(control_frame=True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                break
            heard.append(data)
    assert int.from_bytes(data[:2], "big") == POLICY
    assert b"not trusted" in data
    # What happened before the removal, and the removal itself, at most; nothing after it.
    assert not any(b"config-updated" in message for message in heard)


def test_strangers_hear_nothing(service: Service, tmp_path: Path) -> None:
    stranger = pairs.make(tmp_path, "stranger")
    for path in ("/1.0/events", "/1.0/operations/x/websocket"):
        refused(service, path, 403, stranger)
        until(lambda p=path: service.logged("refused", p, str(stranger.certificate.fingerprint)))


def refused(
    service: Service, path: str, status: int, pair: Pair | None = None, **headers: str
) -> None:
    with (
        pytest.raises(websocket.WebSocketBadStatusException) as caught,
        connected(service, path, pair, **headers),
    ):
        pass
    assert caught.value.status_code == status
    assert json.loads(caught.value.resp_body or b"{}")["error_code"] == status


def test_handshakes_that_are_none(service: Service) -> None:
    refused(service, "/1.0/events?type=logging", 400)
    refused(service, "/1.0/operations/nobody/websocket", 404)
    # A web page of another site, in the browser of somebody who holds a certificate.
    refused(service, "/1.0/events", 403, Origin="https://elsewhere.example")
    with connected(service, "/1.0/events", Origin="http://ams") as events:
        settle(events, service, "origin")
    for headers in (
        {},
        {**UPGRADE, "Sec-WebSocket-Version": "8"},
        {**UPGRADE, "Sec-WebSocket-Key": "short"},
        {**UPGRADE, "Sec-WebSocket-Key": ""},
        {**UPGRADE, "Connection": "close"},
        {**UPGRADE, "Content-Length": "3"},
    ):
        body = b"abc" if "Content-Length" in headers else None
        answer = service.api("GET", "/1.0/events", headers=headers, data=body)
        assert (answer.status_code, answer.json()["type"]) == (400, "error"), headers
    assert service.api("HEAD", "/1.0/events", headers=UPGRADE).status_code == 400


@pytest.mark.parametrize("door", ["unix", "tls"])
def test_pings_are_answered_and_what_else_is_sent_is_dropped(
    service: Service, pair: Pair, door: str
) -> None:
    with connected(service, "/1.0/events", pair if door == "tls" else None) as events:
        events.connection.send("who is there?")
        events.connection.send_binary(bytes(300_000))
        events.connection.ping(b"alive?")
        opcode, data = events.connection.recv_data(control_frame=True)
        assert (opcode, data) == (websocket.ABNF.OPCODE_PONG, b"alive?")
        events.connection.send_close(1000, b"bye")
        assert events.ended() == 1000


def test_garbage_ends_the_connection_and_nothing_else(service: Service) -> None:
    with connected(service, "/1.0/events") as events:
        events.socket.sendall(b"\xff" * 1000)
        assert events.ended() == 1002
    assert service.api("GET", "/1.0").status_code == 200
    assert not service.logged("request-failed")


def test_many_listeners_cost_little_and_all_hear(service: Service) -> None:
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(connected(service, "/1.0/events?type=lifecycle"))
            for _ in range(100)
        ]
        begun = time.monotonic()
        service.ok("config", "set", "registry.filter", "many")
        for events in listeners:
            assert events.next()["metadata"]["action"] == "config-updated"
        assert time.monotonic() - begun < 30
        assert service.api("GET", "/1.0").status_code == 200


def test_a_slow_reader_is_dropped_and_nobody_waits_for_it(service: Service) -> None:
    with connected(service, "/1.0/events") as slow, connected(service, "/1.0/events") as quick:
        # It reads nothing: what is sent fills the socket, then its queue.
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        dropped = False
        with service.session() as session:
            for number in range(4000):
                body = {"name": "registry.filter", "value": f"{number}-" + "x" * 200}
                answer = session.patch("http://unix.socket/1.0/config", json=body, timeout=60)
                assert answer.status_code == 202
                heard = quick.lifecycle("config-updated")
                assert heard["context"] == {"name": "registry.filter"}
                dropped = gone(slow)
                if dropped:
                    break
        assert dropped
    service.ok("config", "set", "registry.filter", "")


def gone(events: Events) -> bool:
    """Say whether the service has closed its side, without reading what it has sent."""
    poll = select.poll()
    poll.register(events.socket, 0)
    return any(flags & select.POLLHUP for _, flags in poll.poll(0))


def test_it_ends_when_the_service_stops(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        pair = pairs.make(tmp_path / "pair", "listener")
        service.ok("config", "trust", "add", pair.cert_path)
        with (
            connected(service, "/1.0/events") as local,
            connected(service, "/1.0/events", pair) as remote,
        ):
            settle(local, service, "up")
            os.kill(service.process.pid, signal.SIGTERM)
            assert (local.ended(), remote.ended()) == (GOING_AWAY, GOING_AWAY)
            assert service.process.wait(20) == 0
        assert not service.logged("error")

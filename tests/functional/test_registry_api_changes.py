"""`/1.0/changes`: cursors, ETags and the long-poll, with several workers."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.distribution import digest_of, push_application
from support.registry import RunningRegistry, running


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("changes"), workers=2) as server:
        push_application(server.publisher, "first", tags=("a", "b"))
        yield server


def read(session, query: str = "") -> dict:
    response = session.get(f"/1.0/changes?{query}")
    assert response.status_code == 200, response.text
    return response.json()["metadata"]


def test_from_the_beginning(server: RunningRegistry):
    page = read(server.client)
    change = page["changes"][0]
    assert set(change) == {
        "seq", "kind", "name", "number", "architecture", "digest", "size", "tags", "at", "by",
    }  # fmt: skip
    assert (change["seq"], change["kind"], change["name"]) == (1, "published", "first")
    assert (change["number"], change["architecture"]) == (0, "amd64")
    assert (change["tags"], change["size"]) == (["a", "b"], len(b"apk of first"))
    assert change["by"] == str(server.publisher.fingerprint)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", change["at"])
    assert page["cursor"].startswith(page["epoch"] + ":")


def test_pages_are_dense(server: RunningRegistry):
    for number in range(5):
        push_application(server.publisher, "paged", number)
    server.publisher.delete("/1.0/applications/paged/3")
    head = read(server.client)["seq"]
    found, cursor = [], ""
    while True:
        page = read(server.client, f"limit=2&since={cursor}")
        if not page["changes"]:
            break
        assert len(page["changes"]) <= 2
        found += page["changes"]
        cursor = page["cursor"]
    assert [change["seq"] for change in found] == list(range(1, head + 1))
    assert [c["kind"] for c in found if c["name"] == "paged"] == ["published"] * 5 + ["removed"]


def test_pushing_the_same_again_is_no_change(server: RunningRegistry):
    push_application(server.publisher, "same")
    head = read(server.client)["seq"]
    push_application(server.publisher, "same")
    assert read(server.client)["seq"] == head


def test_etag(server: RunningRegistry):
    first = server.client.get("/1.0/changes")
    etag = first.headers["ETag"]
    assert etag == f'"{first.json()["metadata"]["epoch"]}:{first.json()["metadata"]["seq"]}"'
    same = server.client.get("/1.0/changes", headers={"If-None-Match": etag})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
    push_application(server.publisher, "etag")
    other = server.client.get("/1.0/changes", headers={"If-None-Match": etag})
    assert other.status_code == 200


def test_another_epoch_is_gone(server: RunningRegistry):
    page = read(server.client)
    response = server.client.get(f"/1.0/changes?since={'0' * 32}:0")
    assert response.status_code == 410
    body = response.json()
    assert body["type"] == "error"
    assert body["metadata"] == {"epoch": page["epoch"], "seq": page["seq"]}


def test_beyond_the_head_is_a_conflict(server: RunningRegistry):
    page = read(server.client)
    response = server.client.get(f"/1.0/changes?since={page['epoch']}:{page['seq'] + 1}")
    assert response.status_code == 409
    assert response.json()["metadata"] == {"epoch": page["epoch"], "seq": page["seq"]}


@pytest.mark.parametrize(
    "query",
    ["since=x", "since=1", "since=a:b", "limit=0", "limit=1001", "limit=all", "wait=-1",
     "wait=soon", "wait=nan", "wait=1e9", "wait=", "wait=."],
)  # fmt: skip
def test_bad_questions(server: RunningRegistry, query):
    response = server.client.get(f"/1.0/changes?{query}")
    assert response.status_code == 400
    assert response.json()["error"]


def wait_for_waiting(server: RunningRegistry, count: int) -> None:
    def waiting() -> bool:
        lines = server.client.get("/metrics").text.splitlines()
        return f"aar_waiting_clients {float(count)}" in lines

    server.until(waiting)


def test_waiting_ends_empty(server: RunningRegistry):
    cursor = read(server.client)["cursor"]
    began = time.monotonic()
    page = read(server.client, f"since={cursor}&wait=0.3")
    assert 0.3 <= time.monotonic() - began < 5
    assert (page["changes"], page["cursor"]) == ([], cursor)


def test_waiting_with_an_etag_ends_in_304(server: RunningRegistry):
    etag = server.client.get("/1.0/changes").headers["ETag"]
    response = server.client.get("/1.0/changes?wait=0.2", headers={"If-None-Match": etag})
    assert response.status_code == 304


def test_waiting_clients_of_all_workers_wake_within_a_second(server: RunningRegistry):
    cursor = read(server.client)["cursor"]
    count = 8
    with ThreadPoolExecutor(count) as pool:
        # A session each, so that connections spread over the workers.
        sessions = [server.new_session(server.client.identity) for _ in range(count)]

        def wait(session) -> tuple[dict, float]:
            return read(session, f"since={cursor}&wait=30"), time.monotonic()

        waits = [pool.submit(wait, session) for session in sessions]
        wait_for_waiting(server, count)
        digest = push_application(server.publisher, "woken")
        pushed = time.monotonic()
        for page, woken in (done.result(timeout=20) for done in waits):
            assert [change["digest"] for change in page["changes"]] == [digest]
            assert woken - pushed < 1
    wait_for_waiting(server, 0)


def test_losing_trust_ends_the_wait(server: RunningRegistry):
    cursor = read(server.client)["cursor"]
    leaving = server.add_session("client")
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(leaving.get(f"/1.0/changes?since={cursor}&wait=30"))
    )
    thread.start()
    wait_for_waiting(server, 1)
    began = time.monotonic()
    server.revoke(leaving)
    thread.join(20)
    assert time.monotonic() - began < 2
    assert answers[0].status_code == 403
    assert answers[0].json()["error_code"] == 403


def test_stopping_ends_the_wait(tmp_path):
    with running(tmp_path) as server:
        digest = push_application(server.publisher, "only")
        cursor = read(server.client)["cursor"]
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(read(server.client, f"since={cursor}&wait=60"))
        )
        thread.start()
        other = server.new_session(server.client.identity)
        server.until(lambda: "aar_waiting_clients 1.0" in other.get("/metrics").text)
        began = time.monotonic()
        assert server.stop() == 0
        thread.join(20)
        assert time.monotonic() - began < 8
        assert answers[0]["changes"] == []
    with running(tmp_path) as server:
        assert read(server.add_session("client"))["changes"][0]["digest"] == digest


def test_digest_is_the_manifests(server: RunningRegistry):
    manifest = server.client.get("/v2/first/manifests/0-amd64").content
    assert read(server.client)["changes"][0]["digest"] == digest_of(manifest)

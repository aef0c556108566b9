"""What an operator fears: kill -9 during an upload, racing publishers, left-overs, our faults."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from aar.registry import Registry
from support.distribution import (
    application_parts,
    codes,
    digest_of,
    push_application,
    push_blob,
    push_image,
    put_manifest,
)
from support.registry import RunningRegistry, running

CONTENT = os.urandom(1024 * 1024) * 8
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("faults"), workers=2) as server:
        yield server


def files_under(server: RunningRegistry, folder: str) -> list[str]:
    paths = (server.home / "data" / folder).rglob("*")
    return sorted(path.name for path in paths if path.is_file())


def test_killed_during_an_upload(tmp_path):
    with running(tmp_path) as server:
        push_application(server.publisher, "kept")
        location = server.publisher.post("/v2/app/blobs/uploads/").headers["Location"]
        acknowledged = 3 * 1024 * 1024
        response = server.publisher.patch(location, data=CONTENT[:acknowledged])
        assert response.status_code == 202

        # The second chunk is cut by the kill while the server is in the midst of it.
        half_sent, killed = threading.Event(), threading.Event()

        def body():
            yield CONTENT[acknowledged : acknowledged + 512 * 1024]
            half_sent.set()
            killed.wait(20)
            yield CONTENT[acknowledged + 512 * 1024 :]

        def upload() -> None:
            with pytest.raises(OSError):
                server.publisher.patch(location, data=body())

        sender = threading.Thread(target=upload)
        sender.start()
        assert half_sent.wait(20)
        server.kill()
        killed.set()
        sender.join(20)
        assert not sender.is_alive()

        server.restart()
        assert server.client.head(f"/v2/app/blobs/{DIGEST}").status_code == 404
        assert server.client.get("/1.0/applications/kept").status_code == 200
        status = server.publisher.get(location)
        assert status.status_code == 204
        offset = int(status.headers["Range"].partition("-")[2]) + 1
        assert acknowledged <= offset <= acknowledged + 512 * 1024
        response = server.publisher.patch(
            location,
            data=CONTENT[offset:],
            headers={"Content-Range": f"{offset}-{len(CONTENT) - 1}"},
        )
        assert response.status_code == 202
        response = server.publisher.put(f"{location}?digest={DIGEST}")
        assert response.status_code == 201
        assert server.client.get(f"/v2/app/blobs/{DIGEST}").content == CONTENT
        assert files_under(server, "uploads") == []


def test_left_overs_go_after_their_period(tmp_path):
    with running(tmp_path) as server:
        location = server.publisher.post("/v2/app/blobs/uploads/").headers["Location"]
        server.publisher.patch(location, data=b"given up")
        unused = push_blob(server.publisher, "app", b"never referred to")
        used = push_image(server.publisher, "app", "v1", b"referred to")
        assert len(files_under(server, "uploads")) == 1
        now = datetime.now(timezone.utc)
        with Registry(server.home) as registry:
            early = registry.janitor.run(now + timedelta(hours=23))
            assert (early.uploads, early.blobs) == (0, 0)
            late = registry.janitor.run(now + timedelta(hours=25))
            assert (late.uploads, late.blobs) == (1, 1)
        assert files_under(server, "uploads") == []
        response = server.publisher.get(location)
        assert (response.status_code, codes(response)) == (404, ["BLOB_UPLOAD_UNKNOWN"])
        assert server.client.head(f"/v2/app/blobs/{unused}").status_code == 404
        assert server.client.get(f"/v2/app/manifests/{used}").status_code == 200
        assert server.client.get(f"/v2/app/blobs/{digest_of(b'referred to')}").ok


def test_two_publishers_race_for_a_version(server: RunningRegistry):
    rounds, racers = 5, 4
    sessions = [server.add_session("publisher") for _ in range(racers)]
    with ThreadPoolExecutor(racers) as pool:
        for number in range(rounds):
            barrier = threading.Barrier(racers)
            parts = [
                application_parts("raced", number, files={"app.apk": f"{number} {me}".encode()})
                for me in range(racers)
            ]
            for session, (_, _, config, files) in zip(sessions, parts, strict=True):
                for blob in (config, *files.values()):
                    push_blob(session, "raced", blob)

            def put(session, manifest: bytes, tag: str, barrier=barrier):
                barrier.wait(20)
                return put_manifest(session, "raced", tag, manifest)

            answers = list(
                pool.map(
                    put,
                    sessions,
                    [manifest for _, manifest, _, _ in parts],
                    [key.tag for key, _, _, _ in parts],
                )
            )
            assert sorted(answer.status_code for answer in answers) == [201] + [409] * (racers - 1)
            winner = next(answer for answer in answers if answer.status_code == 201)
            for answer in answers:
                if answer is not winner:
                    assert codes(answer) == ["DENIED"]
            stored = server.client.head(f"/v2/raced/manifests/{number}-amd64")
            assert (
                stored.headers["Docker-Content-Digest"] == winner.headers["Docker-Content-Digest"]
            )
    changes = server.client.get("/1.0/changes").json()["metadata"]["changes"]
    raced = [change["number"] for change in changes if change["name"] == "raced"]
    assert raced == list(range(rounds))


def test_two_writers_of_one_upload(server: RunningRegistry):
    location = server.publisher.post("/v2/app/blobs/uploads/").headers["Location"]
    other = server.new_session(server.publisher.identity)
    begun, over = threading.Event(), threading.Event()
    first = b"f" * 4 * 1024 * 1024  # more than any buffer on the way holds back

    def body():
        yield first
        begun.set()
        over.wait(20)
        yield b"second"

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.publisher.patch, location, data=body())
        assert begun.wait(20)
        server.until(lambda: other.get(location).headers["Range"] != "0-0")
        response = other.patch(location, data=b"third")
        over.set()
        assert (response.status_code, codes(response)) == (409, ["BLOB_UPLOAD_INVALID"])
        assert slow.result(timeout=20).headers["Range"] == f"0-{len(first) + 5}"
    response = other.put(f"{location}?digest={digest_of(first + b'second')}")
    assert response.status_code == 201


def test_cut_body_is_not_taken_for_whole(server: RunningRegistry):
    """A sender that dies before its Content-Length leaves a resumable session, and no blob."""
    location = server.publisher.post("/v2/app/blobs/uploads/").headers["Location"]
    server.raw(
        "PUT",
        f"{location}?digest={digest_of(b'cut')}",
        b"cut",
        headers={"Content-Length": "100"},
        give_up=True,
    )
    server.until(lambda: server.publisher.get(location).status_code == 204)
    assert server.client.head(f"/v2/app/blobs/{digest_of(b'cut')}").status_code == 404


def test_a_fault_of_ours_tells_nothing(tmp_path):
    with running(tmp_path) as server:
        digest = push_image(server.publisher, "app", "v1", b"soon gone")
        mark = server.log_mark()
        with Registry(server.home) as registry, registry.database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE manifest RENAME TO manifest_gone")
        response = server.client.get(f"/v2/app/manifests/{digest}")
        assert (response.status_code, codes(response)) == (500, ["UNKNOWN"])
        assert "manifest_gone" not in response.text
        assert "Traceback" not in response.text
        event = server.logged("request-failed", mark)
        assert "no such table" in event["traceback"]
        assert server.client.get("/v2/").status_code == 200


def test_blob_whose_file_is_gone_is_unknown(server: RunningRegistry):
    digest = push_blob(server.publisher, "app", b"lost by the disk")
    hexa = digest.partition(":")[2]
    (server.home / "data" / "blobs" / "sha256" / hexa[:2] / hexa).unlink()
    response = server.client.get(f"/v2/app/blobs/{digest}")
    assert (response.status_code, codes(response)) == (404, ["BLOB_UNKNOWN"])


def test_status_tells_of_a_broken_database(tmp_path):
    with running(tmp_path) as server:
        with Registry(server.home) as registry, registry.database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE feed RENAME TO feed_gone")
        assert server.nobody.get("/1.0/status").status_code == 500

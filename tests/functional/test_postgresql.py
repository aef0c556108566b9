"""What only a server can do: be set up wrongly, go away, be shared by several machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from aar.registry import Registry
from aar.settings import Settings
from regkit.database import Database
from regkit.errors import Conflict, Invalid, Unavailable
from regkit.oci.application import Key
from support import postgresql
from support.distribution import push_image
from support.images import actor, push
from support.postgresql import PASSWORD, QUOTED, Databases, Server
from support.registry import running

pytestmark = pytest.mark.skipif(bool(postgresql.missing()), reason=postgresql.missing() or "-")

PATIENCE = 60


@pytest.fixture
def server(postgresql_server: Callable[[], Server]) -> Server:
    return postgresql_server()


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    name = server.create("aar:migrations")
    yield server.url(name)
    server.drop(name)


def registry(home: Path, url: str) -> Registry:
    return Registry(home, Settings.model_validate({"database": {"url": url}}))


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


# -- what is refused ---------------------------------------------------------------------------


def test_a_server_that_loses_what_it_acknowledged_is_refused(server: Server, url: str) -> None:
    with server.connect() as admin:
        admin.execute(f'ALTER DATABASE "{name_of(url)}" SET synchronous_commit = off')  # type: ignore[arg-type]
    with (
        closing(Database(url)) as database,
        pytest.raises(Invalid, match="synchronous_commit=off") as told,
    ):
        database.migrate("aar:migrations")
    assert "\n" not in str(told.value)


def test_it_is_noticed_by_connections_that_are_open(server: Server, url: str) -> None:
    with closing(Database(url)) as database:
        with database.write():
            pass
        with database.engine.connect() as connection:
            connection.exec_driver_sql("SET synchronous_commit = off")
            connection.commit()
        with pytest.raises(Unavailable, match="synchronous_commit=off"), database.write():
            pytest.fail("something could be written")


def test_a_server_without_fsync_is_refused() -> None:
    with closing(Server({"fsync": "off"})) as careless:
        name = careless.create()
        with (
            closing(Database(careless.url(name))) as database,
            pytest.raises(Invalid, match="fsync=off"),
        ):
            database.migrate("aar:migrations")


def test_why_it_cannot_be_reached_is_told_without_the_password(server: Server, url: str) -> None:
    wrong = [
        url.replace(f"/{name_of(url)}", "/no_such_database"),
        url.replace(QUOTED, "s3cret%3Aother"),
        url.replace(f":{server.port}/", ":1/"),
    ]
    for text in wrong:
        with closing(Database(text)) as database:
            with pytest.raises(Unavailable, match=r"check database\.url") as told:
                database.migrate("aar:migrations")
            with pytest.raises(Unavailable) as short, database.read():
                pytest.fail("it was reached")
        for message in (str(told.value), str(short.value), repr(database.engine)):
            assert "s3cret" not in message
            assert "\n" not in message
        assert "127.0.0.1" not in str(short.value)


def test_what_it_cannot_keep_is_the_callers_fault(url: str) -> None:
    with closing(Database(url)) as database:
        for text in ("a\0b", "x" * 300):
            with pytest.raises(Invalid, match="can't keep this"), database.write() as connection:
                connection.execute(sa.text("UPDATE feed SET epoch = :text"), {"text": text})


def test_serving_says_in_one_line_why_it_does_not_start(server: Server, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "main.yaml").write_text(
        f"http: {{addr: '127.0.0.1:0'}}\ndatabase: {{url: '{server.url('no_such_database')}'}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "aar", "serve"],
        env={"AAR_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode != 0
    assert "check database.url" in done.stderr
    assert PASSWORD not in done.stderr
    assert QUOTED not in done.stderr
    assert "Traceback" not in done.stderr


# -- gevent --------------------------------------------------------------------------------------

COOPERATION = """
import sys, time, json
from regkit import serving
serving.patch()
import gevent, psycopg
import sqlalchemy as sa
from regkit.database import Database

database = Database(sys.argv[1])
beats = 0
def beat():
    global beats
    while True:
        gevent.sleep(0.01)
        beats += 1
gevent.spawn(beat)
with database.read() as connection:
    connection.execute(sa.text("SELECT 1"))
    before = beats
    connection.execute(sa.text("SELECT pg_sleep(2)"))
    print(json.dumps({"beats": beats - before, "driver": psycopg.pq.__impl__}))
database.close()
"""


def test_a_slow_query_stops_no_other_greenlet(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COOPERATION, url],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["driver"] in ("c", "binary"), "the driver's own loop is what might block"
    assert found["beats"] > 5


# -- several machines --------------------------------------------------------------------------


def test_a_revocation_acts_on_every_unit(tmp_path: Path, url: str) -> None:
    settings: dict[str, Any] = {"database": {"url": url}}
    with (
        running(tmp_path / "a", settings=settings) as one,
        running(tmp_path / "b", settings=settings) as two,
    ):
        seconds = []
        for _ in range(3):
            session = one.add_session("client")
            there = two.new_session(session.identity)
            two.until(lambda there=there: there.get("/1.0/applications").status_code == 200)
            one.revoke(session)
            begin = time.monotonic()
            two.until(lambda there=there: there.get("/1.0/applications").status_code == 403)
            seconds.append(time.monotonic() - begin)
        print("a revocation acted on the other unit after", *(f"{s:.3f} s" for s in seconds))
        log = one.log + two.log
    assert PASSWORD not in log
    assert QUOTED not in log


def test_what_one_unit_has_taken_the_other_tells_with_the_next_answer(
    tmp_path: Path, url: str
) -> None:
    """Also where it has kept its answer: it asks the server whether that still holds."""
    settings: dict[str, Any] = {"database": {"url": url}}
    with (
        running(tmp_path / "a", settings=settings) as one,
        running(tmp_path / "b", settings=settings) as two,
    ):
        session = one.add_session("client")
        there = two.new_session(session.identity)
        two.until(lambda: there.get("/v2/").status_code == 200)
        for number in range(10):
            push_image(one.publisher, "app", "latest", str(number).encode())
            pushed = one.publisher.get("/v2/app/manifests/latest").headers["ETag"]
            for _ in range(3):
                assert there.get("/v2/app/manifests/latest").headers["ETag"] == pushed


def test_of_two_units_that_publish_the_same_key_one_wins(tmp_path: Path, url: str) -> None:
    units = [registry(tmp_path / name, url) for name in "abc"]
    start = threading.Barrier(len(units))
    outcomes: list[tuple[int, int, str]] = []

    def publish(unit: int) -> None:
        for number in range(12):
            start.wait(PATIENCE)
            try:
                files = {"app.apk": f"of {unit}".encode()}
                push(units[unit], Key("candy", number, "amd64"), files=files, by=actor())
                outcomes.append((number, unit, "won"))
            except Conflict:
                outcomes.append((number, unit, "refused"))

    threads = [threading.Thread(target=publish, args=(unit,)) for unit in range(len(units))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    page = units[0].feed.read()
    for unit in units:
        unit.close()
    assert sorted(outcomes) == sorted(set(outcomes))
    assert [sum(o[0] == n and o[2] == "won" for o in outcomes) for n in range(12)] == [1] * 12
    assert len(outcomes) == 36
    assert [change.seq for change in page.changes] == list(range(1, 13))


def test_architectures_published_at_once_are_all_in_the_index(tmp_path: Path, url: str) -> None:
    units = [registry(tmp_path / name, url) for name in "abcd"]
    names = ["amd64", "arm64", "armhf", "riscv64"]
    start, faults = threading.Barrier(len(units)), list[Exception]()

    def publish(unit: int) -> None:
        for number in range(8):
            start.wait(PATIENCE)
            try:
                push(units[unit], Key("candy", number, names[unit]), by=actor())
            except Exception as fault:
                faults.append(fault)

    threads = [threading.Thread(target=publish, args=(unit,)) for unit in range(len(units))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    try:
        assert faults == []
        for number in range(8):
            index = json.loads(units[0].repositories.manifest("candy", str(number)).content)
            found = [entry["platform"]["architecture"] for entry in index["manifests"]]
            assert len(found) == len(set(found)) == 4
    finally:
        for unit in units:
            unit.close()


# -- a server that goes away ---------------------------------------------------------------------


def test_what_was_acknowledged_survives_the_server(tmp_path: Path) -> None:
    """kill -9 of the whole database server under load: 503 meanwhile, nothing lost, no restart."""
    with closing(Server()) as server:
        url = server.url(server.create("aar:migrations"))
        settings: dict[str, Any] = {"database": {"url": url}}
        with running(tmp_path, workers=2, settings=settings) as unit:
            stop = threading.Event()
            acknowledged: list[tuple[str, int]] = []
            others: list[tuple[int, str | None]] = []
            sessions = [unit.add_session("publisher") for _ in range(4)]
            unit.until(
                lambda: all(s.get("/1.0/applications").status_code == 200 for s in sessions)
            )

            def load(number: int) -> None:
                count = 0
                while not stop.is_set():
                    body = json.dumps(
                        {
                            "schemaVersion": 2,
                            "mediaType": "application/vnd.oci.image.index.v1+json",
                            "manifests": [],
                            "annotations": {"n": f"{number}.{count}"},
                        }
                    )
                    try:
                        answer = sessions[number].put(
                            f"/v2/load-{number}/manifests/t{count}",
                            data=body,
                            headers={"Content-Type": "application/vnd.oci.image.index.v1+json"},
                            timeout=PATIENCE,
                        )
                    except requests.RequestException as error:
                        others.append((0, repr(error)))
                        continue
                    if answer.status_code == 201:
                        acknowledged.append((f"load-{number}", count))
                        count += 1
                    else:
                        others.append((answer.status_code, answer.headers.get("Retry-After")))
                        stop.wait(0.05)

            threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for round_ in range(2):
                mark = len(acknowledged)
                unit.until(lambda mark=mark: len(acknowledged) > mark + 20)
                begin, seen = time.monotonic(), len(others)
                server.kill()
                unit.until(lambda seen=seen: len(others) > seen + 3)
                server.restart()
                up, mark = time.monotonic(), len(acknowledged)
                unit.until(lambda mark=mark: len(acknowledged) > mark + 5)
                print(
                    f"round {round_}: away for {up - begin:.1f} s, "
                    f"going on {time.monotonic() - up:.1f} s after its return"
                )
            stop.set()
            for thread in threads:
                thread.join(PATIENCE)
            reader = unit.publisher
            missing = [
                (name, number)
                for name, number in acknowledged
                if reader.head(f"/v2/{name}/manifests/t{number}").status_code != 200
            ]
            print(
                f"{len(acknowledged)} acknowledged, {len(missing)} missing, {len(others)} others"
            )
            assert missing == []
            assert {status for status, _ in others} == {503}
            assert all(after is not None and int(after) >= 1 for _, after in others)
            assert unit.process.poll() is None


def test_a_worker_that_starts_meanwhile_waits_for_it(tmp_path: Path) -> None:
    """The server stays; it answers 503 until the database is back, and needs no restart."""
    with closing(Server()) as server:
        url = server.url(server.create("aar:migrations"))
        settings: dict[str, Any] = {"database": {"url": url}}
        with running(tmp_path, workers=1, settings=settings) as unit:
            assert unit.publisher.post("/v2/candy/blobs/uploads/").status_code == 202
            server.stop()
            (worker,) = children(unit.process.pid)
            os.kill(worker, signal.SIGKILL)
            unit.logged("start-waits")
            answer = unit.client.get("/1.0/applications")
            assert (answer.status_code, answer.json()["error_code"]) == (503, 503)
            assert int(answer.headers["Retry-After"]) >= 1
            assert unit.nobody.get("/v2/").status_code == 503
            server.restart()
            unit.until(lambda: unit.client.get("/1.0/applications").status_code == 200)
            assert unit.nobody.get("/1.0/applications").status_code == 403
            assert unit.process.poll() is None
        assert "Traceback" not in unit.log
        assert PASSWORD not in unit.log


def children(process: int) -> list[int]:
    return [*map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]


def test_the_version_is_not_trusted_while_the_server_is_away() -> None:
    with closing(Server()) as server, closing(Database(server.url(server.create()))) as database:
        postgresql.settled(database)
        server.kill()
        seen: set[int] = set()
        deadline = time.monotonic() + PATIENCE
        while len(seen) < 5:
            seen.add(database.version())
            assert time.monotonic() < deadline
            time.sleep(0.01)
        server.restart()
        last = postgresql.settled(database)
        with closing(Database(database_url(database, server))) as other, other.write():
            pass
        assert last >= max(seen)


def database_url(database: Database, server: Server) -> str:
    with database.read() as connection:
        return server.url(connection.execute(sa.text("SELECT current_database()")).scalar_one())


def test_a_fresh_version_knows_every_commit_before_it(server: Server, url: str) -> None:
    with closing(Database(url)) as one, closing(Database(url)) as two:
        for number in range(20):
            before = one.fresh_version()
            with two.write() as connection:
                connection.execute(sa.text("UPDATE feed SET seq = :n"), {"n": number + 1})
            assert one.fresh_version() != before


def test_a_look_up_after_another_units_commit_is_fresh(
    tmp_path: Path, server: Server, url: str
) -> None:
    del tmp_path
    databases = Databases(lambda: server)
    assert databases.shared
    with closing(Database(url)) as one, closing(Database(url)) as two:
        for number in range(5):
            before = postgresql.settled(one)
            with two.write() as connection:
                connection.execute(sa.text("UPDATE feed SET seq = :n"), {"n": number + 1})
            deadline = time.monotonic() + PATIENCE
            while one.version() == before:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            with one.read() as connection:
                assert connection.execute(sa.text("SELECT seq FROM feed")).scalar() == number + 1

"""A registry on a bucket under faults: killed, without its storage, on two machines at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from aar import schema
from aar.registry import Registry
from aar.settings import Settings
from regkit.database import Database
from support import engines, postgresql
from support.distribution import digest_of, push_application, push_blob
from support.radosgw import BUCKET, RadosGateway
from support.registry import RegistrySession, RunningRegistry, running

MIB = 1024 * 1024
PART = 8 * MIB
ROUNDS = 12


@pytest.fixture(scope="module")
def gateway() -> RadosGateway:
    return engines.radosgw()


def now() -> datetime:
    return datetime.now(timezone.utc)


def uploads_of(gateway: RadosGateway, prefix: str) -> list[Any]:
    with closing(gateway.client()) as client:
        answer = client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    return answer.get("Uploads", [])


def parts_of(gateway: RadosGateway, prefix: str) -> int:
    with closing(gateway.client()) as client:
        return sum(
            len(
                client.list_parts(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
                .get("Parts", [])
            )
            for upload in uploads_of(gateway, prefix)
        )  # fmt: skip


def test_an_upload_that_a_kill_cut_goes_with_all_its_parts(gateway: RadosGateway, tmp_path: Path):
    prefix = gateway.new_prefix()
    settings: dict[str, Any] = {"storage": {"s3": gateway.settings(prefix)}}
    with running(tmp_path, settings=settings) as server:
        location = server.publisher.post("/v2/cut/blobs/uploads/").headers["Location"]
        go_on = threading.Event()

        def body() -> Iterator[bytes]:
            for _ in range(3 * PART // MIB):
                yield os.urandom(MIB)
            go_on.wait(60)

        def push() -> None:
            with pytest.raises(requests.RequestException):
                server.publisher.patch(location, data=body())

        with ThreadPoolExecutor(1) as pool:
            pushing = pool.submit(push)
            server.until(lambda: parts_of(gateway, prefix) >= 1)
            server.kill()
            go_on.set()
            pushing.result(60)
        server.restart()
        assert server.publisher.get(location).status_code == 204

        with Registry(tmp_path, Settings.model_validate(settings)) as registry:
            # The server's own janitor may be at it just now, who finds it too young as well.
            young = registry.janitor.run(now(), patience=60)
            assert (young.ran, young.uploads) == (True, 0)
            assert uploads_of(gateway, prefix)
            later = now() + timedelta(days=2)
            server.until(lambda: not uploads_of(gateway, prefix) or _cleared(registry, later))
        assert uploads_of(gateway, prefix) == []
        assert gateway.keys(f"{prefix}uploads/") == []
        assert gateway.keys(f"{prefix}data/") == []
        assert server.publisher.get(location).status_code == 404


def _cleared(registry: Registry, moment: datetime) -> bool:
    registry.janitor.run(moment)
    return False


class _Load:
    """Somebody who pushes blobs until told to stop, and remembers what was acknowledged."""

    def __init__(self, session: RegistrySession, repository: str) -> None:
        self._session = session
        self._repository = repository
        self.stop = threading.Event()
        self.acknowledged: list[str] = []
        self.refused: list[requests.Response] = []

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            # Now and then one that goes in parts.
            content = os.urandom(PART + MIB if number % 5 == 4 else 3000)
            digest = digest_of(content)
            path = f"/v2/{self._repository}/blobs/uploads/"
            number += 1
            try:
                answer = self._session.post(path, params={"digest": digest}, data=content)
            except requests.RequestException:
                continue  # told before all of it was sent: it isn't acknowledged
            if answer.status_code == 201:
                self.acknowledged.append(digest)
            else:
                self.refused.append(answer)


def test_a_storage_that_dies_under_load_costs_nothing_acknowledged(
    gateway: RadosGateway, tmp_path: Path
):
    settings: dict[str, Any] = {"storage": {"s3": gateway.settings(gateway.new_prefix())}}
    with running(tmp_path, settings=settings) as server, ThreadPoolExecutor(3) as pool:
        identity = server.publisher.identity
        loads = [_Load(server.new_session(identity), f"load/{number}") for number in range(3)]
        pushing = [pool.submit(load.run) for load in loads]
        try:
            server.until(lambda: all(len(load.acknowledged) >= 3 for load in loads))
            gateway.kill()
            try:
                wait(lambda: all(load.refused for load in loads))
                assert server.client.get("/1.0/changes").status_code == 200
            finally:
                gateway.start()
            before = [len(load.acknowledged) for load in loads]
            wait(
                lambda: all(
                    len(load.acknowledged) >= count + 3
                    for load, count in zip(loads, before, strict=True)
                )
            )
        finally:
            for load in loads:
                load.stop.set()
        for each in pushing:
            each.result(90)
        for load in loads:
            for answer in load.refused:
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["Retry-After"]) >= 1
        for number, load in enumerate(loads):
            for digest in load.acknowledged:
                answer = server.client.get(f"/v2/load/{number}/blobs/{digest}")
                assert (answer.status_code, digest_of(answer.content)) == (200, digest)
        lost = sum(len(load.refused) for load in loads)
        kept = sum(len(load.acknowledged) for load in loads)
        print(f"{kept} acknowledged and there, {lost} answered 503")


def wait(condition: Callable[[], bool]) -> None:
    """Longer than `until`: the registry itself tries a storage that is away for half a minute."""
    for _ in range(5):
        try:
            RunningRegistry.until(condition)
        except AssertionError:
            continue
        return
    raise AssertionError("the condition didn't come true")


# -- two machines on one database and one bucket ----------------------------------------------


@pytest.fixture(scope="module")
def shared(
    gateway: RadosGateway, postgresql_server: Callable[[], postgresql.Server]
) -> dict[str, Any]:
    if reason := postgresql.missing():
        engines.unavailable(reason)
    return engines.settings_for("postgresql+s3", postgresql_server)


@pytest.fixture(scope="module")
def units(
    shared: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningRegistry, RunningRegistry]]:
    with ExitStack() as stack:
        yield (
            stack.enter_context(running(tmp_path_factory.mktemp("one"), settings=shared)),
            stack.enter_context(running(tmp_path_factory.mktemp("two"), settings=shared)),
        )


@pytest.fixture
def machines(
    shared: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Registry, Registry]]:
    """The same registry on two machines more, without a server."""
    settings = Settings.model_validate(shared)
    with ExitStack() as stack:
        yield (
            stack.enter_context(Registry(tmp_path_factory.mktemp("three"), settings)),
            stack.enter_context(Registry(tmp_path_factory.mktemp("four"), settings)),
        )


def test_what_one_unit_takes_the_other_gives(
    units: tuple[RunningRegistry, RunningRegistry],
):
    one, two = units
    client = two.new_session(one.client.identity)
    two.until(lambda: client.get("/1.0/applications").status_code == 200)
    files = {"app.apk": os.urandom(PART + 5), "data": b"small"}
    for number in range(3):
        push_application(one.publisher, "both", number, files=files)
        manifest = client.get(f"/v2/both/manifests/{number}-amd64")
        assert manifest.status_code == 200
        for layer in manifest.json()["layers"]:
            answer = client.get(f"/v2/both/blobs/{layer['digest']}")
            assert digest_of(answer.content) == layer["digest"]
    page = client.get("/1.0/changes").json()["metadata"]
    assert [change["number"] for change in page["changes"] if change["name"] == "both"] == [
        0,
        1,
        2,
    ]


def age(database: Database) -> None:
    """Let every blob look as if nobody had used it for years."""
    old = "2020-01-01T00:00:00.000000+00:00"
    with database.write() as connection:
        for table in (schema.blob, schema.repository_blob):
            connection.execute(table.update().values(touched=old))


def test_a_blob_that_is_pushed_while_it_is_collected_stays(
    units: tuple[RunningRegistry, RunningRegistry], machines: tuple[Registry, Registry]
):
    one, two = units
    collector = machines[0]
    publisher = two.new_session(one.publisher.identity)
    two.until(lambda: publisher.get("/1.0/applications").status_code == 200)
    collected = 0
    with ThreadPoolExecutor(2) as pool:
        for number in range(ROUNDS):
            content = os.urandom(PART + 1 if number % 4 == 3 else 5000)
            digest = push_blob(one.publisher, f"old/{number}", content)
            age(collector.database)
            start = threading.Barrier(2)

            def collect(start: threading.Barrier = start) -> int:
                start.wait(60)
                done = collector.janitor.run(now(), patience=60)
                assert done.ran
                return done.blobs

            def push(
                start: threading.Barrier = start, content: bytes = content, number: int = number
            ) -> None:
                start.wait(60)
                push_blob(publisher, f"new/{number}", content)

            tasks = pool.submit(collect), pool.submit(push)
            for task in tasks:
                task.result(60)
            collected += tasks[0].result()  # type: ignore[operator]
            for session in (one.publisher, publisher):
                answer = session.get(f"/v2/new/{number}/blobs/{digest}")
                assert (answer.status_code, answer.content == content) == (200, True), number
    print(f"{ROUNDS} rounds, {collected} blobs collected, none lost")


def test_of_two_janitors_at_once_one_runs_and_pushes_go_on(
    units: tuple[RunningRegistry, RunningRegistry], machines: tuple[Registry, Registry]
):
    one, _ = units
    load = _Load(one.new_session(one.publisher.identity), "beside")
    database = machines[0].database
    with ThreadPoolExecutor(3) as pool:
        pushing = pool.submit(load.run)
        try:
            for _ in range(5):
                with database.write() as connection:
                    connection.execute(schema.lease.update().values(done=0.0))
                start = threading.Barrier(2)

                def run(registry: Registry, start: threading.Barrier = start) -> bool:
                    start.wait(60)
                    return registry.janitor.run(now(), every=timedelta(hours=1)).ran

                ran = [task.result(60) for task in [pool.submit(run, each) for each in machines]]
                assert sorted(ran) == [False, True]
            one.until(lambda: len(load.acknowledged) >= 5)
        finally:
            load.stop.set()
        pushing.result(60)
    assert load.refused == []
    for digest in load.acknowledged:
        assert one.client.head(f"/v2/beside/blobs/{digest}").status_code == 200
    with database.read() as connection:
        terms = connection.execute(
            sa.select(schema.lease.c.term).where(schema.lease.c.name == "janitor")
        ).scalar_one()
    assert terms >= 5

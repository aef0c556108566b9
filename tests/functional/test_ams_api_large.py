"""A site of 10,000 applications with three versions each: lists, filters, pages, one application.

Measured on two cores that others used too, over the unix socket: 0.16 to 0.3 s for a page, a name
or any other filter by a column, 0.5 to 0.6 s for a filter that looks into manifests, 3 to 4 s for
everything at once (24 MB of JSON; others are served meanwhile), 2 ms for one application. The
bounds are of the service's own processor time, so that a busy machine doesn't count, and some four
times of that: they catch a query or a pass too many per application.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from regkit.database import Database
from support import large_site
from support.ams import Service, running

COUNT = 10_000


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("ams")
    (home / "data").mkdir()
    database = Database(f"sqlite:///{home / 'data' / 'ams.db'}")
    database.migrate("ams:migrations")
    large_site.fill(database, COUNT)
    database.close()
    with running(home) as started:
        yield started


def timed(service: Service, path: str) -> tuple[dict[str, object], float]:
    """Return the answer, and the seconds of processor time that it took the service."""
    before = spent(service)
    answer = service.api("GET", path)
    assert answer.status_code == 200, answer.text[:200]
    return answer.json(), spent(service) - before


def spent(service: Service) -> float:
    """Return the processor time of the process that serves, in seconds."""
    master = service.process.pid
    (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    after_name = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
    user, system = int(after_name[11]), int(after_name[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("query", "total", "shown", "bound"),
    [
        ("", COUNT, COUNT, 1.0),
        ("limit=50", COUNT, 50, 1.0),
        ("recursion=1&limit=50", COUNT, 50, 1.0),
        ("recursion=1&limit=50&offset=9990", COUNT, 10, 1.0),
        ("recursion=1&name=app-00777", 1, 1, 1.0),
        ("recursion=1&id=00000000000000000777", 1, 1, 1.0),
        ("recursion=1&name=app-0077*", 10, 10, 1.0),
        ("recursion=1&published=false", 0, 0, 1.0),
        ("recursion=1&tags=game,t3&immutable=true&limit=20", 334, 20, 2.0),
        ("instance_type=a4.3", 5000, 5000, 2.0),
        ("recursion=1&tags=set", 100, 100, 2.0),
        ("recursion=1", COUNT, COUNT, 8.0),
    ],
)
def test_lists(service: Service, query: str, total: int, shown: int, bound: float) -> None:
    answer, took = timed(service, f"/1.0/applications?{query}")
    metadata = answer["metadata"]
    assert isinstance(metadata, list)
    assert (answer["total_size"], len(metadata)) == (total, shown)
    assert took < bound


def test_one_application(service: Service) -> None:
    for name in ("app-09999", f"{9999:020}"):
        answer, took = timed(service, f"/1.0/applications/{name}")
        assert took < 1
        assert isinstance(answer["metadata"], dict)
        assert len(answer["metadata"]["versions"]) == 3


def test_a_whole_list_keeps_nobody_waiting(service: Service) -> None:
    """It takes seconds of the one process that serves everybody."""
    ended = threading.Event()

    def read() -> None:
        timed(service, "/1.0/applications?recursion=1")
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    others = 0
    while not ended.is_set():
        assert service.api("GET", "/1.0").status_code == 200
        others += 1
    reader.join()
    assert others > 10


def test_amc_lists_them(service: Service) -> None:
    listed = json.loads(service.ok("application", "list", "--format", "json", "-f", "tags=t3"))
    assert len(listed) == 1000

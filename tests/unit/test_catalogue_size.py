"""What looking costs does not grow with the number of applications, but for what is returned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from ams.catalogue import Catalogue
from ams.options import Options
from regkit.blobs import FileBlobStore
from regkit.database import Database
from support import large_site


def catalogue(root: Path, count: int) -> Catalogue:
    database = Database(f"sqlite:///{root / 'ams.db'}")
    database.migrate("ams:migrations")
    large_site.fill(database, count)
    return Catalogue(database, FileBlobStore(root), "amd64", Options(database))


@contextmanager
def queries(of: Catalogue) -> Iterator[list[str]]:
    """Collect the queries that are sent to the database."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT"):
            sent.append(statement)

    engine = of._database.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.fixture(scope="module", params=[20, 1000])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    made = catalogue(tmp_path_factory.mktemp("ams"), request.param)
    request.addfinalizer(made._database.close)
    return made


@pytest.mark.parametrize(
    "filters",
    [{}, {"name": "app-00003"}, {"tags": "t3"}, {"published": "true", "vm": "false"}],
)
def test_a_search_is_one_query(filled: Catalogue, filters: dict[str, str]) -> None:
    with queries(filled) as sent:
        found = filled.search(filters)
    assert found
    assert len(sent) == 1
    assert [item.id for item in filled.list(filters)] == found


def test_manifests_are_read_only_for_filters_that_need_them(filled: Catalogue) -> None:
    for filters, needed in [({"vm": "true"}, False), ({"instance-type": "a4.3"}, True)]:
        with queries(filled) as sent:
            filled.search(filters)
        assert ("manifest" in sent[0]) is needed


def test_loading_is_two_queries_however_many(filled: Catalogue) -> None:
    ids = filled.search({})[:500]
    for part in (ids[:1], ids):
        with queries(filled) as sent:
            loaded = filled.load(part)
        assert [item.id for item in loaded] == part
        assert len(sent) == 2


def test_showing_one(filled: Catalogue) -> None:
    for name in (f"{3:020}", "app-00003"):
        with queries(filled) as sent:
            assert filled.get(name).name == "app-00003"
        assert len(sent) <= 4


def test_what_is_gone_is_left_out(filled: Catalogue) -> None:
    assert [item.name for item in filled.load(["x", f"{2:020}", f"{1:020}"])] == [
        "app-00002",
        "app-00001",
    ]


def test_every_filter_gives_what_a_whole_list_would(filled: Catalogue) -> None:
    for filters in (
        {"id": f"{5:020}"},
        {"name": "app-0000?"},
        {"name": "app-*7"},
        {"instance-type": "a4.3,a9.9"},
        {"instance-type": ""},
        {"boot-package": "com.example.app7"},
        {"abi": "x86_64"},
        {"abi": "arm64-v8a"},
        {"addons": "ssh"},
        {"tags": "set"},
        {"tag": "game,t4"},
        {"published": "false"},
        {"immutable": "true"},
        {"inhibit-auto-updates": "false"},
        {"inhibit-auto-updates": "true"},
        {"status": "ready"},
        {"status": "error"},
        {"vm": "true", "immutable": "true", "tags": "t0"},
    ):
        assert filled.search(filters) == [item.id for item in filled.list(filters)], filters
    assert len(filled.search({"name": "app-0000?"})) == 10
    assert filled.search({"tags": "set,game"}) == []

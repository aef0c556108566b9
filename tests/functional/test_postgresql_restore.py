"""A registry on PostgreSQL after a restore by the database's own means, as the how-to says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import engines, postgresql
from support.distribution import push_application
from support.operator import Operator
from support.registry import RunningRegistry, running

pytestmark = pytest.mark.skipif(bool(postgresql.missing()), reason=postgresql.missing() or "-")


@pytest.fixture
def database(postgresql_server: Callable[[], postgresql.Server]) -> Iterator[str]:
    server = postgresql_server()
    name = server.create()
    yield name
    server.drop(name)


@pytest.fixture(params=["files", "s3"])
def settings(
    request: pytest.FixtureRequest,
    postgresql_server: Callable[[], postgresql.Server],
    database: str,
) -> dict[str, Any]:
    found: dict[str, Any] = {"database": {"url": postgresql_server().url(database)}}
    if request.param == "s3":
        gateway = engines.radosgw()
        found["storage"] = {"s3": gateway.settings(gateway.new_prefix())}
    return found


def run(program: str, *arguments: str) -> None:
    folder = postgresql.programs()
    assert folder is not None
    done = subprocess.run(
        [folder / program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def changes(server: RunningRegistry, since: str = "") -> tuple[int, dict[str, Any]]:
    answer = server.client.get("/1.0/changes", params={"since": since} if since else {})
    return answer.status_code, answer.json()["metadata"]


def test_dump_restore_and_a_new_epoch(
    tmp_path: Path,
    postgresql_server: Callable[[], postgresql.Server],
    database: str,
    settings: dict[str, Any],
):
    url, dump = settings["database"]["url"], str(tmp_path / "dump")
    operator = Operator(tmp_path)
    with running(operator.home, settings=settings) as server:
        push_application(server.publisher, "candy", 0)
        run("pg_dump", "--format=custom", f"--file={dump}", url)
        push_application(server.publisher, "candy", 1)
        stolen = server.add_session("client")
        server.revoke(stolen)
        listed = tmp_path / "revoked.json"
        listed.write_text(operator.ok("trust", "list", "--revoked", "--format", "json"))
        cursor = changes(server)[1]["cursor"]
        server.stop()

        run("pg_restore", "--clean", "--if-exists", "--no-owner", f"--dbname={url}", dump)
        assert operator.trusted("--revoked") == []
        said = operator.ok("epoch", "rotate", "--yes", "--revocations", str(listed))
        assert said.startswith(f"revoked again: {stolen.fingerprint}\nThe epoch is now ")
        server.restart()

        # A site that knew more is told that history was replaced, not that it is up to date.
        status, head = changes(server, cursor)
        assert (status, cursor.startswith(head["epoch"])) == (410, False)
        (change,) = changes(server)[1]["changes"]
        assert (change["name"], change["number"]) == ("candy", 0)
        # Blobs were never changed, so that each version is whole; later ones are only left over.
        assert operator.ok("verify").endswith("Sound\n")
        assert server.new_session(stolen.identity).get("/1.0/applications").status_code == 403
        # The log that was restored goes on, and tells of it.
        log = json.loads(operator.ok("audit", "--format", "json"))
        actions = [row["action"] for row in log if row["action"] != "refused"]
        assert actions[-2:] == ["trust-revoked", "registry-restored"]
        push_application(server.publisher, "candy", 1)
        assert changes(server)[1]["seq"] == 2


@pytest.mark.parametrize("command", [("backup", "-"), ("restore", "--force", "-")])
def test_backup_and_restore_point_to_the_databases_own(
    tmp_path: Path, settings: dict[str, Any], command: tuple[str, ...]
):
    operator = Operator(tmp_path)
    path = operator.home / "conf" / "main.yaml"
    path.parent.mkdir(parents=True)
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(settings))
    said = operator.fails(*command)
    for word in ("pg_dump", "bucket" if "storage" in settings else "blobs", "aar epoch rotate"):
        assert word in said
    assert postgresql.PASSWORD not in said

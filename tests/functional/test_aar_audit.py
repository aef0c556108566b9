"""`aar audit` beside a running registry: what its doors and the command line wrote."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.distribution import application_parts, push_application, push_blob, put_manifest
from support.operator import Operator
from support.registry import RunningRegistry, running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningRegistry]:
    with running(tmp_path / "state", workers=2) as server:
        yield server


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def log(operator: Operator, *options: str) -> list[dict[str, Any]]:
    return json.loads(operator.ok("audit", "--format", "json", *options))


def refused(operator: Operator) -> list[dict[str, Any]]:
    return [row for row in log(operator) if row["action"] == "refused"]


def test_who_did_what(server: RunningRegistry, operator: Operator):
    push_application(server.publisher, "candy")
    server.publisher.delete("/1.0/applications/candy")
    certificate = operator.added("site-b", "--publisher")
    operator.ok("trust", "revoke", "-y", certificate.fingerprint.short)
    who = str(server.publisher.fingerprint)
    assert [(row["action"], row["subject"], row["by"]) for row in log(operator)] == [
        ("version-published", "candy 0-amd64", who),
        ("version-removed", "candy 0-amd64", who),
        ("trust-added", str(certificate.fingerprint), "manual"),
        ("trust-revoked", str(certificate.fingerprint), "manual"),
    ]
    assert [row["seq"] for row in log(operator, "--by", who[:8])] == [1, 2]
    assert [row["seq"] for row in log(operator, "--limit", "1")] == [4]
    assert len(log(operator, "--since", "1h")) == 4
    last = log(operator)[-1]["time"]
    assert {row["time"] for row in log(operator, "--since", last)} == {last}
    assert log(operator, "--since", "2100-01-01T00:00:00Z") == []


def test_refusals_are_counted_and_told_at_the_end(server: RunningRegistry, operator: Operator):
    stranger = server.stranger
    for _ in range(40):
        assert stranger.get("/v2/").status_code == 403
    server.until(lambda: bool(refused(operator)))
    assert sum(row["count"] for row in refused(operator)) <= 40
    assert len(refused(operator)) <= 2
    assert server.stop() == 0
    rows = refused(operator)
    assert sum(row["count"] for row in rows) == 40
    assert len(rows) <= 4
    assert {row["by"] for row in rows} == {str(stranger.fingerprint)}
    assert {row["address"] for row in rows} == {"127.0.0.1"}
    assert "not trusted" in rows[0]["detail"]["reason"]
    assert rows[0]["subject"] == "GET /v2/"


def test_refusals_of_the_rules(server: RunningRegistry, operator: Operator):
    limited = server.add_session("publisher", architectures=["arm64"])
    key, manifest, config, files = application_parts("candy")
    for blob in (config, *files.values()):
        push_blob(limited, "candy", blob)
    assert put_manifest(limited, "candy", key.tag, manifest).status_code == 403
    push_application(server.publisher, "candy")
    assert limited.delete("/1.0/applications/candy").status_code == 403
    assert server.client.delete("/1.0/applications/candy").status_code == 403
    server.until(lambda: len(refused(operator)) >= 2)
    server.stop()
    found = {(row["by"], row["detail"]["reason"]) for row in refused(operator)}
    assert found == {
        (str(limited.fingerprint), "this publisher may write arm64 only, not amd64"),
        (
            str(server.client.fingerprint),
            "the role client only reads; writing needs the role publisher",
        ),
    }


def test_every_format(operator: Operator):
    certificate = operator.added()
    table = operator.ok("audit")
    assert "trust-added" in table
    assert f" {certificate.fingerprint.short} " in table
    [head, row] = csv.reader(io.StringIO(operator.ok("audit", "--format", "csv")))
    assert head == ["TIME", "ACTION", "SUBJECT", "BY", "COUNT", "DETAIL"]
    assert row[1:4] == ["trust-added", str(certificate.fingerprint), "manual"]
    [item] = yaml.safe_load(operator.ok("audit", "--format", "yaml"))
    assert item["detail"]["common-name"] == "site"
    assert "said" not in item
    operator_of_nothing = Operator(operator.home.parent / "empty")
    assert operator_of_nothing.ok("audit", "--format", "json") == "[]\n"


@pytest.mark.parametrize("options", [("--since", "yesterday"), ("--limit", "0"), ("--by",)])
def test_wrong_usage(operator: Operator, options: tuple[str, ...]):
    operator.fails("audit", *options, code=2)
    assert not operator.home.exists()

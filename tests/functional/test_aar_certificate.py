"""`aar certificate`: as operators and the charm type it, beside a server that serves."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from aar_interface import Certificate
from regkit.oci.digest import Digest
from support.operator import Operator
from support.registry import RunningRegistry, running

BIG = os.urandom(24_000_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningRegistry]:
    with running(tmp_path / "state", workers=2) as registry:
        yield registry


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def shown(operator: Operator) -> dict[str, object]:
    return json.loads(operator.ok("certificate", "show", "--format", "json"))


def test_it_is_shown_as_it_is_on_disk(operator: Operator, server: RunningRegistry) -> None:
    document = yaml.safe_load(operator.ok("certificate", "show"))
    assert document == shown(operator)
    assert document["fingerprint"] == str(server.certificate.fingerprint)
    assert Certificate.parse(document["certificate"]) == server.certificate
    assert "localhost" in document["names"]


def test_without_one_it_says_so(operator: Operator) -> None:
    assert "there is no certificate at" in operator.fails("certificate", "show")


def test_a_new_one_is_shown_to_new_connections_and_costs_no_request(
    operator: Operator, server: RunningRegistry
) -> None:
    digest = str(Digest.of(BIG))
    made = server.publisher.post("/v2/candy/blobs/uploads/", params={"digest": digest}, data=BIG)
    assert made.status_code == 201
    path = f"/v2/candy/blobs/{digest}"
    # A connection that is there, in the middle of a download, when the certificate changes.
    with server.publisher.get(path, stream=True) as download:
        pieces = download.iter_content(1 << 16)
        received = [next(pieces)]
        former = server.certificate
        made = json.loads(operator.ok("certificate", "rotate", "--yes", "--format", "json"))
        assert made["fingerprint"] == str(server.certificate.fingerprint)
        assert server.certificate != former
        for _ in range(8):  # so that each worker is met
            with server.new_session(server.client.identity) as fresh:
                assert fresh.get("/1.0").json()["metadata"]["auth"] == "trusted"
        received += pieces
    assert b"".join(received) == BIG
    server.logged("certificate-replaced")


def test_requests_go_on_while_it_is_rotated_again_and_again(
    operator: Operator, server: RunningRegistry
) -> None:
    answers: list[int] = []
    done = threading.Event()

    def ask() -> None:
        with server.new_session(server.client.identity) as session:
            while not done.is_set():
                answers.append(session.get("/1.0").status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(3):
            operator.ok("certificate", "rotate", "--yes")
    finally:
        done.set()
        thread.join()
    assert set(answers) == {200}


def test_one_unit_gives_it_to_another(
    operator: Operator, server: RunningRegistry, tmp_path: Path
) -> None:
    second = Operator(tmp_path / "second")
    pair = operator.ok("certificate", "export")
    assert pair.startswith("-----BEGIN PRIVATE KEY-----")
    said = json.loads(second.ok("certificate", "import", "--format", "json", stdin=pair))
    assert (said["fingerprint"], said["changed"]) == (str(server.certificate.fingerprint), True)
    again = json.loads(second.ok("certificate", "import", "-", "--format", "json", stdin=pair))
    assert again["changed"] is False
    assert shown(second) == shown(operator)
    assert (second.home / "certs/server.key").stat().st_mode & 0o777 == 0o600
    with running(second.home) as other:
        assert other.certificate == server.certificate
        assert other.client.get("/1.0").status_code == 200


def test_what_is_no_pair_is_refused_without_a_word_of_it(
    operator: Operator, server: RunningRegistry
) -> None:
    before = shown(operator)
    pair = operator.ok("certificate", "export")
    said = operator.fails("certificate", "import", stdin=pair.replace("MIG", "AAA"))
    assert not any(line in said for line in pair.splitlines() if len(line) > 20)
    assert shown(operator) == before


def test_rotating_wants_a_yes(operator: Operator, server: RunningRegistry) -> None:
    before = shown(operator)
    done = operator.aar("certificate", "rotate", stdin="\n")
    assert (done.returncode, "not confirmed" in done.stderr) == (1, True)
    assert shown(operator) == before


def test_a_key_is_not_written_to_a_terminal(operator: Operator, server: RunningRegistry) -> None:
    controlling, terminal = pty.openpty()
    try:
        with operator.start(
            ["certificate", "export"], stdout=terminal, stderr=subprocess.PIPE
        ) as process:
            _, said = process.communicate(timeout=60)
    finally:
        os.close(terminal)
        os.close(controlling)
    assert process.returncode == 2
    assert "private key" in said

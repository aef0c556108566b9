"""Trust changed by many at once, from several processes on one PostgreSQL, under two servers."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aar import schema
from aar.audit import Audit
from regkit.database import Database
from regkit.trust import TrustStore
from support import postgresql
from support.certificates import NOW, certify
from support.registry import running

pytestmark = pytest.mark.skipif(bool(postgresql.missing()), reason=postgresql.missing() or "-")

PROCESSES, WRITERS, ROUNDS = 2, 4, 12
CERTIFICATES, REVOCABLE = 10, 3
DEADLINE = 240

# Each writer makes one owner's rows some overlapping set, and now and then revokes one of a few
# that all of them want. It tells what the trust store said to it.
WRITER = """
import sys, json, threading
from datetime import datetime
from pathlib import Path
from aar.registry import Registry
from aar.settings import Settings
from aar_interface import Certificate, Role
from regkit.errors import Conflict, NotFound
from regkit.trust import Wanted

work = json.loads(sys.stdin.readline())
now = datetime.fromisoformat(work["now"])
known = [Certificate.parse(text.encode()) for text in work["certificates"]]
settings = Settings.model_validate({"database": {"url": work["url"]}})
registry = Registry(Path(sys.argv[1]), settings)
said, errors = [], []

def write(steps):
    mine = []
    said.append(mine)
    try:
        for step in steps:
            if "revoke" in step:
                try:
                    registry.trust.revoke(known[step["revoke"]].fingerprint, now=now)
                    mine.append({"revoked": [step["revoke"]]})
                except (Conflict, NotFound):
                    pass
                continue
            wanted = [Wanted(known[each], Role(role)) for each, role in step["apply"]]
            done = registry.trust.apply("juju", wanted, now=now)
            index = {each.fingerprint: number for number, each in enumerate(known)}
            mine.append({
                kind: [index[each] for each in getattr(done, kind)]
                for kind in ("added", "changed", "removed")
            })
    except Exception as error:
        errors.append(repr(error))

threads = [threading.Thread(target=write, args=(steps,)) for steps in work["writers"]]
print("ready", flush=True)
sys.stdin.readline()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
registry.close()
print(json.dumps({"said": said, "errors": errors}), flush=True)
"""


def steps(chance: random.Random) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for number in range(ROUNDS):
        wanted = chance.sample(range(CERTIFICATES), chance.randint(2, 7))
        made.append({"apply": [[each, chance.choice(["client", "publisher"])] for each in wanted]})
        if number % 4 == 2 and number < ROUNDS - 1:
            made.append({"revoke": chance.randrange(REVOCABLE)})
    return made


def started(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def test_the_end_is_a_serial_one_and_the_log_has_every_change_once(
    tmp_path: Path, postgresql_server: Callable[[], postgresql.Server]
):
    server = postgresql_server()
    url = server.url(server.create("aar:migrations"))
    chance = random.Random(7)
    known = [certify(name=f"site-{number}") for number in range(CERTIFICATES)]
    plans = [[steps(chance) for _ in range(WRITERS)] for _ in range(PROCESSES)]
    settings: dict[str, Any] = {"database": {"url": url}}
    processes: list[subprocess.Popen[str]] = []
    with (
        running(tmp_path / "one", settings=settings) as one,
        running(tmp_path / "two", settings=settings) as two,
    ):
        session = one.add_session("client")
        there = two.new_session(session.identity)
        two.until(lambda: there.get("/1.0/applications").status_code == 200)
        try:
            for number, plan in enumerate(plans):
                process = started(tmp_path / f"writer-{number}")
                processes.append(process)
                work = {
                    "url": url,
                    "now": NOW.isoformat(),
                    "certificates": [each.pem for each in known],
                    "writers": plan,
                }
                told(process, json.dumps(work))
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            begin = time.monotonic()
            for process in processes:
                told(process, "go")
            # While they write: a revocation acts on both servers.
            one.revoke(session)
            revoked = time.monotonic()
            acted = []
            for unit in (session, there):
                one.until(lambda unit=unit: unit.get("/1.0/applications").status_code == 403)
                acted.append(time.monotonic() - revoked)
            outcomes = [
                json.loads(process.communicate(timeout=DEADLINE)[0]) for process in processes
            ]
            seconds = time.monotonic() - begin
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                    process.communicate()

    assert [outcome["errors"] for outcome in outcomes] == [[]] * PROCESSES
    database = Database(url)
    try:
        check(database, known, plans, outcomes)
    finally:
        database.close()
        server.drop(url.rpartition("/")[2])
    writes = sum(len(plan) for plans_of in plans for plan in plans_of)
    print(
        f"{writes} changes of {PROCESSES * WRITERS} writers in {seconds:.2f} s; a revocation "
        f"acted after {acted[0]:.3f} s here, {acted[1]:.3f} s on the other unit"
    )


def check(
    database: Database, known: list[Any], plans: list[Any], outcomes: list[dict[str, Any]]
) -> None:
    index = {str(each.fingerprint): number for number, each in enumerate(known)}
    store = TrustStore(database, schema.trust)
    gone = {index.get(str(each.fingerprint)) for each in store.list(revoked=True)} - {None}
    held = {
        (index[str(each.fingerprint)], str(each.role))
        for each in store.list()
        if each.origin == "juju"
    }

    # The log, played back, gives what is there: no change is missing, doubled or out of order.
    logged: Counter[tuple[str, int]] = Counter()
    state: dict[int, str] = {}
    revoked: set[int] = set()
    for row in Audit(database).read():
        number = index.get(row.record.subject)
        if number is None or not row.record.action.startswith("trust-"):
            continue
        kind = row.record.action.removeprefix("trust-")
        logged[kind, number] += 1
        assert number not in revoked, "a revoked certificate was changed"
        assert (number in state) == (kind != "added"), (kind, number)
        if kind == "revoked":
            revoked.add(number)
        if kind in ("removed", "revoked"):
            del state[number]
        else:
            state[number] = row.record.detail["role"]
    assert revoked == gone
    assert set(state.items()) == held

    # Each writer was told of what it did, and of nothing else.
    told_of: Counter[tuple[str, int]] = Counter()
    for outcome in outcomes:
        for step in (step for writer in outcome["said"] for step in writer):
            for kind, numbers in step.items():
                told_of.update((kind, number) for number in numbers)
    assert told_of == logged

    # What is there is the last wish of one of the writers, but for what was revoked.
    last = [plan[-1]["apply"] for plans_of in plans for plan in plans_of]
    ends = [{(each, role) for each, role in wish if each not in gone} for wish in last]
    assert held in ends

"""The change feed under many writing processes and a polling reader, on both engines."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from aar.feed import Cursor
from support.postgresql import Databases, OpenRegistry

FEW, MANY = (4, 150), (8, 75)
"""Writers, and changes of each: on SQLite, on PostgreSQL."""
DEADLINE = 600

# Each writer publishes versions of its own application and removes every third, through the rules
# that the service uses; the other statements of those transactions make the race a real one.
WRITER = """
import sys, json
from pathlib import Path
from aar.registry import Registry
from aar.settings import Settings
from regkit.oci.application import Key
from support.images import actor, push

home, name, count, url = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
registry = Registry(home, Settings.model_validate({"database": {"url": url}}))
print("ready", flush=True)
sys.stdin.readline()
done, errors = [], []
number = 0
while len(done) < count:
    try:
        push(registry, Key(name, number, "amd64"), by=actor())
        done.append(["published", name, number])
        if number % 3 == 0 and len(done) < count:
            registry.applications.remove(name, number, actor=actor())
            done.append(["removed", name, number])
    except Exception as error:
        errors.append(repr(error))
        break
    number += 1
registry.close()
print(json.dumps({"done": done, "errors": errors}), flush=True)
"""


def start(home: Path, name: str, url: str, changes: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(home), name, str(changes), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
    )


def test_many_writers_and_a_reader_lose_nothing(
    tmp_path: Path, databases: Databases, open_registry: OpenRegistry
):
    count, changes = MANY if databases.shared else FEW
    home = tmp_path
    (home / "data").mkdir()
    url = databases.url(home if databases.shared else home / "data" / "aar.db", "aar:migrations")
    writers: list[subprocess.Popen[str]] = []
    try:
        writers = [start(home, f"app-{number}", url, changes) for number in range(count)]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        with open_registry(home) as registry:
            begin = time.monotonic()
            for writer in writers:
                assert writer.stdin is not None
                writer.stdin.write("go\n")
                writer.stdin.flush()
            seen: list[tuple[int, str, str, int]] = []
            cursor: Cursor | None = None
            polls = together = 0
            while len(seen) < count * changes and time.monotonic() < begin + DEADLINE:
                running = sum(writer.poll() is None for writer in writers)
                page = registry.feed.read(cursor, limit=50)
                polls += 1
                together += running >= 2 and bool(page.changes)
                cursor = page.cursor
                for item in page.changes:
                    seen.append((item.seq, item.kind, item.key.name, item.key.number))
                if not running and not page.changes:
                    break
            seconds = time.monotonic() - begin
            outcomes = [json.loads(writer.communicate(timeout=30)[0]) for writer in writers]
            head = registry.feed.head()
    finally:
        for writer in writers:
            if writer.poll() is None:
                writer.kill()
            writer.communicate()

    errors = [error for outcome in outcomes for error in outcome["errors"]]
    print(
        f"{len(seen)} changes of {count} writers in {seconds:.1f} s "
        f"({len(seen) / seconds:.0f}/s), {polls} polls, {together} of them saw news while at "
        f"least two wrote, {len(errors)} errors"
    )
    assert errors == []
    assert head.seq == count * changes
    assert [entry[0] for entry in seen] == list(range(1, count * changes + 1))
    for number, outcome in enumerate(outcomes):
        mine = [list(entry[1:]) for entry in seen if entry[2] == f"app-{number}"]
        assert mine == outcome["done"]
    assert together > 0

"""What the triggers of AMS' `revision` row cost writers on PostgreSQL, with and without them.

    PYTHONPATH=tests .venv/bin/python -m benchmarks.revision

Eight processes change applications of their own, two statements in watched tables per transaction,
as publishing does; rounds with and without the triggers take turns. It also looks all the time
who waits for what: writers wait for the lock of all writers (`advisory`), and would wait for the
row (`transactionid`, `tuple`) only if they didn't. It starts a server of its own, measures nothing
else, and writes no file.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from datetime import datetime, timezone
from statistics import median
from typing import Any

import psycopg
import sqlalchemy as sa

from ams import schema
from regkit.database import Database
from support import postgresql

WRITERS, TRANSACTIONS, ROUNDS = 8, 100, 5
WATCHED = ("application", "version", "registry_version", "pushed", "withdrawal", "quarantine")


def write(url: str, writer: int) -> None:
    """Be one writer: tell when ready, begin when told."""
    with closing(Database(url)) as database:
        name, now = f"app-{writer}", datetime.now(timezone.utc)
        with database.read():
            pass
        print("ready", flush=True)
        sys.stdin.readline()
        table = schema.pushed
        for number in range(TRANSACTIONS):
            with database.write() as connection:
                connection.execute(
                    schema.application.update()
                    .where(schema.application.c.name == name)
                    .values(updated=now, next_number=number)
                )
                connection.execute(table.delete().where(table.c.name == name))
                connection.execute(
                    table.insert().values(
                        name=name,
                        number=number,
                        architecture="amd64",
                        digest="sha256:" + "0" * 64,
                        epoch="0" * 32,
                        at=now,
                    )
                )


def measure(url: str, admin: psycopg.Connection[Any], waits: Counter[str]) -> float:
    """Return transactions per second of all writers together; count what they wait for."""
    command = [sys.executable, "-m", "benchmarks.revision", url]
    writers = [
        subprocess.Popen(
            [*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(WRITERS)
    ]
    try:
        for writer in writers:
            if writer.stdout is None or writer.stdout.readline() != "ready\n":
                raise SystemExit("a writer didn't start")
        begin = time.perf_counter()
        for writer in writers:
            if writer.stdin is not None:
                writer.stdin.write("go\n")
                writer.stdin.flush()
        while any(writer.poll() is None for writer in writers):
            for kind, count in admin.execute(
                "SELECT locktype, count(*) FROM pg_locks WHERE NOT granted GROUP BY locktype"
            ):
                waits[kind] += count
            time.sleep(0.02)
        seconds = time.perf_counter() - begin
    finally:
        for writer in writers:
            if writer.poll() is None:
                writer.kill()
            writer.communicate()
    return WRITERS * TRANSACTIONS / seconds


def main() -> None:
    """Print the medians."""
    with closing(postgresql.Server()) as server:
        name = server.create("ams:migrations")
        url, now = server.url(name), datetime.now(timezone.utc)
        with closing(Database(url)) as database, database.write() as connection:
            for number in range(WRITERS):
                connection.execute(
                    schema.application.insert().values(
                        id=f"id{number}",
                        name=f"app-{number}",
                        origin="local",
                        vm=False,
                        next_number=0,
                        created=now,
                        updated=now,
                    )
                )
        found: dict[bool, list[float]] = {True: [], False: []}
        waits: Counter[str] = Counter()
        for _ in range(ROUNDS):
            for on in (True, False):
                with server.connect(name) as admin:
                    for table in WATCHED:
                        word = "ENABLE" if on else "DISABLE"
                        admin.execute(sa.text(f"ALTER TABLE {table} {word} TRIGGER USER").text)  # type: ignore[arg-type]
                    admin.execute("VACUUM")
                    found[on].append(measure(url, admin, waits))
        with_them, without = median(found[True]), median(found[False])
        print(f"{WRITERS} writers, {TRANSACTIONS} transactions each, {ROUNDS} rounds, medians")
        print(f"with the triggers    {with_them:8.0f}/s  {_all(found[True])}")
        print(f"without them         {without:8.0f}/s  {_all(found[False])}")
        print(f"waits seen           {dict(waits)}")
        print(f"they cost            {100 * (1 - with_them / without):8.1f} %")


def _all(values: list[float]) -> str:
    return "(" + " ".join(f"{value:.0f}" for value in values) + ")"


if __name__ == "__main__":
    if len(sys.argv) == 3:
        write(sys.argv[1], int(sys.argv[2]))
    else:
        main()

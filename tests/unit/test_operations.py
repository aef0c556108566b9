"""Operations: life, progress, cancelling, waiting, restart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ams.operations import INTERRUPTED, Operation, Operations, OperationStatus, Task
from regkit.database import Database
from regkit.errors import Conflict, NotFound
from support.postgresql import Databases

DEADLINE = 20


class Later:
    """A spawner that runs nothing until told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, function: Callable[[], None]) -> None:
        self.waiting.append(function)

    def run(self) -> None:
        self.waiting.pop(0)()


@pytest.fixture
def database(tmp_path: Path, databases: Databases) -> Iterator[Database]:
    database = databases.open(tmp_path / "ams.db", "ams:migrations")
    yield database
    database.close()


def fail(_task: Task) -> None:
    raise Conflict("the name is taken: use another")


def break_down(_task: Task) -> None:
    raise ZeroDivisionError


def test_success_with_progress_result_and_resources(database: Database):
    operations = Operations(database)
    heard: list[tuple[str, int]] = []
    operations.listen(lambda operation: heard.append((operation.id, int(operation.status))))

    def work(task: Task) -> dict[str, object]:
        task.progress(done=1)
        task.progress(total=2)
        task.resources(applications=["/1.0/applications/x"])
        return {"id": "x"}

    created = operations.start("Creating application", work, metadata={"name": "candy"})
    assert created.status is OperationStatus.CREATED
    ended = operations.wait(created.id, DEADLINE)
    assert ended.status is OperationStatus.SUCCESS
    assert ended == Operations(database).get(created.id)
    document = ended.to_dict()
    assert document["metadata"] == {"name": "candy", "done": 1, "total": 2, "id": "x"}
    assert document["resources"] == {"applications": ["/1.0/applications/x"]}
    assert (document["status"], document["status_code"], document["err"]) == ("Success", 200, "")
    assert document["class"] == "task"
    assert [status for _, status in heard] == [100, 103, 103, 103, 103, 200]


@pytest.mark.parametrize(
    ("work", "error"),
    [(fail, "the name is taken: use another"), (break_down, "internal error: the service's log")],
)
def test_failure(database: Database, work: Callable[[Task], None], error: str):
    operations = Operations(database)
    ended = operations.wait(operations.start("x", work).id, DEADLINE)
    assert ended.status is OperationStatus.FAILURE
    assert error in ended.error
    with pytest.raises(Conflict, match="has ended already"):
        operations.cancel(ended.id)


def test_cancel_while_running(database: Database):
    operations = Operations(database)
    begun, go_on = threading.Event(), threading.Event()

    def work(task: Task) -> None:
        begun.set()
        assert go_on.wait(DEADLINE)
        task.progress(done=1)
        raise AssertionError("went on")

    operation = operations.start("x", work)
    assert begun.wait(DEADLINE)
    assert operations.wait(operation.id, 0).status is OperationStatus.RUNNING
    assert operations.cancel(operation.id).status is OperationStatus.CANCELLING
    go_on.set()
    ended = operations.wait(operation.id, DEADLINE)
    assert ended.status is OperationStatus.CANCELLED
    assert ended.to_dict()["status_code"] == 401


def test_cancel_before_it_runs_and_what_may_not_be_cancelled(database: Database):
    later = Later()
    operations = Operations(database, later)
    ran: list[Task] = []
    operation = operations.start("x", ran.append)
    operations.cancel(operation.id)
    later.run()
    assert operations.get(operation.id).status is OperationStatus.CANCELLED
    assert ran == []
    fixed = operations.start("x", ran.append, may_cancel=False)
    with pytest.raises(Conflict, match="can't be cancelled"):
        operations.cancel(fixed.id)
    later.run()
    assert len(ran) == 1


def test_progress_is_seen_at_once_but_written_seldom(database: Database):
    operations, other = Operations(database), Operations(database)
    seen: list[tuple[Operation, Operation]] = []

    def work(task: Task) -> None:
        for done in range(50):
            task.progress(done=done)
        seen.append((operations.get(task.id), other.get(task.id)))

    later = Later()
    operations = Operations(database, later)
    operations.start("x", work)
    later.run()
    [(here, there)] = seen
    assert here.metadata == {"done": 49}
    assert there.metadata != here.metadata
    assert operations.list()[0].metadata == {"done": 49}


def test_those_of_a_former_process_are_failed(database: Database):
    Operations(database, Later()).start("x", fail)
    operations = Operations(database)
    assert operations.list(final=True) == []
    assert operations.recover() == 1
    assert operations.recover() == 0
    [operation] = operations.list(final=True)
    assert (operation.status, operation.error) == (OperationStatus.FAILURE, INTERRUPTED)
    assert operations.list(final=False) == []


def test_old_ones_are_forgotten_running_ones_never(database: Database):
    now = [datetime.now(timezone.utc)]
    later = Later()
    operations = Operations(database, later, clock=lambda: now[0])
    done = operations.start("done", fail)
    later.run()
    running = operations.start("running", fail)
    assert operations.prune() == 0
    now[0] += timedelta(hours=25)
    assert operations.prune() == 1
    with pytest.raises(NotFound, match="there is no operation"):
        operations.get(done.id)
    assert [o.id for o in operations.list()] == [running.id]

"""One PostgreSQL and one object storage, and units of our registry that share them.

The engines are those of the tests: PostgreSQL and Ceph's radosgw from the distribution's packages,
on the same cores as everything else. radosgw keeps its objects in memory; PostgreSQL's writes are
durable.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support import postgresql, radosgw

from benchmarks.environment import Missing
from benchmarks.lab import Lab
from benchmarks.processes import Usage
from benchmarks.servers import Aar

SETUP = "tests/setup-engines.sh"
ROOM = {"memstore_device_bytes": str(14 * 2**30)}
"""For what a whole run pushes: radosgw frees what was deleted hours later."""


class Engines:
    """Both engines, running. A context manager: leaving ends them."""

    def __init__(self) -> None:
        for lacking in (postgresql.missing(), radosgw.missing()):
            if lacking:
                raise Missing(f"{lacking}; {SETUP} installs what is needed, as root")
        self._stack = ExitStack()

    def __enter__(self) -> Engines:
        try:
            self._database = postgresql.Server()
            self._stack.callback(self._database.close)
            self._storage = self._stack.enter_context(radosgw.running(ROOM))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def settings(self, *, redirect: bool) -> dict[str, object]:
        """Return the settings of a registry with a database and a prefix of its own."""
        prefix = self._storage.new_prefix()
        return {
            "database": {"url": self._database.url(self._database.create())},
            "storage": {"s3": self._storage.settings(prefix, redirect=redirect)},
        }


class Units:
    """Units of one registry: started together, and measured as one."""

    def __init__(self, name: str, units: Sequence[Aar]) -> None:
        self.name = name
        self.units = tuple(units)

    @contextmanager
    def measured(self) -> Iterator[Usage]:
        """Give the sum of what the units use meanwhile; complete at the end."""
        total = Usage()
        with ExitStack() as stack:
            each = [stack.enter_context(unit.group.measured()) for unit in self.units]
            yield total
        total.cpu = sum(used.cpu for used in each)
        total.peak = sum(used.peak for used in each)


@contextmanager
def started(lab: Lab, name: str, count: int, settings: dict[str, object]) -> Iterator[Units]:
    """Start `count` units with these settings; one with none is the embedded registry."""
    folders = [lab.folder / f"{name.replace(' ', '-')}-{number}" for number in range(count)]
    with ExitStack() as stack:
        units = []
        for folder in folders:
            unit = lab.aar(folder, settings=settings)
            unit.start()
            stack.callback(_ended, unit, folder)
            units.append(unit)
        yield Units(name, units)


def _ended(unit: Aar, folder: Path) -> None:
    unit.stop()
    shutil.rmtree(folder, ignore_errors=True)

"""The charm moves a registry to shared engines: what it runs, and what a failure leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from test_aar_engines import database, options, storage

from machine_service import CommandFailed
from registry import PROGRAM, Registry
from shared_engines import Engines
from support.fake_machine_service import FakeMachineService

ENGINES = Engines(database(), storage())


class Migration:
    """`aar migrate`, which takes `refusals` tries to succeed."""

    def __init__(self, service: FakeMachineService, refusals: int) -> None:
        self._service = service
        self._refusals = refusals
        self.ran: list[bool] = []
        """For each run, whether the registry was serving."""
        self.file: Path | None = None

    def __call__(self, arguments: tuple[str, ...], stdin: str | None) -> str:
        *command, path = arguments
        assert command == ["migrate", "--keep-config", "--to"]
        self.file = Path(path)
        assert self.file.stat().st_mode & 0o777 == 0o600
        written = yaml.safe_load(self.file.read_text())
        assert written.keys() == {"database", "storage"}
        self.ran.append(self._service.is_running)
        if len(self.ran) <= self._refusals:
            raise CommandFailed("stop the registry")
        return "Moved and compared, 7 rows.\nTake the sections of …\n"


@pytest.fixture
def service(tmp_path: Path) -> FakeMachineService:
    return FakeMachineService(PROGRAM, tmp_path)


def serving(service: FakeMachineService) -> Registry:
    registry = Registry(service)  # type: ignore[arg-type] - the same verbs
    registry.install(Path("wheels"))
    registry.run_as(options(), ipv6=False)
    return registry


def test_it_serves_while_files_are_copied_and_then_from_the_engines(
    service: FakeMachineService,
) -> None:
    registry = serving(service)
    migration = Migration(service, refusals=1)
    service.scripts = {"aar": migration}
    assert registry.migrate(options(), ENGINES, ipv6=False) == "Moved and compared, 7 rows."
    assert migration.ran == [True, False]
    assert service.running
    assert "postgresql://" in service.running.content
    assert dict(service.running.files) == ENGINES.files
    assert migration.file
    assert not migration.file.exists()


def test_a_failure_leaves_it_serving_as_before(service: FakeMachineService) -> None:
    registry = serving(service)
    migration = Migration(service, refusals=2)
    service.scripts = {"aar": migration}
    with pytest.raises(CommandFailed, match="stop the registry"):
        registry.migrate(options(), ENGINES, ipv6=False)
    assert service.running
    assert "postgresql://" not in service.running.content
    assert migration.file
    assert not migration.file.parent.exists()

"""The service put together: opens, migrates, starts, stops, opens again."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ams.operations import INTERRUPTED, OperationStatus
from ams.packages import read
from ams.settings import Settings
from regkit.errors import Invalid
from support.packages import content, tar

pytest.importorskip("regkit.identity")
pytest.importorskip("regkit.pinned")


def test_state_outlives_the_process_and_left_overs_do_not(tmp_path: Path):
    from ams.service import Service  # noqa: PLC0415

    settings = Settings(architecture="amd64")
    with Service(tmp_path, settings) as service:
        assert (tmp_path / "registry" / "client.crt").exists()
        with read(io.BytesIO(tar(content())), service.blobs) as package:
            app = service.catalogue.create(package)
        service.options.set("registry.mode", "manual")
        service.blobs.stage("package-dead-0").close()
        service.blobs.stage("half-a-download").close()
    waiting = []
    with Service(tmp_path, settings, spawn=waiting.append) as service:
        left = service.operations.start("x", lambda _task: None)
    with Service(tmp_path, settings) as service:
        service.start_background()
        assert [info.name for info in service.blobs.staged()] == ["half-a-download"]
        assert service.catalogue.get("candy") == app
        assert service.options.get("registry.mode") == "manual"
        ended = service.operations.get(left.id)
        assert (ended.status, ended.error) == (OperationStatus.FAILURE, INTERRUPTED)


def test_a_registry_that_is_not_trusted_is_not_asked(tmp_path: Path):
    from ams.service import Service  # noqa: PLC0415

    with Service(tmp_path, Settings(architecture="amd64")) as service:
        service.options.set("registry.url", "https://127.0.0.1:1")
        with pytest.raises(Invalid, match=r"registry\.fingerprint"):
            service.sync.sync_now()


def test_a_registrys_storage_is_left_alone(tmp_path: Path):
    from aar.registry import Registry  # noqa: PLC0415
    from aar.settings import Settings as RegistrySettings  # noqa: PLC0415
    from ams.service import Service  # noqa: PLC0415

    storage = {"fs": {"root-directory": str(tmp_path / "blobs")}}
    with Registry(tmp_path / "aar", RegistrySettings.model_validate({"storage": storage})) as one:
        one.blobs.claim("0123456789abcdef")
    with pytest.raises(Invalid, match="this storage is a registry's"):
        Service(tmp_path / "ams", Settings.model_validate({"storage": storage}))

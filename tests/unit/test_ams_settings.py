"""`conf/main.yaml` of the management service."""

from __future__ import annotations

from pathlib import Path

import pytest

from ams.settings import Settings, load, machine_architecture
from regkit.errors import Invalid


def write(home: Path, text: str) -> Path:
    (home / "conf").mkdir()
    (home / "conf" / "main.yaml").write_text(text)
    return home


def test_defaults(tmp_path: Path):
    settings = load(tmp_path)
    assert str(settings.http.addr) == "0.0.0.0:8444"
    assert settings.database_url(tmp_path) == f"sqlite:///{tmp_path}/data/ams.db"
    assert settings.blob_root(tmp_path) == tmp_path / "data"
    assert settings.architecture == machine_architecture()
    assert settings == Settings()


def test_everything_set(tmp_path: Path):
    settings = load(
        write(
            tmp_path,
            "http: {addr: 127.0.0.1:0}\ndatabase: {url: sqlite:////x/y.db}\n"
            "storage: {fs: {root-directory: /srv/blobs}}\nlog: {level: debug}\n"
            "architecture: arm64\n",
        )
    )
    assert str(settings.http.addr) == "127.0.0.1:0"
    assert settings.database_url(tmp_path) == "sqlite:////x/y.db"
    assert settings.blob_root(tmp_path) == Path("/srv/blobs")
    assert (settings.log.level, settings.architecture) == ("debug", "arm64")


def test_every_fault_is_named(tmp_path: Path):
    write(tmp_path, "http: {addr: nowhere, port: 1}\narchitecture: AMD 64\nregistry: {}\n")
    with pytest.raises(Invalid) as caught:
        load(tmp_path)
    for part in ("http.addr: ", "http.port: unknown key", "architecture: ", "registry: unknown"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("machine", "name"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("riscv64", "riscv64")]
)
def test_architectures_have_debians_names(machine: str, name: str):
    assert machine_architecture(machine) == name

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from aar.registry import Registry
from aar.settings import Settings
from regkit.errors import Invalid, Unavailable
from regkit.oci.application import Key
from regkit.settings import Address, load
from support.images import push


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "main.yaml"
    path.write_text(text)
    return load(path, Settings)


def test_the_defaults(tmp_path: Path):
    found = load(tmp_path / "absent.yaml", Settings)
    assert found.http.addr == Address(host="0.0.0.0", port=3000)
    assert (found.http.workers, found.http.minimum_tls) == (None, "1.3")
    assert (found.database.url, found.storage.fs.root_directory) == (None, None)
    assert found.log.level == "info"
    assert found.janitor.uploads_after == found.janitor.blobs_after == timedelta(hours=24)


def test_everything_that_may_be_set(tmp_path: Path):
    found = settings(
        tmp_path,
        """
        http: {addr: "[::]:3001", workers: 2, minimum-tls: "1.2"}
        database: {url: "sqlite:////srv/aar.db"}
        storage: {fs: {root-directory: /srv/aar}}
        log: {level: debug}
        janitor: {interval: 10m, uploads-after: 1h30m, blobs-after: 48h}
        """,
    )
    assert str(found.http.addr) == "[::]:3001"
    assert found.storage.fs.root_directory == Path("/srv/aar")
    assert found.janitor.uploads_after == timedelta(minutes=90)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http: {adr: x}", "http.adr: unknown key"),
        ("http: {addr: nonsense}", "http.addr: .* is not an address"),
        ("http: {workers: 0}", "http.workers"),
        ("http: {minimum-tls: '1.0'}", "http.minimum-tls"),
        ("storage: {s3: {bucket: blobs}, fs: {}}", "storage: fs and s3 exclude each other"),
        ("storage: {fs: {root-directory: blobs}}", "must be an absolute path"),
        ("janitor: {interval: 1x}", "janitor.interval"),
        ("janitor: {blobs-after: 0s}", "blobs-after must be at least 1m"),
        ("log: {level: loud}", "log.level"),
        ("extra: 1\nmore: 2", "extra: unknown key; more: unknown key"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, says: str):
    with pytest.raises(Invalid, match=says):
        settings(tmp_path, text)


def test_the_state_root_is_laid_out_as_documented(tmp_path: Path):
    with Registry(tmp_path / "home"):
        data = tmp_path / "home" / "data"
        assert {"aar.db", "blobs", "uploads"} <= {path.name for path in data.iterdir()}
        assert data.stat().st_mode & 0o777 == 0o700


def test_blobs_and_database_may_live_elsewhere(tmp_path: Path):
    found = settings(
        tmp_path,
        f"storage: {{fs: {{root-directory: {tmp_path}/big}}}}\n"
        f"database: {{url: 'sqlite:///{tmp_path}/fast/db.sqlite'}}",
    )
    with Registry(tmp_path / "home", found) as registry:
        push(registry, Key("candy", 0, "amd64"))
    assert (tmp_path / "fast" / "db.sqlite").exists()
    assert (tmp_path / "big" / "blobs" / "sha256").is_dir()
    assert not (tmp_path / "home" / "data" / "blobs").exists()


def test_what_was_published_is_there_after_reopening(tmp_path: Path):
    with Registry(tmp_path) as registry:
        push(registry, Key("candy", 0, "amd64"))
        head = registry.feed.head()
    with Registry(tmp_path) as again:
        assert again.feed.head() == head
        assert [app.name for app in again.applications.list()] == ["candy"]


def test_a_root_that_cannot_be_used_is_told(tmp_path: Path):
    (tmp_path / "data").write_text("a file, not a folder")
    with pytest.raises(Unavailable, match="check its owner"):
        Registry(tmp_path)


def test_a_database_of_another_kind_is_refused(tmp_path: Path):
    with pytest.raises(Invalid, match="not supported"):
        Registry(tmp_path, settings(tmp_path, "database: {url: 'mysql://x/y'}"))

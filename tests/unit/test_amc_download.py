"""What is downloaded is whole under its name, or not there at all."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ams.amc.download import save
from regkit.errors import ServiceError, Unavailable

CONTENT = [b"one", b"two"]
SHA256 = hashlib.sha256(b"onetwo").hexdigest()


def test_whole(tmp_path: Path) -> None:
    target = tmp_path / "app.tar.bz2"
    mask = os.umask(0o027)
    try:
        save(target, CONTENT, SHA256)
    finally:
        os.umask(mask)
    assert target.read_bytes() == b"onetwo"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    save(target, [b"other"], "")
    assert target.read_bytes() == b"other"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), Unavailable("cut off"), OSError(28, "")])
def test_what_breaks_off_leaves_what_was_there(tmp_path: Path, fault: BaseException) -> None:
    target = tmp_path / "app.tar.bz2"
    target.write_bytes(b"before")

    def chunks() -> Iterator[bytes]:
        yield b"one"
        raise fault

    with pytest.raises(type(fault)):
        save(target, chunks(), SHA256)
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_what_was_damaged_on_its_way(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="try again"):
        save(tmp_path / "app.tar.bz2", [b"onetwp"], SHA256)
    assert not list(tmp_path.iterdir())

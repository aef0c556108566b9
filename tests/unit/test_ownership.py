"""Root acts as the owner of a state root, and is itself again afterwards."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from regkit import ownership
from regkit.errors import Forbidden

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as somebody else")


def test_the_owner_s_home_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a library reads in $HOME must be the owner's: libpq fails over root's."""
    nobody = pwd.getpwnam("nobody")
    os.chown(tmp_path, nobody.pw_uid, nobody.pw_gid)
    monkeypatch.setenv("HOME", "/root")
    try:
        with ownership.acting_as_owner(tmp_path, "registry"):
            pass
    except Forbidden as error:
        pytest.skip(str(error))  # this checkout, or its Python, is in root's home
    with ownership.acting_as_owner(tmp_path, "registry"):
        assert os.geteuid() == nobody.pw_uid
        assert os.environ["HOME"] == nobody.pw_dir
    assert os.environ["HOME"] == "/root"
    monkeypatch.delenv("HOME")
    with ownership.acting_as_owner(tmp_path, "registry"):
        assert os.environ["HOME"] == nobody.pw_dir
    assert "HOME" not in os.environ

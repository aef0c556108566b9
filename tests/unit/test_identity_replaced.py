"""Another pair takes the place of the one that is there: as a whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from regkit import identity
from regkit.errors import Invalid, NotFound
from regkit.identity import Identity
from support import pairs


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "certs" / "server.crt", tmp_path / "certs" / "server.key"


def ensure(paths: tuple[Path, Path]) -> Identity:
    return identity.ensure(*paths, "aar", ["localhost"], usage="server")


def other(folder: Path, name: str = "other") -> tuple[bytes, pairs.Pair]:
    pair = pairs.make(folder, name, usage="server")
    return pair.key_path.read_bytes() + pair.cert_path.read_bytes(), pair


def test_a_pair_is_replaced_and_told_again(paths: tuple[Path, Path], tmp_path: Path) -> None:
    first = ensure(paths)
    pair, wanted = other(tmp_path)
    found, changed = identity.replace(*paths, pair)
    assert (found.certificate, changed) == (wanted.certificate, True)
    assert ensure(paths) == found != first
    assert paths[1].stat().st_mode & 0o777 == 0o600
    assert sorted(paths[0].parent.iterdir()) == sorted(paths)
    written = [path.stat().st_mtime_ns for path in paths]
    assert identity.replace(*paths, pair) == (found, False)
    assert [path.stat().st_mtime_ns for path in paths] == written
    assert identity.replace(*paths, identity.export(*paths))[1] is False


def test_a_registry_may_get_its_pair_before_it_makes_one(
    paths: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="no certificate at"):
        identity.load(*paths)
    with pytest.raises(NotFound):
        identity.export(*paths)
    pair, wanted = other(tmp_path)
    assert identity.replace(*paths, pair)[1]
    assert ensure(paths).certificate == wanted.certificate


def test_the_order_of_the_two_does_not_matter(paths: tuple[Path, Path], tmp_path: Path) -> None:
    _, wanted = other(tmp_path)
    turned = b"a note\n" + wanted.cert_path.read_bytes() + wanted.key_path.read_bytes()
    assert identity.replace(*paths, turned)[0].certificate == wanted.certificate


def test_a_broken_pair_can_be_mended(paths: tuple[Path, Path], tmp_path: Path) -> None:
    ensure(paths)
    pair, wanted = other(tmp_path)
    paths[1].write_bytes(other(tmp_path, "stranger")[1].key_path.read_bytes())
    assert identity.replace(*paths, pair)[0].certificate == wanted.certificate


def test_what_is_no_pair_changes_nothing_and_is_not_repeated(
    paths: tuple[Path, Path], tmp_path: Path
) -> None:
    first = ensure(paths)
    _, one = other(tmp_path, "one")
    _, two = other(tmp_path, "two")
    key, certificate = one.key_path.read_bytes(), one.cert_path.read_bytes()
    for pair in (
        b"",
        b"nonsense",
        key,
        certificate,
        key + key + certificate,
        key + certificate + certificate,
        key + two.cert_path.read_bytes(),
        key.replace(b"M", b"N") + certificate,
        key[: len(key) // 2] + certificate,
        key + certificate.replace(b"A", b"B"),
        key + certificate + b" " * identity.MAX_PAIR_BYTES,
    ):
        with pytest.raises(Invalid) as caught:
            identity.replace(*paths, pair)
        assert "BEGIN" not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert ensure(paths) == first


@pytest.mark.parametrize("writes", range(4))
def test_a_crash_leaves_either_pair_whole(
    paths: tuple[Path, Path], tmp_path: Path, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first file is written the former pair holds; from then on the new one."""
    first = ensure(paths)
    pair, wanted = other(tmp_path)
    write, left = identity._write, writes

    def failing(path: Path, content: bytes) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(identity, "_write", failing)
        if writes < 3:
            with pytest.raises(KeyboardInterrupt):
                identity.replace(*paths, pair)
        else:
            identity.replace(*paths, pair)
    assert ensure(paths).certificate == (wanted.certificate if writes else first.certificate)
    assert sorted(paths[0].parent.iterdir()) == sorted(paths)


def test_a_renewed_pair_shares_nothing_with_the_former(paths: tuple[Path, Path]) -> None:
    first = ensure(paths).certificate
    second = identity.renew(*paths, "aar", ["localhost"], usage="server").certificate
    assert ensure(paths).certificate == second
    assert first.key_hash != second.key_hash
    assert (first.common_name, first.names) == (second.common_name, second.names)

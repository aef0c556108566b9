"""`storage` of a conf/main.yaml: what may be given together, and that secrets stay secret."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from aar.settings import Settings
from regkit.blobs import FileBlobStore
from regkit.errors import Invalid
from regkit.settings import load
from regkit.storage import authorities, open_blobs

S3 = "bucket: blobs, access-key: AKIA1, secret-access-key: hush-hush"


def settings(tmp_path: Path, text: str, mode: int = 0o600) -> Settings:
    path = tmp_path / "main.yaml"
    path.write_text(text)
    path.chmod(mode)
    return load(path, Settings)


def test_what_may_be_set(tmp_path: Path):
    found = settings(
        tmp_path,
        "storage: {s3: {endpoint: 'https://s3.test:8443/', prefix: /a/b/, redirect-for: 1m, "
        f"addressing-style: path, redirect: false, region: eu-central-1, {S3}}}}}",
    ).storage.s3
    assert found is not None
    assert (found.endpoint, found.prefix) == ("https://s3.test:8443", "a/b/")
    assert (found.redirect, found.redirect_for) == (False, timedelta(minutes=1))


def test_secrets_are_not_shown(tmp_path: Path):
    found = settings(tmp_path, f"storage: {{s3: {{{S3}}}}}")
    assert "hush" not in repr(found) + str(found) + found.model_dump_json()
    with pytest.raises(Invalid) as caught:
        settings(tmp_path, f"storage: {{s3: {{{S3}, prefix: '?'}}}}")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o666])
def test_a_secret_that_everybody_may_read_is_refused(tmp_path: Path, mode: int):
    with pytest.raises(Invalid, match=r"everybody may read it: chmod 600"):
        settings(tmp_path, f"storage: {{s3: {{{S3}}}}}", mode)
    assert settings(tmp_path, "storage: {s3: {bucket: blobs}}", mode).storage.s3 is not None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s3: {bucket: blobs}, fs: {}", "fs and s3 exclude each other"),
        ("s3: {}", "storage.s3.bucket: is missing"),
        ("s3: {bucket: 'a b'}", "not the name of a bucket"),
        ("s3: {bucket: blobs, access-key: a}", "go together"),
        ("s3: {bucket: blobs, secret-access-key: a}", "go together"),
        ("s3: {bucket: blobs, endpoint: s3.test}", "not an endpoint"),
        ("s3: {bucket: blobs, endpoint: 'https://u:p@s3.test'}", "not an endpoint"),
        ("s3: {bucket: blobs, endpoint: 'http://s3.test'}", "set redirect: false"),
        ("s3: {bucket: blobs, prefix: a//b}", "a prefix is made of"),
        ("s3: {bucket: blobs, prefix: a/../b}", "a prefix is made of"),
        ("s3: {bucket: blobs, redirect-for: 0s}", "from 1s to 168h"),
        ("s3: {bucket: blobs, redirect-for: 169h}", "from 1s to 168h"),
        ("s3: {bucket: blobs, ca-file: ca.pem}", "absolute path"),
        ("s3: {bucket: blobs, addressing-style: x}", "addressing-style"),
        ("s3: {bucket: blobs, cloudfront: {base-url: 'https://c.test'}}", "private-key"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, says: str):
    with pytest.raises(Invalid, match=says):
        settings(tmp_path, f"storage: {{{text}}}")


def test_files_are_the_default(tmp_path: Path):
    assert isinstance(open_blobs(Settings().storage, tmp_path), FileBlobStore)


def test_authorities_are_told_to_clients_where_they_need_them(tmp_path: Path):
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    given = f"bucket: blobs, ca-file: {ca}"
    assert authorities(settings(tmp_path, f"storage: {{s3: {{{given}}}}}").storage)
    off = settings(tmp_path, f"storage: {{s3: {{{given}, redirect: false}}}}")
    assert authorities(off.storage) == ""
    ca.unlink()
    with pytest.raises(Invalid, match=r"storage\.s3\.ca-file"):
        authorities(settings(tmp_path, f"storage: {{s3: {{{given}}}}}").storage)

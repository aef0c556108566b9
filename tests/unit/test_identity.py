"""A pair of certificate and key is made once, survives a crash half-way, and is checked."""

from __future__ import annotations

import ipaddress
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from regkit import identity, pinned
from regkit.errors import Invalid, Unavailable
from regkit.identity import Identity
from support import pairs


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "certs" / "server.crt", tmp_path / "certs" / "server.key"


def ensure(paths: tuple[Path, Path], usage: identity.Usage = "server") -> Identity:
    return identity.ensure(*paths, "aar", ["localhost", "127.0.0.1", "::1"], usage=usage)


def test_a_new_pair_is_private_and_says_what_it_is_for(paths: tuple[Path, Path]):
    made = ensure(paths)
    certificate = made.certificate
    assert (certificate.common_name, certificate.client_usable) == ("aar", False)
    assert certificate.names == ("127.0.0.1", "::1", "localhost")
    now = datetime.now(timezone.utc)
    assert certificate.fault_at(now) is None
    assert certificate.fault_at(now + timedelta(days=3640)) is None
    parsed = x509.load_der_x509_certificate(certificate.der)
    assert isinstance(parsed.public_key(), ec.EllipticCurvePublicKey)
    usage = parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    cert_path, key_path = paths
    assert key_path.stat().st_mode & 0o777 == 0o600
    assert key_path.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(key_path.parent.iterdir()) == [cert_path, key_path]
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_path, key_path)


def test_a_client_may_come_without_names(paths: tuple[Path, Path]):
    made = identity.ensure(*paths, "ams", (), usage="client")
    assert made.certificate.client_usable
    assert made.certificate.names == ()


def test_a_pair_that_is_there_is_used_as_it_is(paths: tuple[Path, Path]):
    first = ensure(paths)
    assert ensure(paths) == first
    written = [path.read_bytes() for path in paths]
    identity.ensure(*paths, "other", ["elsewhere"], usage="client")
    assert [path.read_bytes() for path in paths] == written


def test_an_rsa_pair_of_the_operator_is_used(paths: tuple[Path, Path]):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    paths[1].parent.mkdir()
    paths[1].write_bytes(pem(key))
    certificate = ensure(paths).certificate  # issued on the key that is there
    assert paths[1].read_bytes() == pem(key)
    assert ensure(paths).certificate == certificate


def test_a_crash_between_the_two_files_heals(paths: tuple[Path, Path]):
    first = ensure(paths)
    paths[0].unlink()
    (paths[0].parent / f".{paths[0].name}.new").write_text("cut o")
    healed = ensure(paths)
    assert healed.certificate.key_hash == first.certificate.key_hash
    assert ensure(paths) == healed
    assert len(list(paths[0].parent.iterdir())) == 2


def test_several_starts_at_once_agree(paths: tuple[Path, Path]):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ensure(paths), range(8)))
    assert len({one.certificate.der for one in made}) == 1


def test_what_does_not_fit_together_is_refused(paths: tuple[Path, Path], tmp_path: Path):
    ensure(paths)
    other = pairs.make(tmp_path, "other", usage="server")
    key = paths[1].read_bytes()
    paths[1].write_bytes(other.key_path.read_bytes())
    with pytest.raises(Invalid, match="is not the key of"):
        ensure(paths)
    paths[1].unlink()
    with pytest.raises(Invalid, match="has no key"):
        ensure(paths)
    paths[1].write_bytes(b"nonsense")
    with pytest.raises(Invalid, match="not a private key"):
        ensure(paths)
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    paths[1].write_bytes(locked)
    with pytest.raises(Invalid, match="passphrase"):
        ensure(paths)
    paths[1].write_bytes(key)
    paths[0].write_bytes(key)
    with pytest.raises(Invalid, match="private key, which must stay"):
        ensure(paths)


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path):
    (tmp_path / "certs").write_text("a file")
    with pytest.raises(Unavailable, match="certs can't be used"):
        ensure((tmp_path / "certs" / "server.crt", tmp_path / "certs" / "server.key"))


def test_a_name_that_is_none_is_refused(paths: tuple[Path, Path]):
    with pytest.raises(Invalid, match="neither a DNS name nor an address"):
        identity.ensure(*paths, "aar", ["not a name"], usage="server")


def test_a_name_that_is_given_twice_stands_once_in_the_certificate(paths: tuple[Path, Path]):
    made = identity.ensure(*paths, "aar", ["registry", "127.0.0.1", "registry"], usage="server")
    assert sorted(made.certificate.names) == ["127.0.0.1", "registry"]


def test_local_names_are_distinct_and_fit_into_a_certificate(paths: tuple[Path, Path]):
    names = identity.local_names()
    assert {"localhost", "127.0.0.1", "::1"} <= set(names)
    assert len(set(names)) == len(names)
    made = identity.ensure(*paths, "aar", names, usage="server")
    assert set(made.certificate.names) == set(names)
    for name in names:
        if ":" in name:
            assert ipaddress.ip_address(name).version == 6


def test_a_session_refuses_an_identity_whose_files_do_not_fit(
    paths: tuple[Path, Path], tmp_path: Path
):
    made = ensure(paths, "client")
    other = pairs.make(tmp_path, "other")
    with pytest.raises(Invalid, match="a pair"):
        pinned.session(
            made.certificate.fingerprint,
            Identity(made.certificate, made.cert_path, other.key_path),
        )


def pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

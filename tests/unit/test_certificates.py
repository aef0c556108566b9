"""Certificates from foreign bytes: what is read, and what each wrong thing is called."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from aar_interface import Certificate, Fingerprint, InvalidCertificate, Role
from aar_interface.certificates import MAX_BYTES

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
END = datetime(2027, 1, 1, tzinfo=timezone.utc)
KEY = ec.generate_private_key(ec.SECP256R1())


def make(
    *extensions: x509.ExtensionType,
    name: str | None = "site",
    key: ec.EllipticCurvePrivateKey = KEY,
) -> x509.Certificate:
    attributes = [] if name is None else [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(x509.Name(attributes))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(END)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


MADE = make()
DER = der(MADE)
PEM = MADE.public_bytes(serialization.Encoding.PEM).decode()


def private_pem(kind: serialization.PrivateFormat) -> str:
    return KEY.private_bytes(
        serialization.Encoding.PEM, kind, serialization.NoEncryption()
    ).decode()


def short(value: bytes | str) -> str:
    """Keep keys and certificates, new in each run, out of the names of tests."""
    return value if isinstance(value, str) and len(value) < 60 else type(value).__name__


class TestFingerprint:
    def test_is_the_sha256_of_the_der(self) -> None:
        expected = hashlib.sha256(DER).hexdigest()
        assert str(Fingerprint.of(DER)) == expected
        assert Certificate.parse(PEM).fingerprint == Fingerprint(expected)
        assert Fingerprint.of(DER).short == expected[:12]

    def test_forms_that_tools_print(self) -> None:
        plain = hashlib.sha256(DER).hexdigest()
        colons = ":".join(plain[i : i + 2] for i in range(0, 64, 2)).upper()
        assert Fingerprint.parse(f" {colons}\n") == Fingerprint.parse(plain)

    @pytest.mark.parametrize(
        "text", ["", "ab", "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "\nb", "٣" * 64]
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            Fingerprint.parse(text)

    @pytest.mark.parametrize("text", ["A" * 64, "a" * 64 + "\n"])
    def test_only_the_canonical_form_is_held(self, text: str) -> None:
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            Fingerprint(text)

    def test_sorts_and_stands_in_sets(self) -> None:
        low, high = Fingerprint("0" * 64), Fingerprint("f" * 64)
        assert sorted({high, low, Fingerprint("0" * 64)}) == [low, high]


class TestParse:
    @pytest.mark.parametrize(
        "data",
        [
            PEM,
            PEM.encode(),
            DER,
            PEM.replace("\n", "\r\n"),
            PEM.strip(),
            f"Bag Attributes: none\n{PEM}trailing words\n",
        ],
        ids=short,
    )
    def test_forms_of_one_certificate(self, data: bytes | str) -> None:
        certificate = Certificate.parse(data)
        assert certificate == Certificate.from_der(DER)
        assert certificate.pem == PEM
        assert certificate.common_name == "site"
        assert (certificate.issued, certificate.expires) == (START, END)

    def test_round_trip_of_the_canonical_text(self) -> None:
        certificate = Certificate.parse(PEM)
        assert Certificate.parse(certificate.pem) == certificate
        assert hash(Certificate.parse(certificate.pem)) == hash(certificate)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ("", "is empty"),
            (" \n\t", "is empty"),
            ("hello", "not an X.509 certificate"),
            (b"\x30\x82\xff\xff", "not an X.509 certificate"),
            (DER[:-1], "not an X.509 certificate"),
            (DER + b"x", "not an X.509 certificate"),
            (PEM + PEM, "holds 2 certificates: give exactly one"),
            (PEM[:-10], "not an X.509 certificate"),
            ("x" * (MAX_BYTES + 1), "too large"),
            (
                "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
                "PEM text is damaged",
            ),
            (
                "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
                "not an X.509 certificate",
            ),
            (
                "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
                "is a PEM certificate request, not a certificate",
            ),
        ],
        ids=short,
    )
    def test_what_it_is_instead(self, data: bytes | str, message: str) -> None:
        with pytest.raises(InvalidCertificate, match=message):
            Certificate.parse(data)

    @pytest.mark.parametrize("kind", ["TraditionalOpenSSL", "PKCS8"])
    @pytest.mark.parametrize("before", ["", PEM], ids=short)
    def test_a_private_key_is_named_and_never_repeated(self, kind: str, before: str) -> None:
        secret = private_pem(getattr(serialization.PrivateFormat, kind))
        with pytest.raises(InvalidCertificate, match="holds a private key") as caught:
            Certificate.parse(before + secret)
        assert not any(line in str(caught.value) for line in secret.splitlines()[1:-1])

    @given(st.binary(max_size=200))
    def test_foreign_bytes_raise_only_invalid_certificate(self, data: bytes) -> None:
        with pytest.raises(InvalidCertificate):
            Certificate.parse(data)

    @given(st.integers(0, len(DER) - 1), st.integers(1, 255))
    def test_a_flipped_byte_is_another_certificate_or_none(self, at: int, flip: int) -> None:
        damaged = bytearray(DER)
        damaged[at] ^= flip
        text = base64.b64encode(damaged).decode()
        pem = f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
        try:
            certificate = Certificate.parse(pem)
        except InvalidCertificate:
            return
        assert certificate.fingerprint != Fingerprint.of(DER)


class TestContent:
    def test_same_key_means_same_key_hash_only(self) -> None:
        again = Certificate.from_der(der(make()))
        first = Certificate.from_der(DER)
        assert again.key_hash == first.key_hash
        assert again.fingerprint != first.fingerprint
        other = Certificate.from_der(der(make(key=ec.generate_private_key(ec.SECP256R1()))))
        assert other.key_hash != first.key_hash

    def test_other_kinds_of_key_are_read(self) -> None:
        key = ed25519.Ed25519PrivateKey.generate()
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(x509.Name([]))
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(START)
            .not_valid_after(END)
            .sign(key, None)
        )
        assert len(Certificate.from_der(der(made)).key_hash) == 64

    @pytest.mark.parametrize(
        ("name", "expected"), [(None, ""), ("Büro 1", "Büro 1"), ("a\x1b[31mb\n", "a?[31mb?")]
    )
    def test_common_name_is_safe_to_print(self, name: str | None, expected: str) -> None:
        assert Certificate.from_der(der(make(name=name))).common_name == expected

    def test_names(self) -> None:
        san = x509.SubjectAlternativeName(
            [
                x509.DNSName("registry.example"),
                x509.IPAddress(ipaddress.ip_address("10.0.0.1")),
                x509.IPAddress(ipaddress.ip_address("::1")),
            ]
        )
        names = Certificate.from_der(der(make(san))).names
        assert names == ("10.0.0.1", "::1", "registry.example")
        assert Certificate.from_der(DER).names == ()

    @pytest.mark.parametrize(
        ("usages", "usable"),
        [
            ([ExtendedKeyUsageOID.CLIENT_AUTH], True),
            ([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], True),
            ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], True),
            ([ExtendedKeyUsageOID.SERVER_AUTH], False),
            ([], True),
        ],
    )
    def test_extended_key_usage(self, usages: list[x509.ObjectIdentifier], usable: bool) -> None:
        extensions = [x509.ExtendedKeyUsage(usages)] if usages else []
        assert Certificate.from_der(der(make(*extensions))).client_usable is usable

    @pytest.mark.parametrize(
        ("now", "fault"),
        [
            (START - timedelta(seconds=1), "is not valid before 2026-01-01 00:00 UTC"),
            (START, None),
            (END, None),
            (END + timedelta(seconds=1), "expired on 2027-01-01 00:00 UTC"),
            (END.astimezone(timezone(timedelta(hours=9))), None),
        ],
    )
    def test_validity_includes_both_ends(self, now: datetime, fault: str | None) -> None:
        assert Certificate.from_der(DER).fault_at(now) == fault


def test_only_a_publisher_may_write() -> None:
    assert [role for role in Role if role.may_write] == [Role.PUBLISHER]
    assert [str(role) for role in Role] == ["client", "publisher"]
    with pytest.raises(ValueError, match="admin"):
        Role("admin")

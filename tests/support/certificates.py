"""Certificates for tests of rules, made in memory: on one key, out of date, of a server."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aar_interface import Certificate

NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a key."""
    return ec.generate_private_key(ec.SECP256R1())


def certify(
    key: ec.EllipticCurvePrivateKey | None = None,
    start: datetime = NOW - DAY,
    end: datetime = NOW + DAY,
    *,
    name: str = "site",
    server: bool = False,
) -> Certificate:
    """Make a self-signed certificate; `server`: its extended key usage excludes clients."""
    key = key or new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    if server:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(usage, critical=False)
    made = builder.sign(key, hashes.SHA256())
    return Certificate.from_der(made.public_bytes(serialization.Encoding.DER))

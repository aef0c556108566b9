"""Keys and certificates in files, as operators have them: for clients and servers, out of date."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aar_interface import Certificate

USAGES = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, each in a PEM file."""

    certificate: Certificate
    cert_path: Path
    key_path: Path

    @property
    def files(self) -> tuple[str, str]:
        """What `requests` takes as `cert`."""
        return str(self.cert_path), str(self.key_path)


def make(
    folder: Path,
    name: str,
    *,
    usage: Literal["client", "server"] | None = "client",
    starts: timedelta = timedelta(days=-1),
    ends: timedelta = timedelta(days=1),
) -> Pair:
    """Make a self-signed pair, valid from `starts` to `ends` counted from now.

    `usage` becomes the extended key usage; None leaves the extension out.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([USAGES[usage]]), critical=False)
    made = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    certificate = Certificate.from_der(made)
    folder.mkdir(parents=True, exist_ok=True)
    cert_path, key_path = folder / f"{name}.crt", folder / f"{name}.key"
    cert_path.write_text(certificate.pem)
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return Pair(certificate, cert_path, key_path)

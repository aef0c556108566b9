"""Certificates of servers and clients: ECDSA P-256, self-signed, as AMS makes them.

One server certificate for all servers, so that a handshake costs the same. `regkit.identity` makes
the few that services own; here are the many that clients show, without its locks and fsyncs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aar_interface import Certificate
from regkit.identity import Identity


@dataclass(frozen=True)
class Client:
    """A client: its certificate, and a PEM file with key and certificate for libcurl."""

    certificate: Certificate
    pair: Path

    @property
    def identity(self) -> Identity:
        """The same for `regkit.pinned`."""
        return Identity(self.certificate, self.pair, self.pair)


def make(folder: Path, name: str) -> Client:
    """Make a client."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate = Certificate.from_der(made.public_bytes(serialization.Encoding.DER))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pair = folder / f"{name}.pem"
    pair.write_bytes(private + certificate.pem.encode())
    pair.chmod(0o600)
    return Client(certificate, pair)

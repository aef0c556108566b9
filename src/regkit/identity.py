"""The certificate and key that a service or client is known by: made once, then used as they are.

Whoever trusts the identity pins its fingerprint, so a pair is never replaced here, not even when
it has expired: an operator renews it. Whether a certificate is trusted is `regkit.trust`'s
business, how it is presented `regkit.tls`'s and `regkit.pinned`'s.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aar_interface import Certificate, InvalidCertificate
from regkit.errors import Invalid, Unavailable

Usage = Literal["server", "client"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

VALID_FOR = timedelta(days=3650)
BACKDATED = timedelta(hours=1)
"""So that a peer whose clock is a little behind doesn't refuse a fresh certificate."""

_USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
_DNS_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_SIOCGIFADDR = 0x8915
"""linux/sockios.h: the IPv4 address of an interface."""
_IPV6_GLOBAL_SCOPE = "00"
"""Fourth column of /proc/net/if_inet6, net/ipv6.h: IPV6_ADDR_SCOPE_GLOBAL."""


@dataclass(frozen=True)
class Identity:
    """A certificate with its key, each in a PEM file."""

    certificate: Certificate
    cert_path: Path
    key_path: Path


def ensure(
    cert_path: Path, key_path: Path, common_name: str, names: Iterable[str], *, usage: Usage
) -> Identity:
    """Return the pair at these paths; make it (ECDSA P-256, self-signed) when it isn't there.

    `names` are the DNS names and addresses of the subject alternative name; `usage` becomes the
    extended key usage. A key without a certificate, as a crash between the two files leaves it,
    gets one. May be called by several processes at once. Raises Invalid for a pair that can't be
    used, Unavailable for files that can't be read or written.
    """
    try:
        for folder in (cert_path.parent, key_path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(key_path.parent):
            if cert_path.exists():
                return _load(cert_path, key_path)
            if key_path.exists():
                key = _read_key(key_path)
            else:
                key = ec.generate_private_key(ec.SECP256R1())
                _write(key_path, _key_pem(key))
            certificate = _issue(key, common_name, names, usage)
            _write(cert_path, certificate.pem.encode("ascii"))
            return Identity(certificate, cert_path, key_path)
    except OSError as error:
        raise Unavailable(
            f"{error.filename or key_path} can't be used ({error.strerror}): check its owner, "
            "its permissions and the free space"
        ) from error


def local_names() -> tuple[str, ...]:
    """Return the names and addresses of this machine, found without asking the network."""
    found = ["localhost", "127.0.0.1", "::1"]
    hostname = socket.gethostname()
    if _DNS_NAME.fullmatch(hostname):
        found.append(hostname)
    found += [*_ipv4_addresses(), *_ipv6_addresses()]
    return tuple(dict.fromkeys(found))


def _load(cert_path: Path, key_path: Path) -> Identity:
    try:
        certificate = Certificate.parse(cert_path.read_bytes())
    except InvalidCertificate as error:
        raise Invalid(f"{cert_path} can't be used: {error}") from error
    if not key_path.exists():
        raise Invalid(
            f"{cert_path} has no key: put it at {key_path}, or remove the certificate to have a "
            "new pair made"
        )
    public = _read_key(key_path).public_key()
    parsed = x509.load_der_x509_certificate(certificate.der).public_key()
    if _public_der(public) != _public_der(parsed):
        raise Invalid(
            f"{key_path} is not the key of {cert_path}: put the matching pair there, or remove "
            "both to have a new pair made"
        )
    return Identity(certificate, cert_path, key_path)


def _read_key(path: Path) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except TypeError as error:
        raise Invalid(
            f"{path} is encrypted with a passphrase: put the key there without one"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        # The fault's own text isn't repeated: it may quote the key.
        raise Invalid(f"{path} is not a private key in PEM form") from error
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise Invalid(f"{path} is neither an ECDSA nor an RSA key: give one of these")
    return key


def _issue(key: PrivateKey, common_name: str, names: Iterable[str], usage: Usage) -> Certificate:
    now = datetime.now(timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_USAGES[usage]]), critical=False)
    )
    if alternatives := [_general_name(name) for name in dict.fromkeys(names)]:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    signed = builder.sign(key, hashes.SHA256())
    return Certificate.from_der(signed.public_bytes(serialization.Encoding.DER))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not _DNS_NAME.fullmatch(name):
        raise Invalid(f"{name[:80]!r} is neither a DNS name nor an address")
    return x509.DNSName(name)


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _public_der(key: object) -> bytes | None:
    if not isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey)):
        return None
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from making the same pair; the kernel unlocks after a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    """Put a file there at once and durably, readable by its owner only. Needs the lock."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)  # left behind by a crash
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _ipv4_addresses() -> list[str]:
    addresses = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, interface in socket.if_nameindex():
            request = struct.pack("256s", interface.encode()[:15])
            with contextlib.suppress(OSError):  # an interface without an IPv4 address
                answer = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, request)
                addresses.append(socket.inet_ntoa(answer[20:24]))
    return addresses


def _ipv6_addresses() -> list[str]:
    try:
        lines = Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()
    except OSError:  # a machine without IPv6
        return []
    rows = [line.split() for line in lines]
    return [
        str(ipaddress.IPv6Address(bytes.fromhex(row[0])))
        for row in rows
        if len(row) == 6 and row[3] == _IPV6_GLOBAL_SCOPE
    ]

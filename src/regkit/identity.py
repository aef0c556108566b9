"""The certificate and key that a service or client is known by: made once, then used as they are.

Whoever trusts the identity pins its fingerprint, so a pair is never replaced by itself, not even
when it has expired: an operator does that, with `replace` or `renew`, which a crash can't leave
half done. Whether a certificate is trusted is `regkit.trust`'s
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
from regkit.errors import Invalid, NotFound, Unavailable

Usage = Literal["server", "client"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

VALID_FOR = timedelta(days=3650)
BACKDATED = timedelta(hours=1)
"""So that a peer whose clock is a little behind doesn't refuse a fresh certificate."""

_USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
MAX_PAIR_BYTES = 128 * 1024
"""More than any key and certificate take."""

_PEM_BLOCK = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]{1,40})-----\s.*?-----END \1-----[ \t]*\r?\n?", re.DOTALL
)
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
            _settle(cert_path, key_path)
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
        raise _unusable(error, key_path) from error


def load(cert_path: Path, key_path: Path) -> Identity:
    """Return the pair at these paths, and make nothing.

    Raises NotFound when there is none, Invalid for a pair that can't be used, Unavailable.
    """
    try:
        if not cert_path.exists():
            raise NotFound(f"there is no certificate at {cert_path} yet")
        return _load(cert_path, key_path)
    except OSError as error:
        raise _unusable(error, key_path) from error


def replace(cert_path: Path, key_path: Path, pair: bytes) -> tuple[Identity, bool]:
    """Put another pair there: PEM text with one private key and its certificate, in any order.

    Whether that changed anything is told too. A pair that is replaced is gone. A crash leaves
    either the former pair or this one. Raises Invalid, whose message never repeats the input, and
    changes nothing, for what is no such pair; Unavailable.
    """
    key, certificate = _split(pair)
    try:
        for folder in (cert_path.parent, key_path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(key_path.parent):
            _settle(cert_path, key_path)
            try:
                present = _load(cert_path, key_path) if cert_path.exists() else None
            except Invalid:  # which is what somebody means to mend
                present = None
            if present is not None and present.certificate == certificate:
                return present, False
            _write(_pending(key_path), _key_pem(key) + certificate.pem.encode("ascii"))
            _settle(cert_path, key_path)
            return _load(cert_path, key_path), True
    except OSError as error:
        raise _unusable(error, key_path) from error


def renew(
    cert_path: Path, key_path: Path, common_name: str, names: Iterable[str], *, usage: Usage
) -> Identity:
    """Put a new key and certificate there, as `ensure` makes them. Raises Invalid, Unavailable."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _issue(key, common_name, names, usage)
    pair = _key_pem(key) + certificate.pem.encode("ascii")
    return replace(cert_path, key_path, pair)[0]


def export(cert_path: Path, key_path: Path) -> bytes:
    """Return the pair at these paths as `replace` takes it: the key, then the certificate.

    Raises NotFound, Invalid, Unavailable.
    """
    found = load(cert_path, key_path)
    try:
        return _key_pem(_read_key(key_path)) + found.certificate.pem.encode("ascii")
    except OSError as error:
        raise _unusable(error, key_path) from error


def local_names() -> tuple[str, ...]:
    """Return the names and addresses of this machine, found without asking the network."""
    found = ["localhost", "127.0.0.1", "::1"]
    hostname = socket.gethostname()
    if _DNS_NAME.fullmatch(hostname):
        found.append(hostname)
    found += [*_ipv4_addresses(), *_ipv6_addresses()]
    return tuple(dict.fromkeys(found))


def _unusable(error: OSError, key_path: Path) -> Unavailable:
    return Unavailable(
        f"{error.filename or key_path} can't be used ({error.strerror}): check its owner, "
        "its permissions and the free space"
    )


def _pending(key_path: Path) -> Path:
    """Return the file that holds a pair on its way into its two files."""
    return key_path.with_name(f".{key_path.name}.pair")


def _settle(cert_path: Path, key_path: Path) -> None:
    """Bring a pair on its way into its files, also one that a crash has left. Needs the lock."""
    pending = _pending(key_path)
    try:
        pair = pending.read_bytes()
    except FileNotFoundError:
        return
    key, certificate = _split(pair)
    _write(key_path, _key_pem(key))
    _write(cert_path, certificate.pem.encode("ascii"))
    pending.unlink()


def _split(pair: bytes) -> tuple[PrivateKey, Certificate]:
    """Read a key and its certificate. Raises Invalid, which repeats nothing of either."""
    if len(pair) > MAX_PAIR_BYTES:
        raise Invalid(f"this is too large for a key and a certificate (over {MAX_PAIR_BYTES})")
    blocks = {"key": [], "certificate": []}
    for block in _PEM_BLOCK.finditer(pair):
        kind = "key" if block[1].endswith(b"PRIVATE KEY") else "certificate"
        if kind == "key" or block[1] == b"CERTIFICATE":
            blocks[kind].append(block[0])
    if len(blocks["key"]) != 1 or len(blocks["certificate"]) != 1:
        raise Invalid("give exactly one private key and its certificate, both in PEM")
    try:
        certificate = Certificate.parse(blocks["certificate"][0])
    except InvalidCertificate as error:
        raise Invalid(f"the certificate can't be used: {error}") from error
    key = _parse_key(blocks["key"][0], "the key")
    if not _belongs(key, certificate):
        raise Invalid("the key is not the certificate's: give the matching pair")
    return key, certificate


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
    if not _belongs(_read_key(key_path), certificate):
        raise Invalid(
            f"{key_path} is not the key of {cert_path}: put the matching pair there, or remove "
            "both to have a new pair made"
        )
    return Identity(certificate, cert_path, key_path)


def _belongs(key: PrivateKey, certificate: Certificate) -> bool:
    parsed = x509.load_der_x509_certificate(certificate.der).public_key()
    return _public_der(key.public_key()) == _public_der(parsed)


def _read_key(path: Path) -> PrivateKey:
    return _parse_key(path.read_bytes(), str(path))


def _parse_key(content: bytes, what: str) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError as error:
        raise Invalid(f"{what} is encrypted with a passphrase: give it without one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        # The fault's own text isn't repeated: it may quote the key.
        raise Invalid(f"{what} is not a private key in PEM form") from error
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise Invalid(f"{what} is neither an ECDSA nor an RSA key: give one of these")
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

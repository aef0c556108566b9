"""Certificates and their fingerprints, parsed from foreign bytes.

The identity of either side is the SHA-256 of its certificate's DER encoding, as in LXD
(`shared/tls/cert.go`) and Incus. Nothing here decides whether a certificate is trusted, and no
chain is ever verified: trust is a pinned fingerprint.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

MAX_BYTES = 64 * 1024
"""The largest certificate text that is looked at. Real ones take 1 to 4 KiB."""

_PEM_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_HEX_64 = re.compile(r"[0-9a-f]{64}")


class InvalidCertificate(ValueError):  # noqa: N818 - the name states the fault
    """The bytes are not one usable X.509 certificate; the message says what they are instead."""


@dataclass(frozen=True, order=True)
class Fingerprint:
    """The SHA-256 of a certificate's DER encoding.

    `str()` gives its 64 lower-case hexadecimal digits, the form of `registry.fingerprint`, of the
    databag and of `aar trust list --format json`.
    """

    hex: str

    def __post_init__(self) -> None:
        if not _HEX_64.fullmatch(self.hex):
            raise ValueError(f"{self.hex[:80]!r} is not a fingerprint: 64 hexadecimal digits")

    def __str__(self) -> str:
        return self.hex

    @classmethod
    def parse(cls, text: str) -> Fingerprint:
        """Read a fingerprint as tools print it: upper case and colons are accepted.

        Raises ValueError for anything else.
        """
        return cls(text.strip().replace(":", "").lower())

    @classmethod
    def of(cls, der: bytes) -> Fingerprint:
        """Compute the fingerprint of a certificate's DER encoding."""
        return cls(hashlib.sha256(der).hexdigest())

    @property
    def short(self) -> str:
        """The first 12 digits, for tables that people read."""
        return self.hex[:12]


@dataclass(frozen=True)
class Certificate:
    """One parsed X.509 certificate. Two are equal when their DER encodings are."""

    der: bytes
    _parsed: x509.Certificate = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: bytes | str) -> Certificate:
        """Read exactly one certificate from PEM text, or from DER bytes.

        Text around the PEM block is ignored, as OpenSSL does. Raises InvalidCertificate, whose
        message never repeats the input: it may be a private key.
        """
        raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
        if not raw.strip():
            raise InvalidCertificate("the certificate is empty")
        if len(raw) > MAX_BYTES:
            raise InvalidCertificate(
                f"this is too large for a certificate (over {MAX_BYTES} bytes)"
            )
        if b"PRIVATE KEY-----" in raw:
            raise InvalidCertificate(
                "this holds a private key, which must stay on its machine: give the certificate "
                "(the .crt file) instead"
            )
        blocks = list(_pem_blocks(raw))
        if not blocks:
            return cls.from_der(raw)
        certificates = [body for label, body in blocks if label == b"CERTIFICATE"]
        if not certificates:
            raise InvalidCertificate(
                f"this is a PEM {blocks[0][0].decode().lower()}, not a certificate"
            )
        if len(certificates) > 1:
            raise InvalidCertificate(
                f"this holds {len(certificates)} certificates: give exactly one"
            )
        try:
            der = base64.b64decode(b"".join(certificates[0].split()), validate=True)
        except binascii.Error:
            raise InvalidCertificate("the certificate's PEM text is damaged") from None
        return cls.from_der(der)

    @classmethod
    def from_der(cls, der: bytes) -> Certificate:
        """Read one certificate from its DER encoding, as a TLS handshake gives it.

        Raises InvalidCertificate.
        """
        try:
            with warnings.catch_warnings():
                # Odd serial numbers and the like are the issuer's business: we pin the whole.
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                parsed = x509.load_der_x509_certificate(der)
                parsed.public_key()
                _ = parsed.not_valid_before_utc, parsed.not_valid_after_utc
                _ = parsed.subject, parsed.extensions
        except Exception:  # cryptography raises many kinds for damaged ASN.1
            raise InvalidCertificate("this is not an X.509 certificate") from None
        return cls(der, parsed)

    @property
    def pem(self) -> str:
        """The canonical PEM text: one block, ending in a newline."""
        return self._parsed.public_bytes(serialization.Encoding.PEM).decode("ascii")

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The identity of whoever holds the certificate's key."""
        return Fingerprint.of(self.der)

    @cached_property
    def key_hash(self) -> str:
        """SHA-256, in hex, of the DER SubjectPublicKeyInfo.

        A certificate re-issued on the same key has another fingerprint but the same key hash.
        """
        key = self._parsed.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha256(key).hexdigest()

    @property
    def common_name(self) -> str:
        """The subject's common name, with control characters replaced; may be empty."""
        names = self._parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        text = str(names[0].value) if names else ""
        return "".join(c if c.isprintable() else "?" for c in text)[:255]

    @property
    def issued(self) -> datetime:
        """Start of validity, aware, UTC."""
        return self._parsed.not_valid_before_utc

    @property
    def expires(self) -> datetime:
        """End of validity, aware, UTC."""
        return self._parsed.not_valid_after_utc

    @property
    def names(self) -> tuple[str, ...]:
        """DNS names and IP addresses of the subject alternative name, sorted."""
        try:
            san = self._parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            return ()
        dns = san.value.get_values_for_type(x509.DNSName)
        ips = [str(ip) for ip in san.value.get_values_for_type(x509.IPAddress)]
        return tuple(sorted([*dns, *ips]))

    @property
    def client_usable(self) -> bool:
        """Whether the certificate may stand for a client (RFC 5280, section 4.2.1.12).

        Only an extended key usage that leaves out clientAuth forbids it, so a server's
        certificate that was imported for pinning opens no door when its key is stolen.
        """
        try:
            usage = self._parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            return True
        allowed = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
        return any(oid in usage for oid in allowed)

    def fault_at(self, now: datetime) -> str | None:
        """Say why the certificate can't be used at `now` (aware), or None when it can."""
        if now < self.issued:
            return f"is not valid before {self.issued:%Y-%m-%d %H:%M} UTC"
        if now > self.expires:
            return f"expired on {self.expires:%Y-%m-%d %H:%M} UTC"
        return None


def _pem_blocks(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give label and body of each PEM block, in time that grows with the text alone.

    A regular expression over whole blocks would take hours for a text of dashes and spaces.
    """
    missing: set[bytes] = set()
    position = 0
    while (begin := _PEM_BEGIN.search(raw, position)) is not None:
        label, position = begin[1], begin.end()
        if label in missing:
            continue
        end = raw.find(b"-----END " + label + b"-----", position)
        if end < 0:
            missing.add(label)
            continue
        yield label, raw[position:end]
        position = end

"""What either side of an `aar` relation says in its unit databag: one schema to read and to write.

Both databags are flat maps of strings. Reading takes what the reference's charms wrote (values in
JSON quotes, PEM text with literal `\\n`) and treats the other side as hostile: a field that is
missing is normal, since data comes when it comes, and one that can't be used raises. Nothing here
knows of Juju, and nothing decides about trust: `aar_interface.relation` does both.

`interface/v1/README.md` beside this module specifies the fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from aar_interface.addresses import Address
from aar_interface.certificates import MAX_BYTES, Certificate, InvalidCertificate
from aar_interface.roles import Role

MAX_TEXT = 2048
"""The longest value, in characters, that is looked at, but for `certificate` (MAX_BYTES)."""

HTTPS_PORT = 443
"""The port of a URL that names none (RFC 9110, section 4.2.2)."""

PROVIDER_FIELDS = ("certificate", "fingerprint", "ip", "port", "role", "url")
REQUIRER_FIELDS = ("architecture", "certificate", "mode")
"""The keys that this version of the interface knows, sorted. Others are ignored."""

_ARCHITECTURE = re.compile(r"[a-z0-9]{1,32}")
_PORT = re.compile(r"[0-9]{1,5}")
_URL = re.compile(r"https://([^/\s]+)/?", re.IGNORECASE)


class InvalidDatabag(ValueError):  # noqa: N818 - the name states the fault
    """A field is there but can't be used; the message begins with its name and a colon."""


@dataclass(frozen=True)
class ProviderData:
    """What a unit of the registry publishes: who it is and where it answers.

    `ip` is an IP address without brackets, or a host name; `url` is `https://host:port`. Either
    is "" and the others are None while the unit hasn't said. `role` is that of the provider's own
    endpoint and serves to notice a wrong pair only: no right follows from it.
    """

    certificate: Certificate | None = None
    ip: str = ""
    port: int | None = None
    url: str = ""
    role: Role | None = None

    @classmethod
    def at(cls, certificate: Certificate, host: str, port: int, role: Role) -> ProviderData:
        """Say that the registry with `certificate` answers at `host` (address or name), `port`.

        A `host` that isn't known yet is "": then there is no URL. Raises InvalidDatabag for a host
        or port that no client could use.
        """
        number = _port("port", str(port))
        if not host:
            return cls(certificate, "", number, "", role)
        name = _host("ip", host)
        return cls(certificate, name, number, Address(name, number).url(HTTPS_PORT), role)

    @classmethod
    def read(cls, bag: Mapping[str, str]) -> ProviderData:
        """Parse a provider's unit databag; the fingerprint in it is never looked at.

        Raises InvalidDatabag for the first field, in the order of the attributes, that is there
        but can't be used.
        """
        return cls(
            certificate=_certificate(bag),
            ip=_host("ip", text) if (text := _text(bag, "ip")) else "",
            port=_port("port", text) if (text := _text(bag, "port")) else None,
            url=_url("url", text) if (text := _text(bag, "url")) else "",
            role=_role(bag, "role"),
        )

    def write(self) -> dict[str, str]:
        """Give the databag, keys sorted, without the fields that have no value."""
        return _present(
            certificate=self.certificate.pem if self.certificate else "",
            fingerprint=str(self.certificate.fingerprint) if self.certificate else "",
            ip=self.ip,
            port="" if self.port is None else str(self.port),
            role=str(self.role or ""),
            url=self.url,
        )

    @property
    def endpoint(self) -> str | None:
        """Where the unit answers: its `url`, else what `ip` and `port` make; None if neither."""
        if self.url:
            return self.url
        if self.ip and self.port is not None:
            return Address(self.ip, self.port).url(HTTPS_PORT)
        return None


@dataclass(frozen=True)
class RequirerData:
    """What a unit of the management service publishes: who it is and what it wants to do.

    `mode` is the role that its own endpoint stands for and serves to notice a wrong pair only: the
    registry takes the role from its own endpoint. `architecture` is Debian's name (amd64), or "".
    """

    certificate: Certificate | None = None
    mode: Role | None = None
    architecture: str = ""

    @classmethod
    def of(cls, certificate: Certificate, mode: Role, architecture: str) -> RequirerData:
        """Say who is asking, from which endpoint, on which architecture ("" says nothing of it).

        Raises InvalidDatabag for what is no architecture.
        """
        return cls(certificate, mode, _architecture(architecture))

    @classmethod
    def read(cls, bag: Mapping[str, str]) -> RequirerData:
        """Parse a requirer's unit databag.

        Raises InvalidDatabag for the first field, in the order of the attributes, that is there
        but can't be used. That holds for `mode` and `architecture` too: taken as missing, either
        would get the unit more than it asked for.
        """
        return cls(
            certificate=_certificate(bag),
            mode=_role(bag, "mode"),
            architecture=_architecture(_text(bag, "architecture")),
        )

    def write(self) -> dict[str, str]:
        """Give the databag, keys sorted, without the fields that have no value."""
        return _present(
            architecture=self.architecture,
            certificate=self.certificate.pem if self.certificate else "",
            mode=str(self.mode or ""),
        )


def _present(**fields: str) -> dict[str, str]:
    return {name: value for name, value in sorted(fields.items()) if value}


def _text(bag: Mapping[str, str], field: str, limit: int = MAX_TEXT) -> str:
    """Give the field's text out of the JSON quotes that it may stand in; "" when missing."""
    text = bag.get(field, "")
    if len(text) > limit:
        raise InvalidDatabag(f"{field}: over {limit} characters")
    text = text.strip()
    if text == "null":
        return ""
    if text.startswith('"'):
        try:
            # Not strict: the quotes of the reference may hold real line ends.
            text = str(json.loads(text, strict=False)).strip()
        except ValueError:
            raise InvalidDatabag(f"{field}: opens with a quote, but is no JSON text") from None
    return text


def _certificate(bag: Mapping[str, str]) -> Certificate | None:
    text = _text(bag, "certificate", MAX_BYTES)
    if not text:
        return None
    try:
        return Certificate.parse(text.replace("\\r", "").replace("\\n", "\n"))
    except InvalidCertificate as error:
        raise InvalidDatabag(f"certificate: {error}") from None


def _role(bag: Mapping[str, str], field: str) -> Role | None:
    text = _text(bag, field)
    if not text:
        return None
    try:
        return Role(text)
    except ValueError:
        known = " or ".join(Role)
        raise InvalidDatabag(f"{field}: {_shown(text)} is not {known}") from None


def _architecture(text: str) -> str:
    if text and not _ARCHITECTURE.fullmatch(text):
        raise InvalidDatabag(f"architecture: {_shown(text)} is not one, such as amd64 or arm64")
    return text


def _port(field: str, text: str) -> int:
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise InvalidDatabag(f"{field}: {_shown(text)} is not a port from 1 to 65535")
    return int(text)


def _host(field: str, text: str) -> str:
    """Check a host and give its canonical form: lower case, IPv6 compressed and bare."""
    try:
        address = Address.parse(text)
    except ValueError:
        address = None
    if address is None or address.port is not None:
        raise InvalidDatabag(f"{field}: {_shown(text)} is not an IP address or a host name")
    return address.host.lower()


def _url(field: str, text: str) -> str:
    """Check a URL and give its canonical form, `https://host:port`.

    Nothing but a host and a port may stand in it: a comma would make two of it in `registry.url`.
    """
    parts = _URL.fullmatch(text)
    try:
        address = Address.parse(parts[1]) if parts else None
    except ValueError:
        address = None
    bare = address is not None and ":" in address.host and text[len("https://")] != "["
    if address is None or bare:
        raise InvalidDatabag(
            f"{field}: {_shown(text)} is not a registry's URL, such as https://192.168.178.45:3000"
        )
    return Address(address.host.lower(), address.port).url(HTTPS_PORT)


def _shown(text: str) -> str:
    """Quote foreign text for a message of one line: short, and control characters escaped."""
    return ascii(text[:80])

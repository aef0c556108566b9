"""The engines that several units share, as values, and reading them from what providers say.

No I/O and no Juju: `relations` finds the databags. What a provider says is somebody else's text:
it is parsed as a whole or not used, and no message repeats a secret.

The databags are those of the interfaces `postgresql_client`
(data-platform-libs, `data_interfaces`) and `s3` (s3-integrator), at
https://github.com/canonical/charm-relation-interfaces.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yaml

from aar_interface import Certificate, InvalidCertificate
from aar_interface.addresses import Address

DATABASE, OBJECT_STORAGE = "database", "object-storage"
"""The endpoints, in the words of both charms."""
POSTGRESQL_PORT = 5432

DATABASE_SECRETS = {"secret-user": ("username", "password"), "secret-tls": ("tls", "tls-ca")}
STORAGE_SECRETS = {"secret-extra": ("access-key", "secret-key")}
"""Fields that hold the URI of a secret, and what of that is used (data_interfaces, s3)."""

MAX_TEXT = 4096
MAX_AUTHORITIES = 64 * 1024

_HOST_STYLES = {"host": "virtual", "virtual": "virtual", "path": "path", "auto": "auto", "": ""}
"""`s3-uri-style` of the interface, in the words of the registry's settings."""


class Store(str, enum.Enum):
    """What a unit's service keeps its state in. The values are told to other units."""

    EMPTY = "empty"
    """Its own files, or none yet, with nothing in them that would be missed."""
    OWN = "own"
    """Its own files, with something in them."""
    SHARED = "shared"


class Unusable(ValueError):  # noqa: N818 - the name states the fault
    """A provider said something that can't be used; the message begins with the field's name."""


@dataclass(frozen=True)
class Database:
    """A database of PostgreSQL, and who may use it."""

    places: tuple[Address, ...]
    name: str
    username: str = field(repr=False)
    password: str = field(repr=False)
    tls: bool = False
    authority: str = ""
    """PEM of the authority that signed the server's certificate, if it said."""

    @classmethod
    def read(cls, bag: Mapping[str, str]) -> Database | None:
        """Read what the provider says, secrets among it; None: not all of it yet.

        Raises Unusable.
        """
        wanted = ("endpoints", "username", "password", "database")
        texts = {name: _text(bag, name) for name in wanted}
        if not all(texts.values()):
            return None
        return cls(
            places=_places(texts["endpoints"]),
            name=texts["database"],
            username=texts["username"],
            password=texts["password"],
            tls=_text(bag, "tls").lower() in ("true", "enabled", "1"),
            authority=_authorities("tls-ca", bag.get("tls-ca", "")),
        )

    def url(self, folder: Path) -> str:
        """Return `database.url`; the authority's file is expected in `folder`."""
        places = ",".join(_place(each) for each in self.places)
        who = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        wanted = {"connect_timeout": "5"}
        if len(self.places) > 1:
            wanted["target_session_attrs"] = "read-write"
        if self.authority:
            # Not verify-full: units are reached by addresses, which certificates needn't name.
            wanted |= {"sslmode": "verify-ca", "sslrootcert": str(folder / file(self.authority))}
        elif self.tls:
            wanted["sslmode"] = "require"
        query = "&".join(f"{key}={quote(value, safe='/')}" for key, value in wanted.items())
        return f"postgresql://{who}@{places}/{quote(self.name, safe='')}?{query}"


@dataclass(frozen=True)
class ObjectStorage:
    """A bucket, and who may use it."""

    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    endpoint: str = ""
    region: str = ""
    prefix: str = ""
    style: str = ""
    authority: str = ""

    @classmethod
    def read(cls, bag: Mapping[str, str]) -> ObjectStorage | None:
        """Read what the provider says, secrets among it; None: not all of it yet.

        Raises Unusable.
        """
        texts = {name: _text(bag, name) for name in ("access-key", "secret-key", "bucket")}
        if not all(texts.values()):
            return None
        style = _text(bag, "s3-uri-style").lower()
        if style not in _HOST_STYLES:
            raise Unusable("s3-uri-style: neither host nor path")
        return cls(
            bucket=texts["bucket"],
            access_key=texts["access-key"],
            secret_key=texts["secret-key"],
            endpoint=_endpoint(_text(bag, "endpoint")),
            region=_text(bag, "region"),
            prefix=_text(bag, "path").strip("/"),
            style=_HOST_STYLES[style],
            authority=_chain("tls-ca-chain", bag.get("tls-ca-chain", "")),
        )

    def settings(self, folder: Path, *, redirects: bool) -> dict[str, Any]:
        """Return `storage.s3`; the authority's file is expected in `folder`.

        `redirects`: the service can redirect downloads, which it does only where every client can
        check whom it is sent to.
        """
        found: dict[str, Any] = {
            "bucket": self.bucket,
            "access-key": self.access_key,
            "secret-access-key": self.secret_key,
        }
        optional = {
            "endpoint": self.endpoint,
            "region": self.region,
            "prefix": self.prefix,
            "addressing-style": self.style,
        }
        found |= {name: value for name, value in optional.items() if value}
        if self.authority:
            found["ca-file"] = str(folder / file(self.authority))
        if redirects and (self.authority or self.endpoint.startswith("http://")):
            found["redirect"] = False
        return found


@dataclass(frozen=True)
class Engines:
    """Both of what units share."""

    database: Database
    storage: ObjectStorage

    @property
    def files(self) -> dict[str, str]:
        """The authorities' files, by name: to be put beside the settings."""
        authorities = (self.database.authority, self.storage.authority)
        return {file(authority): authority for authority in authorities if authority}

    def below(self, name: str) -> Engines:
        """Return the same, with objects below another prefix, so that others may use the bucket.

        Each service takes what it doesn't know below its prefix for garbage.
        """
        prefix = f"{self.storage.prefix}/{name}".strip("/")
        return replace(self, storage=replace(self.storage, prefix=prefix))

    def settings(self, folder: Path, *, redirects: bool) -> dict[str, Any]:
        """Return the sections `database` and `storage` of a service's `conf/main.yaml`."""
        return {
            "database": {"url": self.database.url(folder)},
            "storage": {"s3": self.storage.settings(folder, redirects=redirects)},
        }


def lacking(related: Collection[str]) -> str:
    """Say what is missing where only one of both is related."""
    (there,) = related
    other = OBJECT_STORAGE if there == DATABASE else DATABASE
    return f"{there} is related and {other} isn't: integrate {other} too"


def names_a_server(configuration: str) -> bool:
    """Say whether a `conf/main.yaml` names a database that other units use too."""
    try:
        settings = yaml.safe_load(configuration)
    except yaml.YAMLError:
        return False
    section = settings.get("database") if isinstance(settings, dict) else None
    url = section.get("url") if isinstance(section, dict) else None
    return isinstance(url, str) and url.startswith("postgresql")


def file(authority: str) -> str:
    """Return the name of an authority's file: another one for other content."""
    return f"ca-{hashlib.sha256(authority.encode()).hexdigest()[:12]}.pem"


def _text(bag: Mapping[str, str], name: str) -> str:
    text = bag.get(name, "")
    if len(text) > MAX_TEXT:
        raise Unusable(f"{name}: over {MAX_TEXT} characters")
    if not text.strip().isprintable():
        raise Unusable(f"{name}: holds characters that can't be printed")
    return text.strip()


def _places(text: str) -> tuple[Address, ...]:
    try:
        found = [Address.parse(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise Unusable(f"endpoints: {error}") from None
    if not found:
        raise Unusable("endpoints: names no host")
    return tuple(dict.fromkeys(found))


def _place(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port or POSTGRESQL_PORT}"


def _endpoint(text: str) -> str:
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        usable = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise Unusable("endpoint: not a URL such as https://s3.example.com")
    return text.rstrip("/")


def _chain(name: str, text: str) -> str:
    """Read certificates as JSON gives them, a list of PEM texts, or as PEM text."""
    if text.lstrip().startswith("["):
        if len(text) > MAX_AUTHORITIES:
            raise Unusable(f"{name}: over {MAX_AUTHORITIES} characters")
        try:
            parts = json.loads(text)
        except (ValueError, RecursionError):
            raise Unusable(f"{name}: opens like a list, but is no JSON") from None
        if not all(isinstance(part, str) for part in parts):
            raise Unusable(f"{name}: a list of something else than texts")
        text = "\n".join(parts)
    return _authorities(name, text)


def _authorities(name: str, text: str) -> str:
    """Return the certificates in a PEM text, each checked, in one form."""
    if len(text) > MAX_AUTHORITIES:
        raise Unusable(f"{name}: over {MAX_AUTHORITIES} characters")
    if not text.strip():
        return ""
    blocks = re.findall(
        r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.DOTALL
    )
    try:
        found = [Certificate.parse(block).pem for block in blocks]
    except InvalidCertificate as error:
        raise Unusable(f"{name}: {error}") from None
    if not found:
        raise Unusable(f"{name}: holds no certificate in PEM")
    return "".join(dict.fromkeys(found))

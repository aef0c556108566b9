"""The one table of options that `amc config` shows and sets, and their values.

It drives parsing, defaults, REST and the reference page. `conf/main.yaml` (see `ams.settings`) is
something else: what a process must know before it can open its database. What an option does is
up to the part that reads it.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import hmac
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from ams import schema
from regkit import durations, logs
from regkit.database import Database
from regkit.errors import Invalid, NotFound
from regkit.settings import Address
from regkit.trust import TrustStore

log = logs.get("ams.options")

MODES = ("pull", "push", "manual")
MIN_INTERVAL = timedelta(seconds=1)
MAX_URLS = 16
MAX_TEXT = 4096
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}
"""Cost of hashing the trust password: 16 MiB and some 50 ms (RFC 7914)."""


@dataclass(frozen=True)
class Option:
    """One option: how its text is read, and what it is for.

    `parse` turns text into the typed value or raises ValueError; `render` gives the canonical
    text that is stored, and that `parse` reads back to the same value. The default is a text too.
    """

    name: str
    parse: Callable[[str], Any]
    render: Callable[[Any], str]
    default: str
    description: str
    secret: bool = False


def _urls(text: str) -> tuple[str, ...]:
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    urls = dict.fromkeys(_url(part) for part in parts)
    if len(urls) > MAX_URLS:
        raise ValueError(f"at most {MAX_URLS} URLs")
    return tuple(urls)


def _url(text: str) -> str:
    wanted = f"{text[:200]!r} is not a registry's URL: write it like https://192.168.178.45:3000"
    try:
        parts = urlsplit(text)
        port = 443 if parts.port is None else parts.port
        host = parts.hostname or ""
        address = Address.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except ValueError:
        raise ValueError(wanted) from None
    if not host or port == 0 or "@" in parts.netloc or not text.isprintable():
        raise ValueError(wanted)
    if parts.scheme.lower() != "https":
        raise ValueError(f"{wanted} (only https is allowed)")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{wanted} (no path, query or fragment)")
    return f"https://{address}" if parts.port is not None else f"https://{address}"[: -len(":443")]


def _tags(text: str) -> tuple[str, ...]:
    tags = dict.fromkeys(part.strip() for part in text.split(",") if part.strip())
    for tag in tags:
        if not tag.isprintable() or len(tag) > 255:
            raise ValueError(f"{tag[:80]!r} is not a tag")
    return tuple(sorted(tags))


def _mode(text: str) -> str:
    if text not in MODES:
        raise ValueError(f"{text[:80]!r} is not a mode: use one of {', '.join(MODES)}")
    return text


def _interval(text: str) -> timedelta:
    interval = durations.parse(text)
    if interval < MIN_INTERVAL:
        raise ValueError(f"{text[:40]!r} is too short: use 1s or more")
    return interval


def _bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"{text[:80]!r} is neither true nor false")


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) or int(text) < 1:
        raise ValueError(f"{text[:80]!r} is not a number from 1 to 999999")
    return int(text)


def _fingerprint(text: str) -> str:
    if text and not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError(f"{text[:80]!r} is not a fingerprint: 64 hexadecimal digits")
    return text


def _render_bool(value: bool) -> str:
    return "true" if value else "false"


def _join(value: tuple[str, ...]) -> str:
    return ",".join(value)


OPTIONS: dict[str, Option] = {
    option.name: option
    for option in (
        Option(
            "registry.url",
            _urls,
            _join,
            "",
            "Where the registry is: one https URL, or several that reach the same registry, "
            "separated by commas.",
        ),
        Option(
            "registry.fingerprint",
            _fingerprint,
            str,
            "",
            "SHA-256 fingerprint of the registry's certificate, or an unambiguous prefix of it. "
            "The certificate must be in the trust store (`amc config trust add`).",
        ),
        Option(
            "registry.mode",
            _mode,
            str,
            "pull",
            "What to do with the registry: `pull` its applications, `push` the published local "
            "ones, or `manual`: nothing by itself.",
        ),
        Option(
            "registry.update_interval",
            _interval,
            durations.render,
            "1h",
            "How often to look for changes, at the latest, such as 30s, 5m or 1h30m; at least 1s.",
        ),
        Option(
            "registry.filter",
            _tags,
            _join,
            "",
            "Comma-separated tags: only applications that have one of them are pulled. "
            "Empty: all.",
        ),
        Option(
            "application.auto_publish",
            _bool,
            _render_bool,
            "true",
            "Publish every new version of a local application at once.",
        ),
        Option(
            "application.auto_update",
            _bool,
            _render_bool,
            "true",
            "Whether applications follow a newer image when there is one.",
        ),
        Option(
            "application.max_published_versions",
            _count,
            str,
            "3",
            "How many versions of an application may be published at a time; the oldest are "
            "revoked when there are more.",
        ),
        Option(
            "core.trust_password",
            str,
            str,
            "",
            "Password with which a new client may register itself. Only whether it is set is "
            "shown.",
            secret=True,
        ),
    )
}
"""Every option, in the order in which they are shown."""


Listener = Callable[[str], None]
"""Called with the name of an option that has changed."""


class Options:
    """The options' values: typed values out, text in.

    Reading costs microseconds: values are kept until the database changes, whoever changed it.
    """

    def __init__(self, database: Database, trust: TrustStore | None = None) -> None:
        self._database = database
        self._trust = trust or TrustStore(database, schema.trust)
        self._lock = threading.Lock()
        self._version: int | None = None
        self._texts: dict[str, str] = {}
        self._announced: dict[str, str] | None = None
        self._listeners: list[Listener] = []

    def get(self, name: str) -> Any:
        """Return the typed value of `name`; the contract per option:

        `registry.url`, `registry.filter` tuple[str, ...]; `registry.fingerprint` 64 hex digits or
        ""; `registry.mode` str; `registry.update_interval` timedelta; `application.auto_*` bool;
        `application.max_published_versions` int; `core.trust_password` bool: whether it is set.
        Raises Invalid for an unknown name.
        """
        option = _option(name)
        text = self._read().get(name, option.default)
        return bool(text) if option.secret else option.parse(text)

    def show(self) -> dict[str, str | bool | int]:
        """Return every option in table order: booleans and numbers as such, the rest as text."""
        shown: dict[str, str | bool | int] = {}
        for name, option in OPTIONS.items():
            value = self.get(name)
            shown[name] = value if isinstance(value, bool | int) else option.render(value)
        return shown

    def set(self, name: str, text: str) -> None:
        """Set `name` from `text`, or restore its default with an empty text.

        Raises Invalid that names the option and what it wants; nothing is changed then.
        Listeners are called after the change is stored, and not at all when nothing changed.
        """
        option = _option(name)
        if len(text) > MAX_TEXT:
            raise Invalid(f"{name}: the value is too long (over {MAX_TEXT} characters)")
        stored = self._canonical(option, text)
        table = schema.option
        with self._database.write() as connection:
            connection.execute(table.delete().where(table.c.name == name))
            if stored != option.default:
                connection.execute(table.insert().values(name=name, value=stored))
        log.info("option-set", name=name, value="(hidden)" if option.secret else stored)
        self.poll()

    def listen(self, callback: Listener) -> None:
        """Call `callback` with the name of each option that changes from now on."""
        with self._lock:
            self._listeners.append(callback)
        if self._announced is None:
            self._announced = self._read()

    def poll(self) -> None:
        """Notice what another process has set, and tell the listeners. Cheap when nothing has."""
        texts = self._read()
        with self._lock:
            before = texts if self._announced is None else self._announced
            self._announced = texts
            listeners = list(self._listeners)
        changed = [name for name in OPTIONS if texts.get(name) != before.get(name)]
        for name in changed:
            for listener in listeners:
                listener(name)

    def check_password(self, password: str) -> bool:
        """Say whether `password` is the trust password; never, while none is set."""
        stored = self._read().get("core.trust_password", "")
        if not stored:
            return False
        _, salt, wanted = stored.split("$")
        given = _scrypt(password, base64.b64decode(salt))
        return hmac.compare_digest(given, base64.b64decode(wanted))

    def _canonical(self, option: Option, text: str) -> str:
        if option.secret:
            return _hashed(text) if text else ""
        stripped = text.strip()
        if not stripped:
            return option.default
        try:
            if option.name == "registry.fingerprint":
                return self._trusted_fingerprint(stripped)
            return option.render(option.parse(stripped))
        except ValueError as error:
            raise Invalid(f"{option.name}: {error}") from None

    def _trusted_fingerprint(self, text: str) -> str:
        try:
            entry = self._trust.find(text)
        except Invalid as error:
            raise ValueError(str(error)) from None
        except NotFound:
            raise Invalid(
                f"registry.fingerprint: no trusted certificate has the fingerprint {text[:80]}: "
                "import the registry's certificate with 'amc config trust add' first"
            ) from None
        if entry.revoked:
            raise Invalid(f"registry.fingerprint: {entry.fingerprint.short} was revoked")
        return str(entry.fingerprint)

    def _read(self) -> dict[str, str]:
        # The version first: a commit in between then only makes the next call read again.
        version = self._database.version()
        with self._lock:
            if version == self._version:
                return self._texts
        with self._database.read() as connection:
            rows = connection.execute(sa.select(schema.option)).all()
        texts = {row.name: row.value for row in rows if row.name in OPTIONS}
        with self._lock:
            self._version, self._texts = version, texts
        return texts


def _option(name: str) -> Option:
    if option := OPTIONS.get(name):
        return option
    close = difflib.get_close_matches(name[:80], OPTIONS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "'amc config show' lists them all"
    raise Invalid(f"{name[:80]!r} is not an option: {hint}")


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_SCRYPT)


def _hashed(password: str) -> str:
    salt = os.urandom(16)
    encoded = (base64.b64encode(part).decode() for part in (salt, _scrypt(password, salt)))
    return "$".join(("scrypt", *encoded))

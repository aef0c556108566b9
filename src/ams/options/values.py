"""`Options`: the options' values, whoever set them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from aar_interface import Certificate, Role
from ams import schema
from ams.options import managed
from ams.options.managed import Applied, Managed
from ams.options.password import hashed, matches
from ams.options.table import OPTIONS, Option, option
from regkit import logs
from regkit.database import Database
from regkit.errors import Invalid, NotFound
from regkit.trust import MANUAL, TrustStore, Wanted, check_owner

log = logs.get("ams.options")

DEFAULT = "default"
"""The origin of a value that nobody has set; of one set by hand it is MANUAL, else its owner."""
MAX_TEXT = 4096

Listener = Callable[[str], None]
"""Called with the name of an option that has changed."""


@dataclass(frozen=True)
class _Stored:
    """The options that aren't at their default: their texts, and where those are from."""

    texts: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        return self.texts.get(name, OPTIONS[name].default)


class Options:
    """The options' values: typed values out, text in.

    Reading costs microseconds: values are kept until the database changes, whoever changed it.
    """

    def __init__(self, database: Database, trust: TrustStore | None = None) -> None:
        self._database = database
        self._trust = trust or TrustStore(database, schema.trust)
        self._lock = threading.Lock()
        self._version: int | None = None
        self._stored = _Stored()
        self._announced: _Stored | None = None
        self._listeners: list[Listener] = []

    def get(self, name: str) -> Any:
        """Return the typed value of `name`; the contract per option:

        `registry.url`, `registry.filter` tuple[str, ...]; `registry.fingerprint` 64 hex digits or
        ""; `registry.mode` str; `registry.update_interval`,
        `registry.spread` timedelta; `application.auto_*` bool;
        `application.max_published_versions` int; `core.trust_password` bool: whether it is set.
        Raises Invalid for an unknown name.
        """
        found = option(name)
        text = self._read().text(name)
        return bool(text) if found.secret else found.parse(text)

    def show(self) -> dict[str, str | bool | int]:
        """Return every option in table order: booleans and numbers as such, the rest as text."""
        shown: dict[str, str | bool | int] = {}
        for name, found in OPTIONS.items():
            value = self.get(name)
            shown[name] = value if isinstance(value, bool | int) else found.render(value)
        return shown

    def origins(self) -> dict[str, str]:
        """Return for every option who set it: DEFAULT, MANUAL, or the name of its owner."""
        stored = self._read()
        return {name: stored.origins.get(name, DEFAULT) for name in OPTIONS}

    def set(self, name: str, text: str) -> None:
        """Set `name` from `text` by hand, or restore its default with an empty text.

        Raises Invalid that names the option and what it wants, and Conflict for an option that an
        owner manages; nothing is changed then. Listeners are called after the change is stored,
        and not at all when nothing changed.
        """
        found = option(name)
        stored = hashed(_sized(name, text)) if found.secret and text else None
        table = schema.option
        with self._database.write() as connection:
            managed.require_free(connection, name)
            if stored is None:
                stored = self._canonical(connection, found, text)
            connection.execute(table.delete().where(table.c.name == name))
            if stored != found.default:
                connection.execute(table.insert().values(name=name, value=stored))
        log.info("option-set", name=name, value="(hidden)" if found.secret else stored)
        self.poll()

    def apply(self, owner: str, wanted: Managed, now: datetime | None = None) -> Applied:
        """Make what `owner` manages exactly what is `wanted`: its options, and its certificates.

        The certificates become rows of the trust store whose origin is `owner`; rows of others
        stay as they are. An empty text manages an option as its default. All in one transaction,
        which writes nothing when nothing is new. Listeners are called as by `set`.

        Raises Invalid with every fault (an option, a value, a certificate that can't be trusted,
        an owner's name), and Conflict for an option that another owner manages; nothing is changed
        then.
        """
        _check_owner(owner)
        secrets = self._hashed_secrets(owner, wanted.config)
        with self._database.write() as connection:
            # Trust first: registry.fingerprint may name one of these certificates.
            certificates = self._trust.apply(
                owner,
                [Wanted(certificate, Role.CLIENT) for certificate in wanted.certificates],
                now,
                connection=connection,
            )
            faults = [refusal.message for refusal in certificates.refused]
            texts: dict[str, str] = {}
            for name, text in wanted.config.items():
                try:
                    texts[name] = secrets.get(name) or self._canonical(
                        connection, option(name), text
                    )
                except Invalid as error:
                    faults.append(str(error))
            if faults:
                raise Invalid("; ".join(faults))
            changed = managed.replace(connection, owner, texts)
        names = tuple(name for name in OPTIONS if name in changed)
        if names or certificates.added or certificates.removed:
            log.info(
                "options-applied",
                owner=owner,
                options=",".join(names),
                trusted=len(certificates.added),
                removed=len(certificates.removed),
            )
        self.poll()
        return Applied(names, certificates)

    def managed_by(self, owner: str) -> Managed:
        """Return what `owner` manages, in canonical texts; of a secret only `true`.

        Certificates that others have trusted, and that `owner` wants too, aren't among them.
        Raises Invalid for an owner's name that can't be.
        """
        _check_owner(owner)
        with self._database.read() as connection:
            texts = managed.of(connection, owner)
            rows = self._trust.owned_by(owner, connection)
        return Managed(
            {
                name: "true" if found.secret and texts[name] else texts[name]
                for name, found in OPTIONS.items()
                if name in texts
            },
            tuple(Certificate.parse(row.certificate) for row in rows),
        )

    def listen(self, callback: Listener) -> None:
        """Call `callback` with the name of each option that changes from now on."""
        with self._lock:
            self._listeners.append(callback)
        if self._announced is None:
            self._announced = self._read()

    def poll(self) -> None:
        """Notice what another process has set, and tell the listeners. Cheap when nothing has."""
        stored = self._read()
        with self._lock:
            before = stored if self._announced is None else self._announced
            self._announced = stored
            listeners = list(self._listeners)
        changed = [name for name in OPTIONS if stored.text(name) != before.text(name)]
        for name in changed:
            for listener in listeners:
                listener(name)

    def check_password(self, password: str) -> bool:
        """Say whether `password` is the trust password; never, while none is set."""
        return matches(password, self._read().text("core.trust_password"))

    def _hashed_secrets(self, owner: str, config: Mapping[str, str]) -> dict[str, str]:
        """Hash the secrets among `config`; one that is as it was keeps its hash.

        Before the transaction, which shouldn't last as long as hashing does.
        """
        secrets = {
            name: _sized(name, text)
            for name, text in config.items()
            if text and name in OPTIONS and OPTIONS[name].secret
        }
        if not secrets:
            return {}
        with self._database.read() as connection:
            before = managed.of(connection, owner)
        return {
            name: stored if matches(text, stored := before.get(name, "")) else hashed(text)
            for name, text in secrets.items()
        }

    def _canonical(self, connection: sa.Connection, found: Option, text: str) -> str:
        stripped = _sized(found.name, text).strip()
        if not stripped:
            return found.default
        try:
            if found.name == "registry.fingerprint":
                return self._trusted_fingerprint(connection, stripped)
            return found.render(found.parse(stripped))
        except ValueError as error:
            raise Invalid(f"{found.name}: {error}") from None

    def _trusted_fingerprint(self, connection: sa.Connection, text: str) -> str:
        try:
            entry = self._trust.find(text, connection)
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

    def _read(self) -> _Stored:
        # The version first: a commit in between then only makes the next call read again.
        version = self._database.version()
        with self._lock:
            if version == self._version:
                return self._stored
        with self._database.read() as connection:
            by_hand = connection.execute(sa.select(schema.option)).all()
            owned = connection.execute(sa.select(schema.managed_option)).all()
        texts = {row.name: row.value for row in (*by_hand, *owned) if row.name in OPTIONS}
        origins = {row.name: MANUAL for row in by_hand} | {row.name: row.owner for row in owned}
        stored = _Stored(texts, origins)
        with self._lock:
            self._version, self._stored = version, stored
        return stored


def _check_owner(owner: str) -> None:
    if check_owner(owner) == DEFAULT:
        raise Invalid(f"{DEFAULT} is what nobody has set: give the owner another name")


def _sized(name: str, text: str) -> str:
    if len(text) > MAX_TEXT:
        raise Invalid(f"{name}: the value is too long (over {MAX_TEXT} characters)")
    return text

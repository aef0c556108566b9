"""Secrets of the model: revisions, grants, and who has read what."""

from __future__ import annotations

import dataclasses
import secrets

from rig.state import Application, Relation, Unit

ALPHABET = "0123456789abcdefghijklmnopqrstuv"


def new_id() -> str:
    """Twenty characters, like Juju's xid."""
    return "".join(secrets.choice(ALPHABET) for _ in range(20))


@dataclasses.dataclass(eq=False)
class Secret:
    """One secret. `owner` is a unit or an application; grants are scoped to a relation."""

    id: str
    owner: Unit | Application
    revisions: dict[int, dict[str, str]]
    label: str = ""
    description: str = ""
    rotate: str = "never"
    expire: str = ""
    grants: dict[Unit | Application, Relation] = dataclasses.field(default_factory=dict)
    tracked: dict[Unit, int] = dataclasses.field(default_factory=dict)
    notified: dict[Unit, int] = dataclasses.field(default_factory=dict)
    labels: dict[Unit, str] = dataclasses.field(default_factory=dict)

    @property
    def uri(self) -> str:
        """As charms pass it around."""
        return f"secret:{self.id}"

    @property
    def latest(self) -> int:
        """The newest revision's number; the first is 1."""
        return max(self.revisions)

    @property
    def app(self) -> Application:
        """The application that owns it, itself or through a unit."""
        return self.owner.app if isinstance(self.owner, Unit) else self.owner

    def owned_by(self, unit: Unit) -> bool:
        """Whether `unit` may read it as an owner."""
        return self.owner in (unit, unit.app)

    def managed_by(self, unit: Unit) -> bool:
        """Whether `unit` may change it: its own, or its application's while it leads."""
        return self.owner is unit or (self.owner is unit.app and unit.is_leader)

    def readable_by(self, unit: Unit) -> bool:
        """Whether `unit` owns it or has a grant (which its relation takes along when it dies)."""
        return self.owned_by(unit) or unit in self.grants or unit.app in self.grants

    def news_for(self, unit: Unit) -> bool:
        """Whether `unit` has read an older revision and was not told of the newest one."""
        tracked = self.tracked.get(unit)
        if tracked is None or self.owned_by(unit) or not self.readable_by(unit):
            return False
        return max(tracked, self.notified.get(unit, 0)) < self.latest


def parse_uri(text: str) -> str:
    """The id in `secret:ID`, `secret://MODEL/ID` or a bare `ID`."""
    return text.partition(":")[2].rsplit("/", 1)[-1].partition("?")[0] if ":" in text else text

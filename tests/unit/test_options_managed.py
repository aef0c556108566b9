"""The managed layer of the options: over what is set by hand, undone exactly, all or nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import alembic.command
import alembic.config
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aar_interface import Certificate, Role
from ams import schema
from ams.options import OPTIONS, Managed, Options
from regkit.database import Database
from regkit.errors import Conflict, Invalid
from regkit.trust import TrustStore
from support.certificates import DAY, NOW, certify, new_key
from support.postgresql import SQLITE, Databases, settled, writes

REGISTRY = certify(server=True, name="registry")
PIN = str(REGISTRY.fingerprint)
URL = "https://10.0.0.1:3000"


@dataclass
class Site:
    """A database with what stands on it, and what its listeners heard."""

    database: Database
    trust: TrustStore
    options: Options
    heard: list[str]

    def apply(self, owner: str, *certificates: Certificate, **config: str) -> tuple[str, ...]:
        """Apply options given with `_` for `.`; return the names that changed."""
        named = {name.replace("_", ".", 1): text for name, text in config.items()}
        return self.options.apply(owner, Managed(named, certificates), NOW).changed

    def state(self) -> object:
        return self.options.show(), self.options.origins(), self.trust.list()


def open_site(folder: Path, databases: Databases = SQLITE) -> Site:
    database = databases.open(folder / "ams.db", "ams:migrations")
    trust = TrustStore(database, schema.trust)
    site = Site(database, trust, Options(database, trust), [])
    site.options.listen(site.heard.append)
    return site


@pytest.fixture
def site(tmp_path: Path, databases: Databases) -> Iterator[Site]:
    opened = open_site(tmp_path, databases)
    with closing(opened.database):
        yield opened


def test_a_database_of_the_first_release_is_brought_along(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ams.db'}")
    config = alembic.config.Config()
    config.set_main_option("script_location", "ams:migrations")
    config.set_main_option("path_separator", "os")
    with database.write() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0001")
        connection.exec_driver_sql("INSERT INTO option VALUES ('registry.mode', 'push')")
    database.close()
    with closing((site := open_site(tmp_path)).database):
        assert site.options.get("registry.mode") == "push"
        site.apply("juju", registry_mode="manual")
        site.apply("juju")
        assert site.options.get("registry.mode") == "push"


# -- layers --------------------------------------------------------------------------------------


def test_managed_wins_and_uncovers_what_was_set_by_hand(site: Site) -> None:
    site.options.set("registry.update_interval", "5m")
    changed = site.apply("juju", registry_mode="push", registry_update_interval="30s")
    assert changed == ("registry.mode", "registry.update_interval")
    assert site.options.get("registry.mode") == "push"
    assert site.options.show()["registry.update_interval"] == "30s"
    origins = site.options.origins()
    assert (origins["registry.mode"], origins["registry.update_interval"]) == ("juju", "juju")

    assert site.apply("juju", registry_mode="push") == ("registry.update_interval",)
    assert site.options.show()["registry.update_interval"] == "5m"
    assert site.apply("juju") == ("registry.mode",)
    assert site.options.get("registry.mode") == "pull"
    assert site.options.origins()["registry.update_interval"] == "manual"
    assert site.options.origins()["registry.mode"] == "default"


def test_a_managed_option_is_not_set_by_hand(site: Site) -> None:
    site.apply("juju", registry_mode="push")
    before = site.state()
    for text in ("pull", "push", "", "nonsense"):
        with pytest.raises(Conflict, match=r"^registry\.mode is managed by juju: "):
            site.options.set("registry.mode", text)
    assert site.state() == before
    site.options.set("registry.update_interval", "5m")


def test_managed_as_its_default_is_managed(site: Site) -> None:
    site.options.set("registry.mode", "push")
    assert site.apply("juju", registry_mode="pull", registry_filter="") == (
        "registry.mode",
        "registry.filter",
    )
    assert site.options.get("registry.mode") == "pull"
    with pytest.raises(Conflict):
        site.options.set("registry.filter", "games")


def test_owners_keep_out_of_each_others_way(site: Site) -> None:
    site.apply("juju-config", registry_update_interval="5m")
    site.apply("juju-relation", registry_mode="push")
    before = site.state()
    with pytest.raises(Conflict, match=r"^registry\.mode is managed by juju-relation: "):
        site.apply("juju-config", registry_mode="pull", registry_update_interval="1m")
    assert site.state() == before
    site.apply("juju-relation")
    assert site.apply("juju-config", registry_mode="pull") == (
        "registry.mode",
        "registry.update_interval",
    )


@pytest.mark.parametrize("owner", ["", "Juju", "a:b", "manual", "default", "x" * 33])
def test_an_owners_name(site: Site, owner: str) -> None:
    before = site.state()
    with pytest.raises(Invalid):
        site.apply(owner, registry_mode="push")
    assert site.state() == before


# -- nothing new, nothing by halves --------------------------------------------------------------


def test_the_same_again_writes_nothing(site: Site) -> None:
    wanted = {"registry_url": f"{URL}/", "registry_fingerprint": PIN[:12], "registry_mode": "push"}
    assert len(site.apply("juju", REGISTRY, **wanted)) == 3
    site.heard.clear()
    version = writes(site.database)
    assert site.apply("juju", REGISTRY, **wanted) == ()
    assert site.apply("juju", REGISTRY, **{**wanted, "registry_url": URL.upper()}) == ()
    assert site.apply("nobody") == ()
    assert writes(site.database) == version
    assert site.heard == []


def test_every_fault_is_told_and_nothing_changes(site: Site) -> None:
    site.apply("juju", REGISTRY, registry_fingerprint=PIN, registry_mode="push")
    before, version = site.state(), writes(site.database)
    site.heard.clear()
    expired = certify(start=NOW - 2 * DAY, end=NOW - DAY, name="old")
    with pytest.raises(Invalid) as caught:
        site.options.apply(
            "juju",
            Managed(
                {
                    "registry.mode": "both",
                    "registry.ulr": URL,
                    "registry.fingerprint": PIN,
                    "registry.filter": "x" * 5000,
                },
                (certify(), expired),
            ),
            NOW,
        )
    for words in (
        "(old) expired on",
        "registry.mode: 'both' is not a mode",
        "did you mean registry.url",
        # Its certificate isn't wanted any more.
        f"registry.fingerprint: no trusted certificate has the fingerprint {PIN}",
        "registry.filter: the value is too long",
    ):
        assert words in str(caught.value)
    assert (site.state(), writes(site.database), site.heard) == (before, version, [])


def test_a_revoked_registry_is_a_fault(site: Site) -> None:
    key = new_key()
    first = certify(key, name="registry")
    site.apply("juju", first, registry_url=URL)
    site.trust.revoke(first.fingerprint, NOW)
    with pytest.raises(Invalid, match="was revoked on 2026-06-01"):
        site.apply("juju", certify(key, name="registry"), registry_url=URL)
    assert site.apply("juju", registry_url=URL) == ()
    assert len(site.trust.list(revoked=True)) == 1


# -- trust ---------------------------------------------------------------------------------------


def test_certificates_come_and_go_with_the_options(site: Site) -> None:
    by_hand = certify(name="by-hand")
    site.trust.add(by_hand, Role.CLIENT, now=NOW)
    document = Managed({"registry.fingerprint": PIN}, (REGISTRY, by_hand))
    applied = site.options.apply("juju", document, NOW)
    assert applied.certificates.added == (REGISTRY.fingerprint,)
    assert applied.certificates.kept == (by_hand.fingerprint,)
    assert site.options.get("registry.fingerprint") == PIN
    assert {entry.origin for entry in site.trust.list()} == {"manual", "juju"}
    assert site.options.managed_by("juju") == Managed({"registry.fingerprint": PIN}, (REGISTRY,))

    renewed = certify(server=True, name="registry")
    document = Managed({"registry.fingerprint": str(renewed.fingerprint)}, (renewed,))
    applied = site.options.apply("juju", document, NOW)
    assert applied.changed == ("registry.fingerprint",)
    assert applied.certificates.removed == (REGISTRY.fingerprint,)

    site.options.apply("juju", Managed({}), NOW)
    assert [entry.fingerprint for entry in site.trust.list()] == [by_hand.fingerprint]
    assert site.options.managed_by("juju") == Managed({})


# -- the password --------------------------------------------------------------------------------


def test_a_managed_password_is_hashed_once(site: Site, tmp_path: Path) -> None:
    site.options.set("core.trust_password", "by hand")
    assert site.apply("juju", core_trust_password="s3cret ") == ("core.trust_password",)
    assert site.options.check_password("s3cret ")
    assert not site.options.check_password("by hand")
    assert site.options.show()["core.trust_password"] is True
    assert site.options.managed_by("juju").config == {"core.trust_password": "true"}
    for path in tmp_path.iterdir():  # SQLite's files
        assert b"s3cret" not in path.read_bytes()

    version = writes(site.database)
    assert site.apply("juju", core_trust_password="s3cret ") == ()
    assert writes(site.database) == version
    assert site.apply("juju", core_trust_password="other") == ("core.trust_password",)
    assert site.options.check_password("other")
    assert site.apply("juju", core_trust_password="") == ("core.trust_password",)
    assert site.options.get("core.trust_password") is False
    assert not site.options.check_password("")
    site.apply("juju")
    assert site.options.check_password("by hand")


# -- listeners -----------------------------------------------------------------------------------


def test_listeners_hear_of_what_is_in_force(
    site: Site, tmp_path: Path, databases: Databases
) -> None:
    site.options.set("registry.mode", "push")
    site.heard.clear()
    site.apply("juju", registry_mode="push", registry_filter="", registry_update_interval="5m")
    assert site.heard == ["registry.update_interval"]  # the others say what held before
    site.apply("juju", registry_mode="manual")
    assert site.heard[1:] == ["registry.mode", "registry.update_interval"]
    other_database = databases.open(tmp_path / "ams.db", "ams:migrations")
    with closing(other_database):
        Options(other_database).apply("juju", Managed({}), NOW)
    settled(site.database)
    assert site.options.get("registry.mode") == "push"
    site.options.poll()
    assert site.heard[3:] == ["registry.mode"]


# -- any mix -------------------------------------------------------------------------------------

VALUES = {
    "registry.mode": ("pull", "push", "manual"),
    "registry.filter": ("", "games"),
    "application.max_published_versions": ("3", "5"),
}
OWNERS = ("juju-config", "juju-relation")


class Layers(RuleBasedStateMachine):
    """Owners and an operator, against three dictionaries."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.site = open_site(Path(self.folder.name))
        self.by_hand: dict[str, str] = {}
        self.owned: dict[str, dict[str, str]] = {owner: {} for owner in OWNERS}
        self.known = {name: OPTIONS[name].default for name in VALUES}

    def teardown(self) -> None:
        self.site.database.close()
        self.folder.cleanup()

    def owner_of(self, name: str) -> str | None:
        return next((owner for owner, texts in self.owned.items() if name in texts), None)

    @rule(data=st.data(), name=st.sampled_from(sorted(VALUES)))
    def set(self, data: st.DataObject, name: str) -> None:
        text = data.draw(st.sampled_from(VALUES[name]))
        if self.owner_of(name):
            with pytest.raises(Conflict):
                self.site.options.set(name, text)
        else:
            self.site.options.set(name, text)
            self.by_hand[name] = text

    @rule(
        owner=st.sampled_from(OWNERS),
        wanted=st.fixed_dictionaries(
            {}, optional={name: st.sampled_from(texts) for name, texts in VALUES.items()}
        ),
    )
    def apply(self, owner: str, wanted: dict[str, str]) -> None:
        before = self.owned[owner]
        if any(self.owner_of(name) not in (None, owner) for name in wanted):
            with pytest.raises(Conflict):
                self.site.options.apply(owner, Managed(wanted), NOW)
            return
        applied = self.site.options.apply(owner, Managed(wanted), NOW)
        assert set(applied.changed) == {
            name for name in VALUES if before.get(name) != wanted.get(name)
        }
        self.owned[owner] = wanted

    @invariant()
    def the_highest_layer_is_in_force(self) -> None:
        if not hasattr(self, "owned"):
            return
        for name in VALUES:
            owner = self.owner_of(name)
            set_by_hand = self.by_hand.get(name, OPTIONS[name].default)
            text = self.owned[owner][name] if owner else set_by_hand
            assert self.site.options.get(name) == OPTIONS[name].parse(text)
            expected = owner or ("default" if set_by_hand == OPTIONS[name].default else "manual")
            assert self.site.options.origins()[name] == expected

    @invariant()
    def listeners_know_what_is_in_force(self) -> None:
        """Told from the names alone: who re-reads what is named has what is in force."""
        if not hasattr(self, "owned"):
            return
        shown = {name: str(self.site.options.show()[name]) for name in VALUES}
        self.known.update({name: shown[name] for name in self.site.heard if name in VALUES})
        self.site.heard.clear()
        assert self.known == shown


Layers.TestCase.settings = settings(max_examples=30, stateful_step_count=12, deadline=None)
TestLayers = Layers.TestCase

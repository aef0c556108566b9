"""The `juju` client: cross-model relations, status as jubilant reads it, strictness."""

from __future__ import annotations

import json

import jubilant
import pytest

from rig.contract.world import World


class InProcessJuju(jubilant.Juju):
    """jubilant whose one gate to the outside leads into a world instead of a subprocess."""

    def __init__(self, world: World):
        super().__init__(model="m")
        self.world = world

    def _cli(self, *args, include_model=True, stdin=None, log=True, timeout=None):
        if include_model and self.model is not None:
            args = (args[0], "--model", self.model, *args[1:])
        blocks = args[0] in ("run", "exec")
        reply = self.world.task(*args) if blocks else self.world.juju(*args)
        if reply.code:
            raise jubilant.CLIError(reply.code, args, reply.stdout, reply.stderr)
        return reply.stdout, reply.stderr


@pytest.fixture
def across(world: World) -> World:
    """`db` in model m offered as `shared`, consumed in model n under the alias `far`."""
    world.provider(units=2)
    world.ok("add-model", "n")
    world.ok("deploy", "-m", "n", world.charm("web", requires={"database": {"interface": "sql"}}))
    world.settle()
    world.ok("offer", "m.db:db", "shared")
    world.ok("consume", "-m", "n", "admin/m.shared", "far")
    world.ok("integrate", "-m", "n", "web", "far")
    world.settle()
    return world


def test_cross_model_names(across: World) -> None:
    consumer = across.last("web/0", "database-relation-joined").environment
    assert consumer["JUJU_REMOTE_APP"] == "far" and consumer["JUJU_REMOTE_UNIT"].startswith("far/")
    assert consumer["JUJU_RELATION_ID"] == "database:0"
    offering = across.last("db/0", "db-relation-joined").environment
    app = offering["JUJU_REMOTE_APP"]
    assert app.startswith("remote-") and len(app) == len("remote-") + 32
    assert offering["JUJU_REMOTE_UNIT"] == f"{app}/0" and offering["JUJU_RELATION_ID"] == "db:1"
    assert across.command("db/0", f"relation-get -r db:1 ingress-address {app}/0")[0] == 0
    model = json.loads(across.command("db/0", "relation-model-get -r db:1 --format=json")[1])
    assert model["uuid"] == across.controller.models["n"].uuid


def test_cross_model_status_and_removal(across: World) -> None:
    there, here = across.status("m"), across.status("n")
    assert there["offers"]["shared"]["active-connected-count"] == 1
    assert here["application-endpoints"]["far"]["url"].endswith("admin/m.shared")
    assert here["applications"]["web"]["relations"]["database"][0]["related-application"] == "far"
    assert across.juju("remove-offer", "admin/m.shared").code == 1
    across.ok("remove-relation", "-m", "n", "web", "far")
    across.settle()
    assert across.hooks("db/0")[-1] == "db-relation-broken"
    assert across.hooks("web/0")[-1] == "database-relation-broken"
    across.ok("remove-saas", "-m", "n", "far")
    across.ok("remove-offer", "admin/m.shared")


def test_across_models_only_the_offering_side_grants(across: World) -> None:
    uri = across.command("db/0", "secret-add key=one")[1].strip()
    assert across.command("db/0", f"secret-grant {uri} -r db:1")[0] == 0
    consumer = across.controller.models["n"]
    consumer.apps["web"].leader = across.unit("web/0", "n")
    assert across.command("web/0", f"secret-get {uri} key", model="n")[1] == "one\n"
    own = across.command("web/0", "secret-add key=two", model="n")[1].strip()
    code, _, err = across.command("web/0", f"secret-grant {own} -r database:0", model="n")
    assert code and "only the offering side" in err


def test_jubilant_reads_everything(related: World) -> None:
    juju = InProcessJuju(related)
    assert juju.version().major == 3
    status = juju.status()
    assert status.apps["db"].charm_name == "db" and status.apps["db"].units["db/0"].leader
    assert status.apps["web"].relations["database"][0].related_app == "db"
    assert jubilant.all_agents_idle(status) and not jubilant.any_error(status)
    assert status.machines["0"].juju_status.current == "started"
    info = juju.show_unit("web/0").relation_info[0]
    assert info.related_endpoint == "db" and set(info.related_units) == {"db/0", "db/1"}
    assert juju.show_model().short_name == "m"
    related.code["db"] = lambda run: (run.name == "" and 7) or 0
    with pytest.raises(jubilant.TaskError) as error:
        juju.exec("false", unit="db/0")
    assert error.value.task.return_code == 7
    with pytest.raises(ValueError, match="not found"):
        juju.run("db/0", "nothing")
    juju.remove_relation("db", "web")
    juju.add_unit("web", num_units=2)
    juju.cli("expose", "web")
    related.settle()
    assert len(juju.status().apps["web"].units) == 3 and juju.status().apps["web"].exposed
    juju.remove_unit("web/1")
    related.settle()
    assert set(juju.status().apps["web"].units) == {"web/0", "web/2"}
    juju.destroy_model("m", force=True)
    assert "m" not in related.controller.models


def test_agents_are_not_idle_while_they_have_something_to_do(related: World) -> None:
    related.command("db/0", "relation-set -r db:1 a=1")
    units = related.status()["applications"]["web"]["units"]
    assert units["web/0"]["juju-status"]["current"] == "executing"
    related.settle()
    assert jubilant.all_agents_idle(InProcessJuju(related).status())


def test_config_is_typed_and_shown(world: World) -> None:
    options = {"port": {"type": "int", "default": 1}, "name": {"type": "string"}}
    world.provider(config=options)
    juju = InProcessJuju(world)
    juju.config("db", {"port": 2, "name": "a=b"})
    assert dict(juju.config("db")) == {"port": 2, "name": "a=b"}
    juju.config("db", reset="port,name")
    assert dict(juju.config("db")) == {"port": 1}
    for pair in ("port=x", "nothing=1"):
        assert world.juju("config", "db", pair).code == 1


def test_pairs_of_endpoints_must_be_clear(world: World) -> None:
    world.provider()
    world.ok(
        "deploy",
        world.charm("two", requires={"a": {"interface": "sql"}, "b": {"interface": "sql"}}),
    )
    assert "ambiguous relation" in world.juju("integrate", "two", "db").stderr
    assert "no relations found" in world.juju("integrate", "two:a", "two:b").stderr
    world.ok("add-relation", "two:a", "db:db")
    assert "already exists" in world.juju("integrate", "two:a", "db").stderr
    assert world.juju("remove-relation", "two:b", "db").code == 1


def test_limits_of_endpoints(world: World) -> None:
    world.provider(provides={"db": {"interface": "sql", "limit": 1}})
    world.requirer("a")
    world.requirer("b")
    world.ok("integrate", "a", "db")
    assert "maximum relation limit" in world.juju("integrate", "b", "db").stderr


def test_two_units_may_share_a_machine(world: World) -> None:
    world.provider()
    world.ok("deploy", world.charm("web"), "--to", "0")
    world.settle()
    assert list(world.status()["machines"]) == ["0"]
    world.ok("remove-application", "--no-prompt", "db")
    world.settle()
    assert list(world.status()["machines"]) == ["0"] and world.installed[-1] == ("unit-db-0", "")


@pytest.mark.parametrize(
    "line",
    [
        "frobnicate",
        "status --bogus",
        "deploy",
        "deploy nothing.charm",
        "config nothing",
        "status -m other",
        "deploy db.charm --storage x=1",
        "integrate a",
        "run db/9 act",
        "exec true",
        "ssh db/0 -o x=y true",
        "model-config default-base=x",
        "remove-unit db",
        "offer db",
        "consume admin/m.nothing",
        "refresh db",
        "exec --wait soon --unit db/0 -- true",
        "add-unit db --num-units 0",
        "scp a b",
        "status --format xml",
    ],
)
def test_what_juju_or_the_rig_does_not_know_fails_loudly(world: World, line: str) -> None:
    world.provider()
    reply = world.juju(*line.split())
    assert reply.code and reply.stderr.startswith("ERROR ") and not reply.stdout

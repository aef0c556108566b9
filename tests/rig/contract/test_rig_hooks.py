"""A hook's environment, failure and retry; actions, secrets, network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rig.contract.world import MemoryHost, Run, World
from rig.faults import HookFault

NAMES = """
    CHARM_DIR JUJU_CHARM_DIR JUJU_CONTEXT_ID JUJU_HOOK_NAME JUJU_AGENT_SOCKET_ADDRESS
    JUJU_AGENT_SOCKET_NETWORK JUJU_UNIT_NAME JUJU_MODEL_UUID JUJU_MODEL_NAME
    JUJU_API_ADDRESSES JUJU_MACHINE_ID JUJU_PRINCIPAL_UNIT JUJU_AVAILABILITY_ZONE JUJU_VERSION
    CLOUD_API_VERSION JUJU_CHARM_HTTP_PROXY JUJU_CHARM_HTTPS_PROXY JUJU_CHARM_FTP_PROXY
    JUJU_CHARM_NO_PROXY JUJU_DISPATCH_PATH APT_LISTCHANGES_FRONTEND DEBIAN_FRONTEND LANG TERM
    PATH
    """
ALWAYS = set(NAMES.split())
RELATION = {"JUJU_RELATION", "JUJU_RELATION_ID", "JUJU_REMOTE_UNIT", "JUJU_REMOTE_APP"}


def test_environment_is_exactly_jujus(related: World) -> None:
    related.ok("remove-relation", "db", "web")
    related.settle()
    assert set(related.last("db/0", "start").environment) == ALWAYS
    joined = related.last("web/0", "database-relation-joined").environment
    assert set(joined) == ALWAYS | RELATION
    assert joined["JUJU_RELATION_ID"] == "database:1" and joined["JUJU_REMOTE_APP"] == "db"
    assert joined["JUJU_DISPATCH_PATH"] == "hooks/database-relation-joined"
    departed = related.last("web/0", "database-relation-departed").environment
    assert set(departed) == ALWAYS | RELATION | {"JUJU_DEPARTING_UNIT"}
    assert departed["PATH"].startswith("/var/lib/juju/tools/unit-web-0:")


def test_failed_hook_is_retried_with_growing_waits(world: World) -> None:
    world.code["db"] = lambda run: int(run.name == "start")
    world.provider()
    for wait in (5, 10, 20, 40, 80, 160, 300, 300):
        world.settle()
        count = world.hooks("db/0").count("start")
        unit = world.status()["applications"]["db"]["units"]["db/0"]
        assert unit["workload-status"]["current"] == "error"
        assert unit["workload-status"]["message"] == 'hook failed: "start"'
        assert unit["juju-status"]["current"] == "idle"
        world.clock.advance(wait - 0.5)
        world.settle()
        assert world.hooks("db/0").count("start") == count
        world.clock.advance(0.5)
    world.code["db"] = lambda run: 0
    world.settle()
    assert world.hooks("db/0")[-1] == "start"
    assert (
        world.status()["applications"]["db"]["units"]["db/0"]["workload-status"]["current"]
        == "unknown"
    )


def test_resolved_retries_now_and_no_retry_skips(related: World) -> None:
    related.code["db"] = lambda run: int(run.name == "config-changed")
    related.ok("trust", "db")
    related.settle()
    failures = related.hooks("db/0").count("config-changed")
    related.ok("resolved", "db/0")
    related.settle()
    assert related.hooks("db/0").count("config-changed") == failures + 1
    related.ok("resolved", "--no-retry", "db/0")
    assert related.settle() == []
    assert related.juju("resolved", "db/0").code == 1


def test_no_other_hook_overtakes_a_failed_one(related: World) -> None:
    related.code["web"] = lambda run: int(run.name == "database-relation-joined")
    related.ok("add-unit", "db")
    related.settle()
    before = len(related.hooks("web/0"))
    related.provider("other")
    related.ok("integrate", "other", "web")
    related.ok("trust", "web")
    related.settle()
    assert len(related.hooks("web/0")) == before
    related.code.pop("web")
    related.ok("resolved", "web/0")
    related.settle()
    hooks = related.hooks("web/0")[before:]
    assert hooks[:2] == ["database-relation-joined", "database-relation-created"]
    remotes = [e.remote for e in related.events if e.unit == "web/0" and "changed" in e.name]
    assert "db/2" in remotes and "other/0" in remotes and hooks.count("config-changed") == 1


def test_actions_run_while_a_hook_has_failed(world: World) -> None:
    def charm(run: Run) -> int:
        if run.environment.get("JUJU_ACTION_NAME") == "ask":
            run.tool("action-set", "answer.deep=42", "plain=yes")
            run.tool("action-log", "--", "thinking")
        return int(run.name == "start")

    world.code["db"] = charm
    world.provider(actions={"ask": {"params": {"n": {"type": "integer", "default": 1}}}})
    world.settle()
    reply = json.loads(world.task("run", "--format", "json", "db/0", "ask").stdout)["db/0"]
    assert reply["status"] == "completed" and reply["log"][0].endswith("thinking")
    assert reply["results"] == {"answer": {"deep": "42"}, "plain": "yes", "return-code": 0}


def test_a_failed_action_leaves_the_unit_as_it_is(related: World) -> None:
    path = related.charm("act", actions={"no": {}, "crash": {}})

    def charm(run: Run) -> int:
        action = run.environment.get("JUJU_ACTION_NAME")
        if action == "no":
            run.tool("action-fail", "--", "not today")
        return 3 if action == "crash" else 0

    related.code["act"] = charm
    related.ok("deploy", path)
    related.settle()
    for action, code, message in (("no", 0, "not today"), ("crash", 3, "")):
        reply = related.task("run", "act/0", action, "--format=json")
        assert reply.code == 1 and "the following task failed" in reply.stderr
        task = json.loads(reply.stdout)["act/0"]
        found = (task["status"], task["results"]["return-code"], task["message"])
        assert found == ("failed", code, message)
    assert related.unit("act/0").uniter.local.failure is None


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["nothing"], "(not found)"),
        (["ask"], '"n" property is missing'),
        (["ask", "n=x"], "must be of type integer"),
        (["ask", "n=1", "m=1"], "additional property"),
    ],
)
def test_actions_are_validated(world: World, words: list[str], error: str) -> None:
    schema = {
        "params": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    world.provider(actions={"ask": schema})
    world.settle()
    reply = world.juju("run", "db/0", *words)
    assert reply.code == 1 and error in reply.stderr


def test_an_action_that_takes_too_long_times_out(world: World) -> None:
    world.provider(actions={"ask": {}})
    world.settle()
    reply = world.juju("run", "--wait", "10ms", "db/0", "ask")  # no unit steps meanwhile
    assert reply.code == 1 and "timed out" in reply.stderr


def test_hook_fault_kills_half_way_drops_its_writes_and_is_retried(related: World) -> None:
    done = []

    def charm(run: Run) -> None:
        if run.name == "config-changed":
            run.tool("relation-set", "-r", "db:1", "a=1")
            run.tool("relation-set", "-r", "db:1", "b=1")
            done.append(run.unit)

    related.code["db"] = charm
    related.controller.faults.hooks.append(HookFault("db/0", "config-changed", after_calls=1))
    related.ok("trust", "db")
    related.settle()
    assert done == ["db/1"]
    assert related.command("web/0", "relation-get -r database:1 a db/0")[1] == ""
    related.clock.advance(5)
    related.settle()
    assert sorted(done) == ["db/0", "db/1"]
    assert related.command("web/0", "relation-get -r database:1 a db/0")[1] == "1\n"


def test_juju_reboot_now_runs_the_hook_again(world: World) -> None:
    def charm(run: Run) -> None:
        if run.name == "install" and world.hooks("db/0").count("install") == 1:
            run.raw("juju-reboot", "--now")

    world.code["db"] = charm
    world.provider()
    world.settle()
    assert world.hooks("db/0")[:2] == ["install", "install"]
    host = world.unit("db/0").machine.host
    assert isinstance(host, MemoryHost) and host.boots == 2


def secret_world(related: World) -> str:
    """Have db share a secret with web; return its URI."""
    command = related.command
    uri = command("db/0", "secret-add key=one --label mine")[1].strip()
    assert command("db/0", f"secret-grant {uri} -r db:1")[0] == 0
    return uri


def test_secrets_are_granted_pinned_and_announced_from_revision_two(related: World) -> None:
    command = related.command
    uri = command("db/0", "secret-add key=one --label mine")[1].strip()
    code, _, err = command("web/0", f"secret-get {uri}")
    assert code and "permission denied" in err
    command("db/0", f"secret-grant {uri} -r db:1")
    assert related.settle() == []
    assert command("web/0", f"secret-get {uri} key --label theirs")[1] == "one\n"
    command("db/0", f"secret-set {uri} key=two")
    events = related.settle()
    assert [(e.unit, e.name) for e in events] == [("web/0", "secret-changed")]
    assert events[0].environment["JUJU_SECRET_ID"] == uri
    assert events[0].environment["JUJU_SECRET_LABEL"] == "theirs"
    assert command("web/0", "secret-get --label theirs")[1] == "key: one\n"
    assert command("web/0", "secret-get --label theirs --peek")[1] == "key: two\n"
    assert command("web/0", "secret-get --label theirs --refresh")[1] == "key: two\n"
    assert command("db/0", "secret-get --label mine")[1] == "key: two\n"
    command("db/0", f"secret-set {uri} key=two")
    assert related.settle() == []


def test_secrets_take_effect_at_commit_and_belong_to_the_leader(related: World) -> None:
    uri = secret_world(related)
    assert related.command("db/1", "secret-add key=one")[0] != 0
    assert related.command("db/1", f"secret-set {uri} key=three")[0] != 0
    assert related.command("db/1", "secret-add key=one --owner unit")[0] == 0
    assert related.command("db/0", "secret-add k=1")[0] != 0  # a key has three characters


def test_a_grant_dies_with_its_relation(related: World) -> None:
    uri = secret_world(related)
    assert related.command("web/0", f"secret-get {uri}")[0] == 0
    related.ok("remove-relation", "db", "web")
    related.settle()
    assert related.command("web/0", f"secret-get {uri}")[0] != 0
    related.ok("integrate", "db", "web")
    related.settle()
    assert related.command("web/0", f"secret-get {uri}")[0] != 0


def test_network_get(related: World) -> None:
    address = related.unit("web/0").address
    document = json.loads(related.command("web/0", "network-get database --format=json")[1])
    assert document["bind-addresses"][0]["addresses"] == [
        {"hostname": "", "value": address, "cidr": "10.77.0.0/16"}
    ]
    assert document["ingress-addresses"] == [address]
    assert related.command("web/0", "network-get database --bind-address")[1] == f"{address}\n"
    assert related.command("web/0", "network-get nothing")[0] != 0


def test_status_set_takes_four_words_and_application_needs_the_leader(related: World) -> None:
    assert related.command("db/0", "status-set error x")[0] != 0
    assert related.command("db/1", "status-set --application=true active x")[0] != 0
    assert related.command("db/0", "status-set --application=true active -- all well")[0] == 0
    status = related.status()["applications"]["db"]["application-status"]
    assert (status["current"], status["message"]) == ("active", "all well")


def test_install_status(world: World, tmp_path: Path) -> None:
    seen = []
    world.code["db"] = lambda run: seen.append(world.unit("db/0").workload.message) and 0
    world.provider()
    world.settle()
    assert seen[0] == "installing charm software"


@pytest.mark.parametrize(
    "line",
    [
        "relation-get --bogus",
        "relation-get a b c",
        "status-set",
        "open-port 99999",
        "open-port x/sctp",
        "config-get --format xml",
        "network-get",
        "resource-get data",
        "storage-get",
        "unknown-tool",
        "relation-set -r",
        "state-set novalue",
        "juju-log --log-level LOUD x",
        "action-get",
    ],
)
def test_what_a_hook_tool_does_not_know_fails_loudly(related: World, line: str) -> None:
    code, out, err = related.command("db/0", line)
    assert code and not out and err.startswith("ERROR ")

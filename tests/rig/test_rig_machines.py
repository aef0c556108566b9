"""The rig on booted machines: a packed charm, driven by unmodified jubilant."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import jubilant
import pytest

from rig.client import Rig

pytestmark = pytest.mark.usefixtures("rig")


def settle(juju: jubilant.Juju, *more: Callable[[jubilant.Status], bool]) -> jubilant.Status:
    """Wait until all units are active and idle, and more conditions hold."""

    def ready(status: jubilant.Status) -> bool:
        idle = jubilant.all_active(status) and jubilant.all_agents_idle(status)
        return idle and all(condition(status) for condition in more)

    return juju.wait(ready, delay=0.2, successes=2)


def page(status: jubilant.Status, unit: str, port: int = 8080) -> dict[str, object]:
    """What a unit's page says."""
    address = status.apps[unit.partition("/")[0]].units[unit].public_address
    with urllib.request.urlopen(f"http://{address}:{port}/", timeout=5) as reply:
        return json.load(reply)


def addresses(status: jubilant.Status, app: str) -> list[str]:
    """Addresses of an application's units, sorted."""
    return sorted(u.public_address for u in status.apps[app].units.values())


@pytest.fixture(scope="module")
def model(juju: jubilant.Juju, toy_charm: Path) -> jubilant.Juju:
    """`one` (two units) and `two` (one unit), related."""
    juju.deploy(toy_charm, "one", num_units=2)
    juju.deploy(toy_charm, "two", config={"greeting": "hey"})
    juju.integrate("one:web", "two:upstream")
    settle(juju)
    return juju


def test_deployed_and_related(model: jubilant.Juju) -> None:
    status = model.status()
    one = addresses(status, "one")
    found = page(status, "two/0")
    assert found == {
        "greeting": "hey",
        "peers": [],
        "token": "s3cret",
        "urls": [f"http://{a}:8080/" for a in one],
    }
    first = status.apps["one"].units["one/0"]
    assert page(status, "one/0")["peers"] == [a for a in one if a != first.public_address]
    assert status.apps["one"].version == "1.0" and first.open_ports == ["8080/tcp"]


def test_config_converges(model: jubilant.Juju) -> None:
    model.config("one", {"port": 9090})
    status = settle(model)
    assert page(status, "one/0", 9090)["greeting"] == "hello"
    urls = page(status, "two/0")["urls"]
    assert urls == [f"http://{a}:9090/" for a in addresses(status, "one")]
    with pytest.raises(jubilant.CLIError):
        model.config("one", {"port": "x"})


def test_actions_exec_ssh_scp(model: jubilant.Juju, tmp_path: Path) -> None:
    task = model.run("one/0", "echo", {"text": "hi"})
    assert task.results["said"] == "hi" and task.log[0].endswith("echoing")
    with pytest.raises(jubilant.TaskError, match="as you wished"):
        model.run("one/0", "fail")
    leader = [n for n, u in model.status().apps["one"].units.items() if u.leader]
    assert model.exec("is-leader", unit=leader[0]).stdout.strip() == "True"
    with pytest.raises(jubilant.TaskError):
        model.exec("exit 3", unit="one/0")
    assert model.ssh("one/0", "systemctl is-active toy").strip() == "active"
    assert model.ssh("one/0", "sudo id -u").strip() == "0"
    (tmp_path / "note").write_text("x\n")
    model.scp(tmp_path / "note", "one/0:/tmp/note")
    model.scp("one/0:/tmp/note", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "x\n"


def test_hooks_see_exactly_jujus_environment(model: jubilant.Juju) -> None:
    found = model.exec("env -0 | tr '\\0' '\\n' | cut -d= -f1; pwd", unit="one/0").stdout.split()
    assert found[-1] == "/var/lib/juju/agents/unit-one-0/charm"
    assert "HOME" not in found and "JUJU_CONTEXT_ID" in found and "INVOCATION_ID" not in found


def test_killed_service_comes_back(model: jubilant.Juju, rig: Rig) -> None:
    before = model.ssh("two/0", "systemctl show -P MainPID toy")
    rig.kill_service("two/0", "toy")

    def restarted(status: jubilant.Status) -> bool:
        return model.ssh("two/0", "systemctl show -P MainPID toy") not in (before, "0\n")

    assert page(settle(model, restarted), "two/0")["greeting"] == "hey"


def test_hook_killed_half_way_is_retried(model: jubilant.Juju, rig: Rig) -> None:
    rig.fail_hook("two/0", "config-changed", after_calls=2)
    model.config("two", {"greeting": "ahoy"})
    model.wait(lambda s: s.apps["two"].units["two/0"].is_error, delay=0.2, successes=1)
    model.cli("resolved", "two/0")
    assert page(settle(model), "two/0")["greeting"] == "ahoy"


def test_partition_and_heal(model: jubilant.Juju, rig: Rig) -> None:
    address = model.status().apps["two"].units["two/0"].public_address
    rig.partition("two/0")
    with pytest.raises((urllib.error.URLError, TimeoutError)):
        urllib.request.urlopen(f"http://{address}:8080/", timeout=0.5)
    rig.heal("two/0")
    assert page(settle(model), "two/0")["greeting"] == "ahoy"


@pytest.mark.parametrize("hard", [False, True])
def test_reboot(model: jubilant.Juju, rig: Rig, hard: bool) -> None:
    boot = model.ssh("two/0", "sudo journalctl --list-boots | wc -l")
    rig.reboot("two/0", hard=hard)
    assert page(settle(model), "two/0")["greeting"] == "ahoy"
    assert int(model.ssh("two/0", "sudo journalctl --list-boots | wc -l")) == int(boot) + 1


def test_changed_address_reaches_the_other_side(model: jubilant.Juju, rig: Rig) -> None:
    address = rig.change_address("one/0")
    status = settle(model)
    assert status.apps["one"].units["one/0"].public_address == address
    assert f"http://{address}:9090/" in str(page(status, "two/0")["urls"])


def test_a_hook_with_nothing_to_do_is_counted_as_one(model: jubilant.Juju, rig: Rig) -> None:
    before = rig.timings("update-status")["idle-runs"]
    for unit in ("one/0", "two/0"):
        rig.update_status(unit)
    settle(model)
    found = rig.timings("update-status")
    assert found["idle-runs"] == before + 2
    print(f"median no-op hook: {found['idle-median']:.3f} s")


def test_units_come_and_go(model: jubilant.Juju) -> None:
    model.add_unit("one")
    status = settle(model, lambda s: len(s.apps["one"].units) == 3)
    assert len(str(page(status, "two/0")["urls"]).split(",")) == 3
    leader = next(n for n, u in status.apps["one"].units.items() if u.leader)
    model.remove_unit(leader)
    status = settle(model, lambda s: len(s.apps["one"].units) == 2 and len(s.machines) == 3)
    assert any(u.leader for u in status.apps["one"].units.values())
    urls = [f"http://{a}:9090/" for a in addresses(status, "one")]
    assert page(status, "two/0")["urls"] == urls


def test_refresh_keeps_what_the_charm_made(model: jubilant.Juju, toy_charm: Path) -> None:
    model.exec("touch kept", unit="two/0")
    model.refresh("two", path=toy_charm)
    status = settle(model)
    assert status.apps["two"].charm_rev == 1
    assert model.exec("ls -a kept", unit="two/0").stdout == "kept\n"


def test_artifacts_explain_a_failure(model: jubilant.Juju, rig: Rig, tmp_path: Path) -> None:
    rig.save(tmp_path)
    assert "unit-two-0: " in (tmp_path / f"{model.model}-debug-log.txt").read_text()
    assert "config-changed" in (tmp_path / "hook-timings.txt").read_text()
    # Other test files had models in this rig too.
    journals = list(tmp_path.glob(f"{model.model}-*-journal.txt"))
    assert len(journals) == 3 and all("systemd" in j.read_text() for j in journals)


def test_across_models(model: jubilant.Juju, toy_charm: Path) -> None:
    model.offer("one", endpoint="web", name="pages")
    other = jubilant.Juju(wait_timeout=120)
    other.add_model(f"{model.model}-far")
    assert other.model
    other.deploy(toy_charm, "three")
    other.consume(f"{model.model}.pages", "far", owner="admin")
    other.integrate("three:upstream", "far")
    status = settle(other)
    settle(model)
    found = page(status, "three/0")
    urls = [f"http://{a}:9090/" for a in addresses(model.status(), "one")]
    assert (found["urls"], found["token"]) == (urls, "s3cret")
    assert status.app_endpoints["far"].relations == {"web": ["three"]}
    other.remove_relation("three", "far")
    assert page(settle(other), "three/0")["urls"] == []
    other.destroy_model(other.model, force=True)


def test_removed_relation_leaves_nothing(model: jubilant.Juju) -> None:
    model.remove_relation("one:web", "two:upstream")
    status = settle(model, lambda s: not s.apps["two"].relations.get("upstream"))
    found = page(status, "two/0")
    assert (found["urls"], found["token"]) == ([], "")

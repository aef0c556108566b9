"""config-get, is-leader, juju-log, network-get, goal-state, state-*, unit-get, juju-reboot."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from rig.errors import JujuError, UsageError
from rig.hooktools.command import Call, Tool, file_values, key_values
from rig.hooktools.relations import REFERENCE
from rig.hooktools.relations import find as find_relation
from rig.state import Unit

if TYPE_CHECKING:
    from rig.hookcontext import HookContext

PREFIX = 16
LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def config_get(context: HookContext, call: Call) -> Any:
    """All options, or one; those without a value only with --all."""
    options = context.unit.app.options()
    if call.words:
        return options.get(call.word(0))
    if call.on("all"):
        return {name: options.get(name) for name in context.unit.app.charm.options}
    return options


def is_leader(context: HookContext, call: Call) -> bool:
    """Whether this unit leads its application."""
    return context.unit.is_leader


def juju_log(context: HookContext, call: Call) -> None:
    """Write to the debug log, at once."""
    level = "DEBUG" if call.on("debug") else (call.text("level") or "INFO").upper()
    if level not in LEVELS:
        raise UsageError(f'invalid log level "{level}"')
    context.controller.log(context.unit, level, " ".join(call.words))


def network_get(context: HookContext, call: Call) -> Any:
    """Addresses of an endpoint's binding; one flag gives its bare value."""
    unit, binding = context.unit, call.word(0)
    charm = unit.app.charm
    if call.text("relation"):
        find_relation(context, call)
    if binding not in charm.endpoints and binding not in charm.bindings:
        raise JujuError(f'no network config found for binding "{binding}"')
    address = unit.address
    subnet = ".".join(address.split(".")[:2]) + f".0.0/{PREFIX}"
    chosen = {
        "primary-address": address,
        "bind-address": address,
        "ingress-address": address,
        "egress-subnets": [f"{address}/32"],
    }
    asked = [name for name in chosen if call.on(name)]
    if len(asked) == 1:
        value = chosen[asked[0]]
        return value[0] if isinstance(value, list) and len(value) == 1 else value
    if asked:
        return {name: chosen[name] for name in asked}
    interface = {
        "mac-address": "",
        "interface-name": "eth0",
        "addresses": [{"hostname": "", "value": address, "cidr": subnet}],
    }
    return {
        "bind-addresses": [interface],
        "egress-subnets": [f"{address}/32"],
        "ingress-addresses": [address],
    }


def unit_get(context: HookContext, call: Call) -> str:
    """The machine's address."""
    if call.word(0) not in ("private-address", "public-address"):
        raise UsageError(f'unknown setting "{call.word(0)}"')
    return context.unit.address


def goal_state(context: HookContext, call: Call) -> dict[str, Any]:
    """Units and relations that the model is to have."""
    unit, model = context.unit, context.model

    def goal(status: str, since: datetime.datetime) -> dict[str, str]:
        return {"status": status, "since": f"{since:%Y-%m-%dT%H:%M:%SZ}"}

    def of(other: Unit) -> dict[str, str]:
        status = "dying" if other.dying else other.workload.current
        return goal(status, other.workload.since)

    related: dict[str, dict[str, Any]] = {}
    for relation in model.relations_of(unit.app):
        if relation.dying:
            continue
        other = relation.other(unit.app).app
        names = related.setdefault(relation.side(unit.app).endpoint.name, {})
        if not relation.is_peer:
            seen = relation.app_seen_by(unit.app)
            names[seen] = goal("joined", context.controller.clock.now())
        for remote in other.units.values():
            if remote is not unit:
                names[relation.name_of(remote, unit.app)] = of(remote)
    return {"units": {n: of(u) for n, u in unit.app.units.items()}, "relations": related}


def state_get(context: HookContext, call: Call) -> Any:
    """The unit's stored state, or one value."""
    state, key = context.unit_state(), call.word(0, "-")
    return state if key == "-" else state.get(key)


def state_set(context: HookContext, call: Call) -> None:
    """Store values when the hook succeeds."""
    context.state = {**context.unit_state(), **file_values(call), **key_values(call.words)}


def state_delete(context: HookContext, call: Call) -> None:
    """Forget a value when the hook succeeds."""
    context.state = {k: v for k, v in context.unit_state().items() if k != call.word(0)}


def juju_reboot(context: HookContext, call: Call) -> None:
    """Reboot after the hook, or at once; then the hook runs again."""
    if context.task:
        raise JujuError("juju-reboot is not supported when running an action")
    context.reboot = True
    if call.on("now"):
        context.requeue = context.broken = True  # which kills the hook, once out of the lock


TOOLS = (
    Tool(
        "config-get", config_get, switches={"--all": "all", "-a": "all"}, words=(0, 1), prints=True
    ),
    Tool("is-leader", is_leader, prints=True),
    Tool(
        "juju-log",
        juju_log,
        options={"--log-level": "level", "-l": "level"},
        switches={"--debug": "debug"},
        words=(1, 1000),
    ),
    Tool(
        "network-get",
        network_get,
        options=REFERENCE,
        switches={
            f"--{n}": n
            for n in ("primary-address", "bind-address", "ingress-address", "egress-subnets")
        },
        words=(1, 1),
        prints=True,
    ),
    Tool("unit-get", unit_get, words=(1, 1), prints=True),
    Tool("goal-state", goal_state, prints=True),
    Tool("state-get", state_get, words=(0, 1), prints=True),
    Tool("state-set", state_set, options={"--file": "file"}, words=(0, 1000)),
    Tool("state-delete", state_delete, words=(1, 1)),
    Tool("juju-reboot", juju_reboot, switches={"--now": "now"}),
)

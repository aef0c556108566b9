"""`juju status` and `juju show-unit` as documents; reads the model, changes nothing."""

from __future__ import annotations

from typing import Any

from rig.controller import Controller
from rig.state import Application, Machine, Model, Offer, Relation, Status, Unit

# Which unit's status stands for the application when the charm sets none of its own.
SEVERITY = ("error", "blocked", "maintenance", "waiting", "active", "terminated", "unknown")


def _shown(status: Status, **more: str) -> dict[str, str]:
    since = f"{status.since:%d %b %Y %H:%M:%SZ}"
    document = {"current": status.current, "since": since, **more}
    return {**document, "message": status.message} if status.message else document


def workload(unit: Unit) -> Status:
    """The unit's status: what the charm set, or the hook that failed."""
    failure = unit.uniter.local.failure
    if failure is None:
        return unit.workload
    return Status("error", f'hook failed: "{failure.hook.name(unit)}"', failure.since)


def agent(unit: Unit) -> Status:
    """The agent's status; never idle while there is something to do."""
    status = unit.agent_status
    if status.current in ("allocating", "error"):
        return status
    if unit.uniter.has_work():
        message = status.message if status.current == "executing" else ""
        return Status("executing", message, status.since)
    return Status("idle", "", status.since)


def _application_status(app: Application, model_now: Status) -> Status:
    if app.status:
        return app.status
    found = [workload(u) for u in app.units.values()]
    return min(found, key=lambda s: SEVERITY.index(s.current), default=model_now)


def _relations(model: Model, app: Application) -> dict[str, list[dict[str, str]]]:
    shown: dict[str, list[dict[str, str]]] = {}
    for relation in model.relations_of(app):
        side = relation.side(app)
        entry = {
            "related-application": relation.app_seen_by(app),
            "interface": side.endpoint.interface,
            "scope": "global",
        }
        shown.setdefault(side.endpoint.name, []).append(entry)
    return shown


def _unit(controller: Controller, unit: Unit) -> dict[str, Any]:
    version = controller.dialect.version
    document: dict[str, Any] = {
        "workload-status": _shown(workload(unit)),
        "juju-status": _shown(agent(unit), version=version),
        "machine": str(unit.machine.number),
        "open-ports": sorted(unit.ports),
        "public-address": unit.address,
    }
    return {**document, "leader": True} if unit.is_leader else document


def _application(controller: Controller, model: Model, app: Application) -> dict[str, Any]:
    none = Status("waiting" if app.units else "unknown", "", controller.clock.now())
    document: dict[str, Any] = {
        "charm": f"local:{app.charm.name}-{app.revision}",
        "base": dict(app.charm.bases[0]),
        "charm-origin": "local",
        "charm-name": app.charm.name,
        "charm-rev": app.revision,
        "scale": len(app.units),
        "exposed": app.exposed,
        "application-status": _shown(_application_status(app, none)),
        "relations": _relations(model, app),
        "units": {n: _unit(controller, u) for n, u in app.units.items()},
        "endpoint-bindings": {"": "alpha", **dict.fromkeys(app.charm.endpoints, "alpha")},
    }
    if app.version:
        document["version"] = app.version
    if app.dying:
        document["life"] = "dying"
    return document


def _machine(controller: Controller, model: Model, machine: Machine) -> dict[str, Any]:
    host, now = machine.host, controller.clock.now()
    bases = [u.app.charm.bases[0] for u in model.units() if u.machine is machine]
    return {
        "juju-status": _shown(Status(machine.status, "", now), version=controller.dialect.version),
        "hostname": host.name,
        "dns-name": host.address,
        "ip-addresses": [host.address],
        "instance-id": host.name,
        "machine-status": _shown(Status("running", "Running", now)),
        "base": dict(bases[0]) if bases else {"name": "ubuntu", "channel": "24.04"},
    }


def _offer(controller: Controller, model: Model, offer: Offer) -> dict[str, Any]:
    joined = [
        r
        for r in model.relations
        if r.cross_model
        and r.sides[0].app is offer.app
        and not r.dying
        and r.sides[0].endpoint.name in offer.endpoints
    ]
    ends = {e: offer.app.charm.endpoints[e] for e in offer.endpoints}
    return {
        "application": offer.app.name,
        "charm": f"local:{offer.app.charm.name}-{offer.app.revision}",
        "total-connected-count": len(joined),
        "active-connected-count": len(joined),
        "endpoints": {n: {"interface": e.interface, "role": e.role} for n, e in ends.items()},
    }


def _remotes(model: Model, controller: Controller) -> dict[str, Any]:
    shown = {}
    for remote in model.remotes.values():
        app = remote.offer.app
        ends = {e: app.charm.endpoints[e] for e in remote.offer.endpoints}
        related: dict[str, list[str]] = {}
        for relation in model.relations:
            if relation.cross_model and relation.has(app):
                end = relation.side(app).endpoint.name
                related.setdefault(end, []).append(relation.other(app).app.name)
        none = Status("unknown", "", controller.clock.now())
        shown[remote.alias] = {
            "url": remote.url,
            "endpoints": {n: {"interface": e.interface, "role": e.role} for n, e in ends.items()},
            "life": "alive",
            "application-status": _shown(_application_status(app, none)),
            "relations": related,
        }
    return shown


def of_model(controller: Controller, model: Model) -> dict[str, Any]:
    """The document of `juju status --format json`."""
    now = controller.clock.now()
    document: dict[str, Any] = {
        "model": {
            "name": model.name,
            "type": "iaas",
            "controller": "rig",
            "cloud": "rig",
            "version": model.dialect.version,
            "model-status": _shown(Status("available", "", now)),
            "sla": "unsupported",
        },
        "machines": {
            str(m.number): _machine(controller, model, m) for m in model.machines.values()
        },
        "applications": {n: _application(controller, model, a) for n, a in model.apps.items()},
        "storage": {},
        "controller": {"timestamp": f"{now:%H:%M:%SZ}"},
    }
    if model.remotes:
        document["application-endpoints"] = _remotes(model, controller)
    if model.offers:
        document["offers"] = {n: _offer(controller, model, o) for n, o in model.offers.items()}
    return document


def _relation_info(unit: Unit, relation: Relation) -> dict[str, Any]:
    side, other = relation.side(unit.app), relation.other(unit.app)
    members = [m for m in relation.members if m.app is other.app and m is not unit]
    return {
        "relation-id": side.id,
        "endpoint": side.endpoint.name,
        "cross-model": relation.cross_model,
        "related-endpoint": other.endpoint.name,
        "application-data": dict(relation.app_bag(other.app).data),
        "local-unit": {
            "in-scope": unit in relation.members,
            "data": dict(relation.unit_bags[unit].data),
        },
        "related-units": {
            relation.name_of(m, unit.app): {
                "in-scope": True,
                "data": dict(relation.unit_bags[m].data),
            }
            for m in members
        },
    }


def of_unit(controller: Controller, unit: Unit) -> dict[str, Any]:
    """One unit's entry in `juju show-unit --format json`."""
    return {
        "machine": str(unit.machine.number),
        "opened-ports": sorted(unit.ports),
        "public-address": unit.address,
        "charm": f"local:{unit.app.charm.name}-{unit.app.revision}",
        "leader": unit.is_leader,
        "life": "dying" if unit.dying else "alive",
        "relation-info": [_relation_info(unit, r) for r in unit.uniter.local.views],
    }

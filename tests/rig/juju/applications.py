"""deploy, refresh, config, trust, expose, add-unit, remove-unit, remove-application, resolved."""

from __future__ import annotations

from typing import Any

from rig.charms import Charm
from rig.errors import JujuError, UsageError
from rig.juju.command import FORMAT, Reply, Request, Verb
from rig.state import Application, Model, Relation, Side, Unit


def deploy(request: Request) -> Reply:
    """Deploy a local charm."""
    model, charm = request.model, Charm.load(request.path(request.words[0]))
    name = request.words[1] if len(request.words) > 1 else charm.name
    if name in model.apps or name in model.remotes:
        raise JujuError(f'cannot add application "{name}": application "{name}" already exists')
    app = Application(model.name, name, charm, trusted=request.on("trust"))
    app.settings = _settings(request, charm, request.repeated.get("config", []))
    to = request.text("to")
    if to and (not to.isdigit() or "num-units" in request.options):
        raise UsageError("the rig places single units on machines by number: --to N")
    if to:
        model.machine(to)
    model.apps[name] = app
    add_peers(model, app)
    request.controller.add_units(model, app, request.number("num-units", 1), to)
    base = charm.bases[0]
    text = (
        f'Deploying "{name}" from local charm "{charm.name}", on {base["name"]}@{base["channel"]}'
    )
    return Reply("", text + "\n")


def add_peers(model: Model, app: Application) -> None:
    """Relate an application to itself, as Juju does for peer endpoints on its own."""
    have = {r.side(app).endpoint.name for r in model.relations_of(app) if r.is_peer}
    for endpoint in app.charm.endpoints.values():
        if endpoint.role == "peer" and endpoint.name not in have:
            side = Side(app, endpoint, model.relation_id(), app.name)
            model.relations.append(Relation((side,)))


def _settings(request: Request, charm: Charm, pairs: list[str]) -> dict[str, Any]:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"the rig takes options as name=value, not {pair!r}")
        if value.startswith("@"):
            value = request.path(value[1:]).read_text()
        settings[name] = charm.parse_option(name, value)
    return settings


def config(request: Request) -> Reply:
    """Show or change options; several changes at once make one config-changed."""
    app = request.model.app(request.words[0])
    pairs, reset = request.words[1:], [n for n in request.text("reset").split(",") if n]
    if not reset and (not pairs or (len(pairs) == 1 and "=" not in pairs[0])):
        return _show_config(request, app, pairs)
    for name in reset:
        if name not in app.charm.options:
            raise JujuError(f'unknown option "{name}"')
    settings = _settings(request, app.charm, pairs)
    app.settings = {k: v for k, v in app.settings.items() if k not in reset} | settings
    request.controller.changed.notify_all()
    return Reply()


def _show_config(request: Request, app: Application, asked: list[str]) -> Reply:
    values = app.options()
    if asked:
        if asked[0] not in app.charm.options:
            raise JujuError(
                f'key "{asked[0]}" not found in "{app.name}" application config or charm settings.'
            )
        return Reply(f"{values.get(asked[0], '')}\n")
    shown = {}
    for name, body in app.charm.options.items():
        entry = {"description": body.get("description", ""), "type": body.get("type", "string")}
        entry["source"] = "unset"
        if body.get("default") is not None:
            entry |= {"default": body["default"], "source": "default"}
        if name in app.settings:
            entry["source"] = "user"
        if name in values:
            entry["value"] = values[name]
        shown[name] = entry
    trust = {
        "default": False,
        "description": "Does this application have access to trusted credentials",
        "source": "user" if app.trusted else "default",
        "type": "bool",
        "value": app.trusted,
    }
    return request.document(
        {
            "application": app.name,
            "application-config": {"trust": trust},
            "charm": app.charm.name,
            "settings": shown,
        }
    )


def refresh(request: Request) -> Reply:
    """Replace the charm of an application with another local one."""
    model, app = request.model, request.model.app(request.words[0])
    if not request.text("path"):
        raise UsageError("the rig refreshes from a local charm: --path FILE")
    charm = Charm.load(request.path(request.text("path")))
    if charm.name != app.charm.name:
        raise JujuError(f'cannot upgrade "{app.name}" to "{charm.name}"')
    for relation in model.relations_of(app):
        endpoint = relation.side(app).endpoint
        if charm.endpoints.get(endpoint.name) != endpoint and not relation.is_peer:
            raise JujuError(
                f'cannot upgrade application "{app.name}": would break relation "{endpoint.name}"'
            )
    settings = _settings(request, charm, request.repeated.get("config", []))
    app.settings = {k: v for k, v in app.settings.items() if k in charm.options} | settings
    app.charm, app.revision = charm, app.revision + 1
    app.trusted = app.trusted or request.on("trust")
    app.force_upgrade = request.on("force-units")
    add_peers(model, app)
    request.controller.changed.notify_all()
    return Reply("", f'Added local charm "{charm.name}", revision {app.revision}, to the model\n')


def trust(request: Request) -> Reply:
    """Give or take trust; units see it as config-changed."""
    request.model.app(request.words[0]).trusted = not request.on("remove")
    request.controller.changed.notify_all()
    return Reply()


def expose(request: Request) -> Reply:
    """Mark as exposed; the rig has no firewall."""
    request.model.app(request.words[0]).exposed = True
    return Reply()


def unexpose(request: Request) -> Reply:
    """Mark as not exposed."""
    request.model.app(request.words[0]).exposed = False
    return Reply()


def add_unit(request: Request) -> Reply:
    """Add units to an application."""
    app = request.model.app(request.words[0])
    if app.dying:
        raise JujuError(f'cannot add unit to application "{app.name}": application is not alive')
    count, to = request.number("num-units", 1), request.text("to")
    if to and count > 1:
        raise UsageError("the rig places single units on machines by number: --to N")
    request.controller.add_units(request.model, app, count, to)
    return Reply()


def _destroy(unit: Unit) -> None:
    unit.dying = True


def remove_unit(request: Request) -> Reply:
    """Remove units: they tear down by their hooks."""
    units = [request.model.unit(name) for name in request.words]
    for unit in units:
        _destroy(unit)
    request.controller.changed.notify_all()
    return Reply("".join(f"will remove unit {u.name}\n" for u in units))


def remove_application(request: Request) -> Reply:
    """Remove applications with all of their units and relations."""
    model = request.model
    for app in [model.app(name) for name in request.words]:
        if any(o.app is app for o in model.offers.values()):
            raise JujuError(
                f'cannot destroy application "{app.name}": application is used by 1 offer'
            )
        app.dying = True
        for relation in model.relations_of(app):
            if not relation.is_peer:
                relation.dying = True
                request.controller.reap(relation)
        for unit in app.units.values():
            _destroy(unit)
        if not app.units:
            request.controller.remove_app(model, app)
    request.controller.changed.notify_all()
    return Reply("".join(f"will remove application {n}\n" for n in request.words))


def resolved(request: Request) -> Reply:
    """Retry or skip a failed hook."""
    for name in request.words:
        request.model.unit(name).uniter.resolve(retry=not request.on("no-retry"))
    return Reply()


UNITS = {"--num-units": "num-units", "-n": "num-units", "--to": "to"}
NO_PROMPT = {"--no-prompt": "no-prompt", "--destroy-storage": "destroy-storage"}
VERBS = (
    Verb(
        ("deploy",),
        deploy,
        options={**UNITS, "--base": "base", "--constraints": "constraints"},
        switches={"--trust": "trust", "--force": "force"},
        repeated={"--config": "config"},
        words=(1, 2),
    ),
    Verb(
        ("refresh", "upgrade-charm"),
        refresh,
        options={"--path": "path"},
        switches={
            "--trust": "trust",
            "--force": "force",
            "--force-base": "force-base",
            "--force-units": "force-units",
        },
        repeated={"--config": "config"},
        words=(1, 1),
    ),
    Verb(("config",), config, options={**FORMAT, "--reset": "reset"}, words=(1, 1000)),
    Verb(("trust",), trust, switches={"--remove": "remove"}, words=(1, 1)),
    Verb(("expose",), expose, words=(1, 1)),
    Verb(("unexpose",), unexpose, words=(1, 1)),
    Verb(("add-unit",), add_unit, options=UNITS, words=(1, 1)),
    Verb(("remove-unit",), remove_unit, switches=NO_PROMPT, words=(1, 1000)),
    Verb(("remove-application",), remove_application, switches=NO_PROMPT, words=(1, 1000)),
    Verb(("resolved", "resolve"), resolved, switches={"--no-retry": "no-retry"}, words=(1, 1000)),
)

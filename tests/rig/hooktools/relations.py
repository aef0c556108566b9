"""relation-ids, relation-list, relation-get, relation-set, relation-model-get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rig.errors import JujuError, UsageError
from rig.hooktools.command import Call, Tool, file_values, key_values
from rig.operations import BROKEN
from rig.state import Application, Relation, Unit

if TYPE_CHECKING:
    from rig.hookcontext import HookContext

REFERENCE = {"-r": "relation", "--relation": "relation"}


def find(context: HookContext, call: Call) -> Relation:
    """The relation that `-r` names, else the hook's own."""
    given = call.text("relation")
    if not given:
        if context.relation is None:
            raise UsageError("no relation id specified")
        return context.relation
    number = given.rpartition(":")[2]
    for relation in context.unit.uniter.local.views:
        side = relation.side(context.unit.app)
        if str(side.id) == number and given in (number, side.key):
            return relation
    raise UsageError(f'invalid value "{given}" for option -r: relation not found')


def relation_ids(context: HookContext, call: Call) -> list[str]:
    """Relations of an endpoint; the one being broken is not among them."""
    endpoint = call.word(0)
    if not endpoint:
        if context.relation is None:
            raise UsageError("no endpoint name specified")
        endpoint = context.relation.side(context.unit.app).endpoint.name
    broken = context.relation if context.hook and context.hook.kind == BROKEN else None
    sides = [r.side(context.unit.app) for r in context.unit.uniter.local.views if r is not broken]
    return sorted(s.key for s in sides if s.endpoint.name == endpoint)


def relation_list(context: HookContext, call: Call) -> list[str] | str:
    """Remote units that the unit was told of, or the remote application."""
    relation = find(context, call)
    if call.on("app"):
        return relation.app_seen_by(context.unit.app)
    members = context.unit.uniter.local.views[relation].members
    return sorted(relation.name_of(u, context.unit.app) for u in members)


def relation_get(context: HookContext, call: Call) -> Any:
    """A databag, or one value of it; None for a key that is not there."""
    relation, unit = find(context, call), context.unit
    owner = _owner(context, relation, call)
    own_app_only = owner is unit.app and not relation.is_peer
    if own_app_only and not unit.is_leader:
        raise JujuError("permission denied")
    data, key = context.bag(relation, owner), call.word(0, "-")
    return data if key in ("-", "") else data.get(key)


def _owner(context: HookContext, relation: Relation, call: Call) -> Unit | Application:
    """Whose databag a relation-get means: a unit's or an application's."""
    unit, target = context.unit, call.word(1)
    within = relation is context.relation
    remote_app = relation.app_seen_by(unit.app)
    if call.on("app"):
        name = target.partition("/")[0] or remote_app
    else:
        name = target or (context.remote_unit or context.remote_app if within else "")
        if not name:
            raise UsageError("no unit or application specified")
    if "/" not in name:
        if name == unit.app.name and relation.has(unit.app):
            return unit.app
        if name != remote_app:
            raise JujuError("permission denied")
        return relation.other(unit.app).app
    found = relation.find_unit(name, unit)
    if found is None or (found.app is unit.app and found is not unit and not relation.is_peer):
        side = relation.side(unit.app)
        raise JujuError(
            f'cannot read settings for unit "{name}" in relation "{side.key}": '
            f'unit "{name}": settings not found'
        )
    return found


def relation_set(context: HookContext, call: Call) -> None:
    """Buffer writes to the unit's own or its application's databag; an empty value deletes."""
    relation, unit = find(context, call), context.unit
    owner: Unit | Application = unit.app if call.on("app") else unit
    if owner is unit.app and not unit.is_leader:
        raise JujuError("cannot write relation settings")
    data = dict(context.bag(relation, owner))
    for key, value in (file_values(call) | key_values(call.words)).items():
        if value:
            data[key] = value
        else:
            data.pop(key, None)
    context.writes[relation, owner] = data


def relation_model_get(context: HookContext, call: Call) -> dict[str, str]:
    """The UUID of the model that the remote application is in."""
    app = find(context, call).other(context.unit.app).app
    return {"uuid": context.controller.models[app.model].uuid}


APP = {"--app": "app"}
TOOLS = (
    Tool("relation-ids", relation_ids, words=(0, 1), prints=True),
    Tool("relation-list", relation_list, options=REFERENCE, switches=APP, prints=True),
    Tool("relation-get", relation_get, options=REFERENCE, switches=APP, words=(0, 2), prints=True),
    Tool(
        "relation-set",
        relation_set,
        options={**REFERENCE, "--file": "file"},
        switches=APP,
        words=(0, 1000),
    ),
    Tool("relation-model-get", relation_model_get, options=REFERENCE, prints=True),
)

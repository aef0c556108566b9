"""integrate (relate, add-relation) and remove-relation, within a model and across models."""

from __future__ import annotations

import dataclasses

from rig.charms import Endpoint
from rig.errors import JujuError
from rig.juju.command import Reply, Request, Verb
from rig.juju.offers import consume_url
from rig.state import Application, Model, Relation, RemoteApplication, Side


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One end that a word on the command line may mean."""

    name: str
    endpoint: Endpoint
    app: Application
    remote: RemoteApplication | None = None

    def __str__(self) -> str:
        return f"{self.name}:{self.endpoint.name}"


def _candidates(model: Model, word: str) -> list[Candidate]:
    name, _, wanted = word.partition(":")
    if name in model.remotes:
        remote = model.remotes[name]
        app = remote.offer.app
        found = [
            Candidate(name, app.charm.endpoints[e], app, remote) for e in remote.offer.endpoints
        ]
    else:
        app = model.app(name)
        found = [Candidate(name, e, app) for e in app.charm.endpoints.values()]
    chosen = [c for c in found if wanted in ("", c.endpoint.name)]
    if wanted and not chosen:
        raise JujuError(f'application "{name}" has no "{wanted}" relation')
    return chosen


def find_pair(model: Model, first: str, second: str) -> tuple[Candidate, Candidate]:
    """The one pair of endpoints that two words mean; JujuError when there is none or several."""
    pairs = [
        (a, b)
        for a in _candidates(model, first)
        for b in _candidates(model, second)
        if a.endpoint.interface == b.endpoint.interface
        and {a.endpoint.role, b.endpoint.role} == {"provider", "requirer"}
    ]
    if not pairs:
        raise JujuError("no relations found")
    if len(pairs) > 1:
        options = "; ".join(f'"{a} {b}"' for a, b in pairs)
        raise JujuError(f'ambiguous relation: "{first} {second}" could refer to {options}')
    a, b = pairs[0]
    if a.remote and b.remote:
        raise JujuError("cannot add relation between two remote applications")
    if a.app is b.app:
        raise JujuError("the rig does not relate an application to itself")
    return a, b


def existing(model: Model, a: Candidate, b: Candidate) -> Relation | None:
    """The relation between two ends, if there is one."""
    wanted = {(a.app, a.endpoint.name), (b.app, b.endpoint.name)}
    for relation in model.relations:
        if {(s.app, s.endpoint.name) for s in relation.sides} == wanted:
            return relation
    return None


def integrate(request: Request) -> Reply:
    """Relate two applications."""
    model = request.model
    words = [consume_url(request.controller, model, word) for word in request.words]
    a, b = find_pair(model, *words)
    if existing(model, a, b):
        raise JujuError(f'cannot add relation "{a} {b}": relation {a} {b} already exists')
    for end in (a, b):
        if end.app.dying:
            raise JujuError(
                f'cannot add relation "{a} {b}": application "{end.name}" is not alive'
            )
        _check_limit(request, end)
    offered, local = (a, b) if a.remote else (b, a)
    remote = offered.remote
    if remote is None:
        number = model.relation_id()
        sides = tuple(Side(c.app, c.endpoint, number, c.app.name) for c in (a, b))
        model.relations.append(Relation(sides))
    else:
        there = request.controller.models[offered.app.model]
        far = Side(offered.app, offered.endpoint, there.relation_id(), remote.alias)
        near = Side(local.app, local.endpoint, model.relation_id(), remote.consumer_name)
        relation = Relation((far, near), cross_model=True)
        model.relations.append(relation)
        there.relations.append(relation)
    request.controller.changed.notify_all()
    return Reply()


def _check_limit(request: Request, end: Candidate) -> None:
    model = request.controller.models[end.app.model]
    sides = [r.side(end.app) for r in model.relations_of(end.app)]
    used = sum(s.endpoint.name == end.endpoint.name for s in sides)
    if end.endpoint.limit is not None and used >= end.endpoint.limit:
        raise JujuError(
            f'establishing a new relation for "{end}" would exceed its maximum relation limit '
            f"of {end.endpoint.limit}"
        )


def remove_relation(request: Request) -> Reply:
    """Break a relation: it dies when the last unit has left it."""
    model = request.model
    a, b = find_pair(model, *request.words)
    relation = existing(model, a, b)
    if relation is None or relation.dying:
        raise JujuError(f'relation "{a} {b}" not found')
    relation.dying = True
    request.controller.reap(relation)
    request.controller.changed.notify_all()
    return Reply()


VERBS = (
    Verb(("integrate", "relate", "add-relation"), integrate, words=(2, 2)),
    Verb(("remove-relation",), remove_relation, words=(2, 2)),
)

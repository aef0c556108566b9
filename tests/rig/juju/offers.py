"""offer, consume, offers, remove-offer, remove-saas: relations across models."""

from __future__ import annotations

import re
import uuid

from rig.controller import Controller
from rig.errors import JujuError
from rig.juju.command import FORMAT, Reply, Request, Verb
from rig.state import Model, Offer, RemoteApplication

URL = re.compile(r"(?:rig:)?(?:admin/)?([^./:]+)\.([^./:]+)")


def offer(request: Request) -> Reply:
    """Offer endpoints of an application: `[admin/][model.]app:endpoint[,endpoint…] [name]`."""
    target, _, endpoints = request.words[0].partition(":")
    model_name, _, app_name = target.rpartition(".")
    model = request.controller.model(model_name or request.model_name or None)
    app = model.app(app_name)
    chosen = tuple(e for e in endpoints.split(",") if e)
    if not chosen:
        raise JujuError("an offer must at least specify application endpoint")
    for endpoint in chosen:
        if endpoint not in app.charm.endpoints:
            raise JujuError(f'application "{app.name}" has no "{endpoint}" relation')
    name = request.words[1] if len(request.words) > 1 else app.name
    model.offers[name] = Offer(name, app, chosen)
    url = f"admin/{model.name}.{name}"
    text = f'Application "{app.name}" endpoints {list(chosen)} available at "{url}"'
    return Reply("", text + "\n")


def find(controller: Controller, url: str) -> tuple[Model, Offer]:
    """The offer that `[controller:][user/]model.name` means."""
    match = URL.fullmatch(url)
    model = controller.models.get(match.group(1)) if match else None
    found = model.offers.get(match.group(2)) if match and model else None
    if model is None or found is None:
        raise JujuError(f'application offer "{url}" not found')
    return model, found


def _consume(controller: Controller, model: Model, url: str, alias: str) -> RemoteApplication:
    there, found = find(controller, url)
    if there is model:
        raise JujuError("cannot consume an offer of the same model")
    name = alias or found.name
    if name in model.apps:
        raise JujuError(f'saas application called "{name}" already exists')
    known = model.remotes.get(name)
    if known and known.offer is not found:
        raise JujuError(f'saas application called "{name}" from a different offer already exists')
    if not known:
        full = f"rig:admin/{there.name}.{found.name}"
        known = RemoteApplication(name, found, full, f"remote-{uuid.uuid4().hex}")
        model.remotes[name] = known
    return known


def consume(request: Request) -> Reply:
    """Make another model's offer usable here, under its own name or an alias."""
    alias = request.words[1] if len(request.words) > 1 else ""
    made = _consume(request.controller, request.model, request.words[0], alias)
    return Reply("", f"Added {made.url} as {made.alias}\n")


def consume_url(controller: Controller, model: Model, word: str) -> str:
    """For `integrate`: consume the offer that a URL names; other words stay as they are."""
    if "." not in word:
        return word
    return _consume(controller, model, word, "").alias


def offers(request: Request) -> Reply:
    """Offers of the model."""
    shown = {}
    for found in request.model.offers.values():
        ends = {
            e: {
                "interface": found.app.charm.endpoints[e].interface,
                "role": found.app.charm.endpoints[e].role,
            }
            for e in found.endpoints
        }
        url = f"admin/{request.model.name}.{found.name}"
        shown[found.name] = {"application": found.app.name, "offer-url": url, "endpoints": ends}
    return request.document(shown)


def _connections(controller: Controller, found: Offer) -> list[RemoteApplication]:
    return [
        remote
        for model in controller.models.values()
        for remote in model.remotes.values()
        if remote.offer is found
        and any(r.has(found.app) and r.cross_model for r in model.relations)
    ]


def remove_offer(request: Request) -> Reply:
    """Withdraw an offer that nobody is related to."""
    for word in request.words:
        if "." in word:
            model, found = find(request.controller, word)
        elif word in request.model.offers:
            model, found = request.model, request.model.offers[word]
        else:
            raise JujuError(f'application offer "{word}" not found')
        if _connections(request.controller, found):
            raise JujuError(f'offer "{found.name}" has relations: remove them first')
        del model.offers[found.name]
    return Reply()


def remove_saas(request: Request) -> Reply:
    """Forget a consumed offer; its relations break."""
    model = request.model
    for alias in request.words:
        if alias not in model.remotes:
            raise JujuError(f'saas application "{alias}" not found')
        remote = model.remotes.pop(alias)
        for relation in list(model.relations):
            if relation.cross_model and relation.has(remote.offer.app):
                relation.dying = True
                request.controller.reap(relation)
    request.controller.changed.notify_all()
    return Reply()


VERBS = (
    Verb(("offer",), offer, options={"--controller": "controller"}, words=(1, 2), of_model=False),
    Verb(("consume",), consume, words=(1, 2)),
    Verb(("offers", "list-offers"), offers, options=FORMAT),
    Verb(
        ("remove-offer",),
        remove_offer,
        switches={"--no-prompt": "no-prompt", "-y": "no-prompt"},
        words=(1, 100),
    ),
    Verb(("remove-saas",), remove_saas, words=(1, 100)),
)

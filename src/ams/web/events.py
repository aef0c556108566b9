"""`/1.0/events`: what happens in the service, over a websocket."""

from __future__ import annotations

from flask import Response, request

from ams.events import TYPES, EventType
from ams.web import websocket
from ams.web.access import blueprint as new_blueprint
from ams.web.access import service
from ams.web.contract import Parameter, Websocket, promises
from regkit.errors import Invalid

blueprint = new_blueprint("events")


@websocket.route(blueprint, "/events")
@promises(
    Websocket(),
    parameters=(
        Parameter("type", f"Which events, separated by commas: {', '.join(TYPES)}; none: all."),
    ),
)
def listen() -> Response:
    """Send every event from now on.

    Operations are told when they begin, change and end; lifecycle events when something has
    happened to an application, a version, an option, a certificate or the sync with the registry.
    A listener that falls behind is disconnected, and so is one that isn't trusted any more.
    """
    types = _types()
    events = service().events
    return websocket.Stream(lambda: events.subscribe(types))


def _types() -> tuple[EventType, ...]:
    asked = [word for part in request.args.getlist("type") for word in part.split(",")]
    words = {word.strip() for word in asked} - {""}
    if unknown := sorted(words.difference(TYPES)):
        raise Invalid(f"type: {unknown[0][:40]!r} events are not sent: use {' or '.join(TYPES)}")
    return tuple(kind for kind in TYPES if not words or kind in words)

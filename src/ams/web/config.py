"""`/1.0/config`: the options over the API."""

from __future__ import annotations

from flask import Response
from pydantic import BaseModel, ConfigDict, Field

from ams.web import inputs
from ams.web.access import blueprint as new_blueprint
from ams.web.access import service
from ams.web.answers import done
from regkit import rest

blueprint = new_blueprint("config")


class Change(BaseModel):
    """The body of PATCH. An empty value restores the default."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=255)
    value: str


@blueprint.get("/config")
def show() -> Response:
    """Return every option with its value; of a secret only whether it is set."""
    return rest.sync({"config": service().options.show()})


@blueprint.patch("/config")
def change() -> Response:
    """Set one option."""
    body = inputs.json_body(Change)
    service().options.set(body.name, body.value)
    return done(f"Setting {body.name}", {})

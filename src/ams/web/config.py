"""`/1.0/config`: the options over the API, one by one and as what an owner manages."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from aar_interface import Certificate, InvalidCertificate
from ams.options import Managed
from ams.web import documents, inputs
from ams.web.access import blueprint as new_blueprint
from ams.web.access import service
from ams.web.answers import done
from ams.web.contract import Async, Body, Sync, promises
from regkit import rest

blueprint = new_blueprint("config")


class Change(BaseModel):
    """The body of PATCH. An empty value restores the default."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=255)
    value: str


def _text(value: Any) -> str:
    """What `amc config set` would be given."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise ValueError("must be a text, a whole number, true or false")


def _certificate(value: Any) -> Certificate:
    if not isinstance(value, str):
        raise ValueError("must be a text: a certificate in PEM")  # noqa: TRY004 - pydantic's way
    try:
        return Certificate.parse(value)
    except InvalidCertificate as error:
        raise ValueError(str(error)) from None


class ManagedConfig(BaseModel):
    """The body of PUT: all that an owner wants. What it leaves out, it wants no longer."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    config: dict[str, Annotated[str, BeforeValidator(_text)]] = Field(
        default_factory=dict, description="Options by name."
    )
    certificates: list[
        Annotated[
            Certificate,
            BeforeValidator(_certificate),
            WithJsonSchema({"type": "string", "description": "PEM."}),
        ]
    ] = Field(default_factory=list, description="Certificates to trust.")

    @model_validator(mode="after")
    def _says_something(self) -> ManagedConfig:
        if not self.model_fields_set:
            raise ValueError("give config, certificates or both, empty ones for nothing")
        return self


@blueprint.get("/config")
@promises(Sync(documents.Config))
def show() -> Response:
    """Return every option with its value; of a secret only whether it is set."""
    return rest.sync({"config": service().options.show()})


@blueprint.patch("/config")
@promises(Async(), body=Body(Change), faults=(409, 413))
def change() -> Response:
    """Set one option."""
    body = inputs.json_body(Change)
    service().options.set(body.name, body.value)
    return done(f"Setting {body.name}", {})


@blueprint.get("/config/origins")
@promises(Sync(documents.ConfigOrigins))
def origins() -> Response:
    """Say of every option who set it: `default`, `manual` or the name of its owner."""
    return rest.sync({"origins": service().options.origins()})


@blueprint.get("/config/managed/<owner>")
@promises(Sync(documents.ManagedOptions))
def show_managed(owner: str) -> Response:
    """Return what an owner manages; of a secret only whether it is set."""
    managed = service().options.managed_by(owner)
    return rest.sync(
        {
            "config": dict(managed.config),
            "certificates": [certificate.pem for certificate in managed.certificates],
        }
    )


@blueprint.put("/config/managed/<owner>")
@promises(Sync(documents.AppliedConfig), body=Body(ManagedConfig), faults=(409, 413))
def apply_managed(owner: str) -> Response:
    """Make what an owner manages exactly this, or nothing of it; say what changed."""
    body = inputs.json_body(ManagedConfig)
    applied = service().options.apply(owner, Managed(body.config, tuple(body.certificates)))
    certificates = {
        name: [str(fingerprint) for fingerprint in getattr(applied.certificates, name)]
        for name in ("added", "removed", "kept", "unchanged")
    }
    return rest.sync({"changed": list(applied.changed), "certificates": certificates})

"""`/1.0/swagger.json`: the API described in OpenAPI 3.1, made from the routes and their contracts.

Nothing is written here that the code says elsewhere: paths and methods are Flask's, words are the
views' docstrings, shapes the types of `documents` and of the request bodies.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from flask import Flask, Response
from pydantic import TypeAdapter
from werkzeug.routing import Rule

from ams.web import documents
from ams.web.access import blueprint as new_blueprint
from ams.web.access import is_open
from ams.web.contract import (
    Answer,
    Async,
    Body,
    Contract,
    File,
    Sync,
    Websocket,
    contract_of,
    promises,
)
from ams.web.root import API_VERSION
from ams.web.routes import register

blueprint = new_blueprint("swagger")

JSON = "application/json"
IMPLIED = (400, 403, 500, 503)
"""Error codes of any view: a request that can't be read, a caller who may not, faults of ours."""
METHODS = ("get", "put", "post", "patch", "delete")
PATH_PARAMETERS = {
    "id_or_name": "An application's id or its name.",
    "number": "A version's number.",
    "operation_id": "An operation's id.",
    "prefix": "A certificate's fingerprint, or the beginning of it.",
    "owner": "Who manages the options, such as `juju`.",
}
_SCHEMAS = "#/components/schemas/"


@blueprint.get("/swagger.json")
@promises(File(JSON))
def swagger() -> Response:
    """Return this description."""
    return Response(_text(), mimetype=JSON)


def document() -> dict[str, Any]:
    """Return the OpenAPI document of the API. Raises LookupError for a route without contract."""
    app = Flask("ams", static_folder=None)
    register(app)
    app.register_blueprint(blueprint)
    routes = sorted(_routes(app), key=lambda route: (route[0], METHODS.index(route[1])))
    types = _Types([contract for *_, contract in routes])
    paths: dict[str, dict[str, Any]] = {}
    for path, method, rule, contract in routes:
        view = app.view_functions[rule.endpoint]
        paths.setdefault(path, {})[method] = {
            "operationId": rule.endpoint,
            "tags": [rule.endpoint.partition(".")[0]],
            **_words(view),
            **({"security": [{}]} if is_open(view) else {}),
            "parameters": [*_path_parameters(rule), *_parameters(contract)],
            **({"requestBody": _body(contract.body, types)} if contract.body else {}),
            "responses": _responses(contract, types),
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Application management service",
            "version": API_VERSION,
            "description": inspect.cleandoc(
                """
                The API of the management service, on its unix socket and, over mutual TLS, on
                port 8444. Every answer but a file is an envelope. A change is answered with an
                operation, which has ended already when the change took no time.
                """
            ),
        },
        "security": [{"certificate": []}],
        "paths": paths,
        "components": {
            "schemas": types.schemas,
            "securitySchemes": {
                "certificate": {
                    "type": "mutualTLS",
                    "description": "A client certificate that is in the service's trust store.",
                }
            },
        },
    }


@cache
def _text() -> str:
    return json.dumps(document())


def _routes(app: Flask) -> Iterator[tuple[str, str, Rule, Contract]]:
    for rule in app.url_map.iter_rules():
        if rule.websocket:
            continue  # each has a twin that tells who asks without one
        contract = contract_of(app.view_functions[rule.endpoint])
        if contract is None:
            raise LookupError(
                f"{rule.rule} ({rule.endpoint}) has no contract: see ams.web.contract"
            )
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            yield path, method.lower(), rule, contract


def _words(view: Any) -> dict[str, str]:
    summary, _, description = (inspect.getdoc(view) or "").partition("\n\n")
    words = {"summary": summary}
    return {**words, "description": description} if description else words


def _path_parameters(rule: Rule) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"<(?:\w+:)?(\w+)>", rule.rule):
        is_number = f"<int:{name}>" in rule.rule
        schema = {"type": "integer", "minimum": 0} if is_number else {"type": "string"}
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": PATH_PARAMETERS[name],
            "schema": schema,
        }


def _parameters(contract: Contract) -> Iterator[dict[str, Any]]:
    for parameter in contract.parameters:
        yield {
            "name": parameter.name,
            "in": parameter.where,
            "description": parameter.description,
            "schema": dict(parameter.schema),
        }


def _body(body: Body, types: _Types) -> dict[str, Any]:
    content: dict[str, Any] = {}
    required = False  # a JSON body that isn't there counts as an empty object
    if body.of is not None:
        content[JSON] = {"schema": types.of(body.of)}
        required = any(field.is_required() for field in body.of.model_fields.values())
    elif body.package:
        required = True
    if body.package:
        content["application/octet-stream"] = {"schema": {}}
    return {"content": content, "required": required}


def _responses(contract: Contract, types: _Types) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for answer in contract.answers:
        status, made = _response(answer, types)
        content = {**responses.get(status, {}).get("content", {}), **made.get("content", {})}
        responses[status] = {**made, **({"content": content} if content else {})}
    if contract.not_modified:
        responses["304"] = {"description": "It has the ETag that was given."}
    for code in sorted({*IMPLIED, *contract.faults}):
        responses[str(code)] = {
            "description": HTTPStatus(code).phrase,
            "content": {JSON: {"schema": {"$ref": _SCHEMAS + "Error"}}},
        }
    return responses


def _response(answer: Answer, types: _Types) -> tuple[str, dict[str, Any]]:
    if isinstance(answer, Websocket):
        return "101", {
            "description": "A websocket; each of its messages is an event as JSON.",
            "x-message": types.of(documents.Event),
        }
    if isinstance(answer, File):
        schema: dict[str, Any] = {"type": "object"} if answer.media_type == JSON else {}
        return "200", {
            "description": "The file.",
            "content": {answer.media_type: {"schema": schema}},
            **_headers(answer.headers),
        }
    if isinstance(answer, Async):
        return "202", {
            "description": "The operation that does it, or has done it.",
            "content": {JSON: {"schema": _envelope("async", types.of(documents.Operation))}},
            **_headers(("Location",)),
        }
    return "200", {
        "description": "Success.",
        "content": {JSON: {"schema": _envelope("sync", types.of(answer.of), total=answer.total)}},
        **_headers(answer.headers),
    }


def _headers(names: tuple[str, ...]) -> dict[str, Any]:
    made = {name: {"schema": {"type": "string"}, "required": True} for name in names}
    return {"headers": made} if made else {}


def _envelope(kind: str, metadata: Mapping[str, Any], *, total: bool = False) -> dict[str, Any]:
    """Return the schema of `regkit.rest`'s envelope around `metadata`."""
    is_sync = kind == "sync"
    properties: dict[str, Any] = {
        "type": {"const": kind},
        "status": {"const": "Success" if is_sync else "Operation created"},
        "status_code": {"const": 200 if is_sync else 100},
        "operation": {"const": ""} if is_sync else {"type": "string"},
        "error_code": {"const": 0},
        "error": {"const": ""},
        "metadata": dict(metadata),
    }
    if total:
        properties["total_size"] = {"type": "integer", "description": "Of the unpaged list."}
    return _closed(properties)


def _error() -> dict[str, Any]:
    return _closed(
        {
            "type": {"const": "error"},
            "status": {"const": ""},
            "status_code": {"const": 0},
            "operation": {"const": ""},
            "error_code": {"type": "integer", "description": "The HTTP status code."},
            "error": {"type": "string", "description": "One line: what is wrong, what to do."},
            "metadata": {},
        }
    )


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


class _Types:
    """The schemas of every type that the contracts name, made together so that names are one."""

    def __init__(self, contracts: list[Contract]) -> None:
        found: dict[str, Any] = {}
        for contract in contracts:
            bodies = [contract.body.of] if contract.body and contract.body.of else []
            answers = [answer.of for answer in contract.answers if isinstance(answer, Sync)]
            for kind in (*bodies, *answers, documents.Operation, documents.Event):
                found[str(kind)] = kind
        made, shared = TypeAdapter.json_schemas(
            [(key, "validation", TypeAdapter(kind)) for key, kind in found.items()],
            ref_template=_SCHEMAS + "{model}",
        )
        self._by_type = {key: made[key, "validation"] for key in found}
        self.schemas: dict[str, Any] = {**shared.get("$defs", {}), "Error": _error()}

    def of(self, kind: Any) -> dict[str, Any]:
        return dict(self._by_type[str(kind)])

"""Both REST APIs as one page: that of ams from its own OpenAPI document, aar's from its routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tools.reference import routes
from tools.reference.markdown import escaped, table

INTRODUCTION = """\
# REST APIs

- [Management service](#management-service), port 8444 and the unix socket
- [Registry](#registry), port 3000

Both speak HTTPS with mutual TLS: the SHA-256 of the client certificate, looked up in the service's
trust store at every request, says who is asking.

## Envelope

Every answer of `/1.0` but a file is a JSON object:

| key | of a result | of an operation | of an error |
|---|---|---|---|
| `type` | `sync` | `async` | `error` |
| HTTP status | 200 | 202 | 4xx, 5xx |
| `status`, `status_code` | `Success`, 200 | `Operation created`, 100 | empty, 0 |
| `operation` | empty | its URL, as in `Location` | empty |
| `error_code`, `error` | 0, empty | 0, empty | the HTTP status, and what is wrong in one line |
| `metadata` | the result | the operation | more about the error, or null |
| `total_size` | of a list, before paging | | |

Any request may be answered with 400 (it can't be read), 403 (the caller may not), 500 or 503.
"""

SERVICE = """\
## Management service

`GET /1.0/swagger.json` returns this description as OpenAPI, with the exact schemas. `{id_or_name}`
is an application's id or name, `{number}` a version's number, `{prefix}` the beginning of a
certificate's fingerprint. Requests marked *open* need no trusted certificate. On the unix socket
everybody who may open it is trusted.
"""

ABSENT = """\
### What the reference has beyond this

Instances, containers, nodes, images, addons and the like: 404, with an error that says that this
service runs nothing.
"""

REGISTRY = """\
## Registry

Reading needs a trusted certificate, everything but reading the role `publisher`.

### The registry's own API

Same envelope as above.
"""

DISTRIBUTION = """\
### OCI Distribution

The [OCI Distribution Specification 1.1](https://github.com/opencontainers/distribution-spec), with
its own error objects. A repository is called as the application where that is a valid name, else
`x--` and the name in base32hex. The tag `<number>-<architecture>` names one manifest, the tag
`<number>` the index over all architectures, which the registry keeps itself.
"""

IMPLIED = {"400", "403", "500", "503"}
_REF = "#/components/schemas/"


def page() -> str:
    """Return the page."""
    from ams.web import swagger  # noqa: PLC0415

    document = swagger.document()
    own, distribution = routes.tables()
    return "\n".join(
        [
            INTRODUCTION,
            SERVICE,
            *_operations(document),
            ABSENT,
            "### Types\n",
            *_types(document["components"]["schemas"]),
            REGISTRY,
            own,
            DISTRIBUTION,
            distribution,
        ]
    )


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"### {method.upper()} {path}\n"
            mark = "*Open.* " if operation.get("security") == [{}] else ""
            yield mark + escaped(operation["summary"]) + "\n"
            if description := operation.get("description"):
                yield escaped(description) + "\n"
            yield "\n".join([*_parameters(operation), *_body(operation), *_answers(operation)])
            yield ""


def _parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    """Name what may be given; parameters of one meaning share a line."""
    found: dict[tuple[str, str], list[str]] = {}
    for parameter in operation["parameters"]:
        if parameter["in"] != "path":
            key = (parameter["in"], parameter["description"])
            found.setdefault(key, []).append(parameter["name"])
    for (where, description), names in found.items():
        listed = ", ".join(f"`{name}`" for name in names)
        yield f"- {where} {listed}: {escaped(description)}"


def _body(operation: Mapping[str, Any]) -> Iterator[str]:
    if body := operation.get("requestBody"):
        kinds = [
            _type(content["schema"]) if content["schema"] else f"a package (`{media_type}`)"
            for media_type, content in body["content"].items()
        ]
        optional = "" if body["required"] else ", or nothing"
        yield f"- body: {' or '.join(kinds)}{optional}"


def _answers(operation: Mapping[str, Any]) -> Iterator[str]:
    faults: list[str] = []
    for status, response in operation["responses"].items():
        if int(status) >= 400:
            faults += [status] if status not in IMPLIED else []
            continue
        headers = ", ".join(f"`{name}`" for name in response.get("headers", ()))
        kinds = [_content(*item) for item in response.get("content", {}).items()]
        if message := response.get("x-message"):
            kinds = [f"a websocket of {_type(message)}"]
        answer = " or ".join(kinds) or escaped(response["description"])
        yield f"- {status}: {answer}" + (f"; headers {headers}" if headers else "")
    if faults:
        yield f"- errors: {', '.join(faults)}"


def _content(media_type: str, content: Mapping[str, Any]) -> str:
    schema = content["schema"]
    if "metadata" in schema.get("properties", {}):
        return _type(schema["properties"]["metadata"])
    return f"a file (`{media_type}`)"


def _types(schemas: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in schemas.items():
        if name == "Error":
            continue  # it is the envelope
        yield f"#### {name}\n"
        if description := schema.get("description"):
            yield escaped(description) + "\n"
        required = schema.get("required", ())
        rows = [
            (
                f"`{key}`",
                _type(part) + ("" if key in required else ", optional"),
                escaped(part.get("description", "")),
            )
            for key, part in schema.get("properties", {}).items()
        ]
        if rows:
            yield table(("key", "type", "meaning"), rows)


def _type(schema: Mapping[str, Any]) -> str:  # noqa: PLR0911 - one line for each kind
    if reference := schema.get("$ref"):
        name = reference.removeprefix(_REF)
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            # Null stands for absent, which `optional` says already.
            kinds = [_type(part) for part in schema[key] if part.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"object of {_type(values)}" if isinstance(values, dict) else "object"
    return str(kind or "anything")

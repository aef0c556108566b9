"""The published description of the API: whole, sound, and made from the code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from pydantic import BaseModel

from ams.web import contract, documents, patches, routes, swagger

DOCUMENT = swagger.document()


def every_operation() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_route_is_in_it() -> None:
    app = Flask("ams", static_folder=None)
    routes.register(app)
    served = {
        (
            rule.rule.replace("<int:", "{").replace("<", "{").replace(">", "}"),
            method.lower(),
        )
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(path, method) for path, method, _ in every_operation()}
    assert described == served | {("/1.0/swagger.json", "get")}
    assert len(described) >= 37


def test_a_route_without_contract_is_found() -> None:
    app = Flask("ams", static_folder=None)
    app.add_url_rule("/forgotten", view_func=lambda: "")
    with pytest.raises(LookupError, match="/forgotten"):
        list(swagger._routes(app))


def test_it_is_plain_json_and_always_the_same() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT == swagger.document()
    assert DOCUMENT["openapi"].startswith("3.1")


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    used: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                used.add(value["$ref"].removeprefix("#/components/schemas/"))
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(DOCUMENT)
    assert used <= set(schemas)
    # Bodies and answers that are no part of another are written out where they are used.
    assert not [name for name in schemas if "__" in name], "two types share a name"


def test_every_operation_is_described() -> None:
    names = [operation["operationId"] for _, _, operation in every_operation()]
    assert len(names) == len(set(names))
    for path, method, operation in every_operation():
        assert operation["summary"].endswith("."), (path, method)
        assert "\n" not in operation["summary"], (path, method)
        for parameter in operation["parameters"]:
            assert parameter["description"], (path, method, parameter["name"])
        assert {"400", "403", "500", "503"} <= set(operation["responses"])
        in_path = {part.strip("{}") for part in path.split("/") if part.startswith("{")}
        assert in_path == {p["name"] for p in operation["parameters"] if p["in"] == "path"}


def test_what_needs_no_certificate_says_so() -> None:
    opened = {(p, m) for p, m, operation in every_operation() if operation.get("security") == [{}]}
    assert opened == {
        ("/", "get"),
        ("/1.0", "get"),
        ("/1.0/version", "get"),
        ("/1.0/certificates", "post"),
    }


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_nothing_is_answered_that_is_not_described(name: str) -> None:
    schema = DOCUMENT["components"]["schemas"][name]
    if schema.get("type") == "object" and name != "NewCertificate":  # a body; others may add to it
        assert schema.get("additionalProperties") is False


def test_fields_may_be_spelled_both_ways_and_are_described_as_the_sdk_has_them() -> None:
    described = DOCUMENT["components"]["schemas"]["ApplicationPatch"]["properties"]
    assert set(described) == {
        "image", "instance-type", "tags", "addons", "resources", "inhibit_auto_updates",
        "services", "watchdog", "boot_activity", "required_permissions", "video_encoder",
        "manifest_version", "features", "hooks", "bootstrap", "node_selector",
    }  # fmt: skip
    for name, other in [("instance-type", "instance_type"), ("boot_activity", "boot-activity")]:
        key = name.replace("_", "-")
        for spelled in (name, other):
            wanted = patches.ApplicationPatch.model_validate({spelled: "x"}).wanted()
            assert wanted == {key: "x"}


def test_contracts_are_kept_at_the_views() -> None:
    class Asked(BaseModel):
        value: int

    @contract.promises(contract.Sync(documents.Task), body=contract.Body(Asked), faults=(404,))
    def view() -> None: ...

    found = contract.contract_of(view)
    assert found == contract.Contract(
        (contract.Sync(documents.Task),), body=contract.Body(Asked), faults=(404,)
    )
    assert contract.contract_of(lambda: None) is None

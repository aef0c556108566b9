"""Holds answers to the description that the service publishes of itself (`/1.0/swagger.json`)."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs


class Contract:
    """The OpenAPI document, and which of its operations were seen to answer."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.seen: set[tuple[str, str, int]] = set()
        # Literal segments first: /config/origins is no /config/{name}.
        templates = sorted(document["paths"], key=lambda path: (path.count("{"), path))
        self._paths = [(self._pattern(path), path) for path in templates]
        self._validators: dict[tuple[str, str, str], Any] = {}

    @property
    def operations(self) -> set[tuple[str, str]]:
        """Every (method, path) that is described."""
        return {
            (method.upper(), path)
            for path, methods in self.document["paths"].items()
            for method in methods
        }

    def check(
        self, method: str, path: str, status: int, headers: Any, body: bytes
    ) -> dict[str, Any] | None:
        """Fail unless the answer is as described; returns its JSON, if it is JSON."""
        template = self._template(path)
        described = self.document["paths"][template][method.lower()]["responses"]
        assert str(status) in described, f"{method} {template} may not answer {status}: {body!r}"
        self.seen.add((method, template, status))
        answer = described[str(status)]
        for name, header in answer.get("headers", {}).items():
            assert not header.get("required") or name in headers, f"{name} is missing"
        if "content" not in answer:
            assert not body
            return None
        media = headers["Content-Type"].partition(";")[0]
        assert media in answer["content"], f"{method} {template} answers {media}"
        if media != "application/json":
            return None
        document = json.loads(body)
        self._validator(template, method, str(status)).validate(document)
        return document

    def _template(self, path: str) -> str:
        bare = path.partition("?")[0]
        for pattern, template in self._paths:
            if pattern.fullmatch(bare):
                return template
        raise AssertionError(f"{path} is not described")

    def _pattern(self, path: str) -> re.Pattern[str]:
        kinds = {
            parameter["name"]: parameter["schema"].get("type")
            for methods in self.document["paths"][path].values()
            for parameter in methods["parameters"]
            if parameter["in"] == "path"
        }
        parts = re.split(r"\{(\w+)\}", path)
        return re.compile(
            "".join(
                re.escape(part)
                if index % 2 == 0
                else ("[0-9]+" if kinds[part] == "integer" else "[^/]+")
                for index, part in enumerate(parts)
            )
        )

    def _validator(self, template: str, method: str, status: str) -> Any:
        key = (template, method, status)
        if key not in self._validators:
            responses = self.document["paths"][template][method.lower()]["responses"]
            schema = responses[status]["content"]["application/json"]["schema"]
            whole = {**schema, "components": self.document["components"]}
            self._validators[key] = jsonschema_rs.Draft202012Validator(whole)
        return self._validators[key]

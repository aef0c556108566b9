"""The specification of the interface holds: its schemas, its examples, its tables, our code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aar_interface import Role
from aar_interface.certificates import MAX_BYTES
from aar_interface.databag import (
    MAX_TEXT,
    PROVIDER_FIELDS,
    REQUIRER_FIELDS,
    ProviderData,
    RequirerData,
)
from support.databags import certificate

ROOT = Path(__file__).parents[2]
README = (ROOT / "lib/aar_interface/interface/v1/README.md").read_text(encoding="utf-8")


def section(side: str) -> str:
    """What stands under "### <side>" of "## Relation Data"."""
    data = README.split("\n## Relation Data\n")[1]
    return data.split(f"\n### {side}\n")[1].split("\n### ")[0]


def block(side: str, language: str) -> str:
    """The only fenced block of that language in the section."""
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", section(side), re.DOTALL | re.MULTILINE)
    return text


SCHEMAS = {side: json.loads(block(side, "json")) for side in ("Provider", "Requirer")}
EXAMPLES = {side: yaml.safe_load(block(side, "yaml")) for side in ("Provider", "Requirer")}
FIELDS = {"Provider": PROVIDER_FIELDS, "Requirer": REQUIRER_FIELDS}
KINDS: dict[str, Any] = {"Provider": ProviderData, "Requirer": RequirerData}


def check(bag: Mapping[str, str], schema: dict[str, Any]) -> None:
    """Hold a databag to a schema; knows the keywords that the README uses and no others."""
    assert set(schema) == {"title", "type", "properties", "additionalProperties"}
    assert (schema["type"], schema["additionalProperties"]) == ("object", True)
    for name, rule in schema["properties"].items():
        assert set(rule) <= {"type", "pattern", "enum", "maxLength"}
        assert rule["type"] == "string"
        if name not in bag:
            continue
        value = bag[name]
        assert isinstance(value, str), name
        assert re.search(rule.get("pattern", ""), value, re.ASCII), name
        assert value in rule.get("enum", [value]), name
        assert len(value) <= rule.get("maxLength", MAX_BYTES), name


@pytest.mark.parametrize("side", SCHEMAS)
class TestReadme:
    def test_schema_and_table_name_our_fields(self, side: str) -> None:
        table = re.findall(r"^\| `([a-z]+)` \|", section(side), re.MULTILINE)
        assert tuple(table) == tuple(SCHEMAS[side]["properties"]) == FIELDS[side]

    def test_the_example_is_complete_and_fits_the_schema(self, side: str) -> None:
        assert tuple(EXAMPLES[side]) == FIELDS[side]
        check(EXAMPLES[side], SCHEMAS[side])

    def test_the_example_is_what_we_write(self, side: str) -> None:
        """Also its fingerprint, so that it is over the DER encoding."""
        assert KINDS[side].read(EXAMPLES[side]).write() == EXAMPLES[side]

    def test_the_limits_are_ours(self, side: str) -> None:
        rules = SCHEMAS[side]["properties"]
        assert rules["certificate"]["maxLength"] == MAX_BYTES
        assert {r["maxLength"] for n, r in rules.items() if "maxLength" in r and n == "url"} <= {
            MAX_TEXT
        }
        assert f"over {MAX_TEXT:,} characters (`certificate`: {MAX_BYTES:,})" in README

    def test_roles_are_ours(self, side: str) -> None:
        name = {"Provider": "role", "Requirer": "mode"}[side]
        assert SCHEMAS[side]["properties"][name]["enum"] == [role.value for role in Role]

    @pytest.mark.parametrize("field", sorted({*PROVIDER_FIELDS, *REQUIRER_FIELDS}))
    def test_the_schema_refuses_what_is_wrong(self, side: str, field: str) -> None:
        if field in FIELDS[side]:
            for wrong in ("", "Bad value\n", f"{EXAMPLES[side][field]} "):
                with pytest.raises(AssertionError, match=field):
                    check({**EXAMPLES[side], field: wrong}, SCHEMAS[side])


def test_reading_says_something_of_every_field() -> None:
    table = re.findall(r"^\| ((?:`[a-z]+`(?:, )?)+) \|", section("Reading"), re.MULTILINE)
    named = {name for cell in table for name in re.findall(r"`([a-z]+)`", cell)}
    assert named == {*PROVIDER_FIELDS, *REQUIRER_FIELDS}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    host=st.one_of(
        st.ip_addresses().map(str), st.from_regex(r"\A[A-Za-z]{1,63}(\.[a-z]{1,9})?\Z")
    ),
    port=st.integers(1, 65535),
    role=st.sampled_from(Role),
    architecture=st.from_regex(r"\A[a-z0-9]{1,32}\Z"),
)
def test_what_we_write_fits_the_schemas(
    host: str, port: int, role: Role, architecture: str
) -> None:
    ours = certificate("registry")
    check(ProviderData.at(ours, host, port, role).write(), SCHEMAS["Provider"])
    check(RequirerData.of(ours, role, architecture).write(), SCHEMAS["Requirer"])

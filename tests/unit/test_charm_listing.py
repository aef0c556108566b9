"""What a charm must have to be listed publicly, checked here before anybody reviews it.

Covers what charmlint, charmhub-listing-review and charmcraft's own linters check and can be
checked from the source; what is left out on purpose is in each charm's README under "Listing".
"""

from __future__ import annotations

import ast
import configparser
import hashlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml

from aar_interface import relation

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[2]
CHARMS = [ROOT / "charms" / "aar", ROOT / "charms" / "ams"]
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
APACHE_2 = (
    "fdae7ed259455ca9fa45939e7f25cbb4de29831cda16d9151de25a5f6e9d9be4"
    "3b053f4fd3b896026239fca77abce04f543d591c501ecf4ce18c854bc0a51660"
)
"""SHA-512 of the licence's text, stripped, by which the review knows it."""
SECRETS = ("password", "secret", "token", "credential", "private-key", "api-key")
ENGINES = {"database": "postgresql_client", "object-storage": "s3"}
"""Endpoints for what is shared, and their interfaces."""
TYPES = {"boolean", "float", "int", "secret", "string"}
PARAMETERS = {"array", "boolean", "integer", "number", "object", "string"}
KEYS = {
    *("name", "type", "title", "summary", "description", "platforms", "assumes", "parts"),
    *("peers", "provides", "requires", "config", "actions"),
}

each_charm = pytest.mark.parametrize("charm", CHARMS, ids=lambda path: path.name)


def metadata(charm: Path) -> dict[str, Any]:
    return yaml.safe_load((charm / "charmcraft.yaml").read_text())


def project(charm: Path) -> dict[str, Any]:
    return tomllib.loads((charm / "pyproject.toml").read_text())


def sources(charm: Path) -> dict[str, ast.Module]:
    return {path.name: ast.parse(path.read_text()) for path in sorted(charm.glob("src/*.py"))}


@each_charm
def test_it_says_what_it_is(charm: Path) -> None:
    found = metadata(charm)
    assert found["name"] == charm.name
    assert NAME.fullmatch(found["name"])
    assert found["type"] == "charm"
    assert set(found) <= KEYS, "a key that is misspelt or no longer used"
    for field in ("title", "summary", "description"):
        assert found[field].strip()
    assert len(found["summary"]) <= 78
    assert "juju >= 3.6" in found["assumes"]


@each_charm
def test_it_is_packed_for_what_it_can_run_on(charm: Path) -> None:
    platforms = metadata(charm)["platforms"]
    assert set(platforms) == {"ubuntu@22.04:amd64", "ubuntu@24.04:amd64", "ubuntu@24.04:arm64"}


@each_charm
@pytest.mark.parametrize("section", ["provides", "requires"])
def test_each_endpoint_says_whether_it_is_optional(charm: Path, section: str) -> None:
    for name, endpoint in metadata(charm).get(section, {}).items():
        assert NAME.fullmatch(name)
        assert isinstance(endpoint["optional"], bool), name
        assert endpoint["interface"] == ENGINES.get(name, "aar")


def test_the_endpoints_are_the_interface_s() -> None:
    registry, site = map(metadata, CHARMS)
    assert set(registry["provides"]) == {relation.CLIENT, relation.PUBLISHER}
    sites = {relation.REGISTRY_CLIENT, relation.REGISTRY_PUBLISHER}
    assert set(site["requires"]) - set(ENGINES) == sites


@each_charm
def test_each_option_is_typed_described_and_has_a_default(charm: Path) -> None:
    for name, option in metadata(charm)["config"]["options"].items():
        assert NAME.fullmatch(name), name
        assert option["type"] in TYPES, name
        assert option["description"].strip(), name
        assert "default" in option, name
        assert not any(word in name for word in SECRETS), f"{name}: use a Juju secret"


@each_charm
def test_the_code_reads_just_the_declared_options(charm: Path) -> None:
    read = {
        node.slice.value
        for tree in sources(charm).values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and "config" in ast.unparse(node.value).rpartition(".")[2]
    }
    assert read == set(metadata(charm)["config"]["options"])


@each_charm
def test_each_action_is_described_and_takes_nothing_else(charm: Path) -> None:
    for name, action in metadata(charm)["actions"].items():
        assert NAME.fullmatch(name), name
        assert action["description"].strip(), name
        assert action["additionalProperties"] is False, name
        parameters = action.get("params", {})
        assert set(action.get("required", [])) <= set(parameters), name
        for parameter, schema in parameters.items():
            assert NAME.fullmatch(parameter), parameter
            assert schema["type"] in PARAMETERS, (name, parameter)
            assert schema["description"].strip(), (name, parameter)


@each_charm
def test_what_can_not_be_undone_asks_for_confirmation(charm: Path) -> None:
    for name, action in metadata(charm)["actions"].items():
        if name.startswith(("revoke", "delete-", "rotate-")):
            assert action["params"]["confirm"]["type"] == "boolean", name
            assert "confirm" in action["required"], name


@each_charm
def test_each_action_has_an_answer(charm: Path) -> None:
    """In the table that charm.py observes in a loop, which charmlint misses, or by itself."""
    [table] = [
        node.value
        for node in sources(charm)["actions.py"].body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "ACTIONS"
    ]
    assert isinstance(table, ast.Dict)
    answered = [key.value for key in table.keys if isinstance(key, ast.Constant)]
    source = (charm / "src/charm.py").read_text()
    assert "for name in ACTIONS:" in source
    answered += re.findall(r"self\.on\.([a-z]+)_action, self\._on_", source)
    assert answered == list(metadata(charm)["actions"])


@each_charm
def test_the_entry_point_can_be_run(charm: Path) -> None:
    entry = charm / "src" / "charm.py"
    assert entry.stat().st_mode & 0o111
    assert entry.read_text().startswith("#!")
    assert "ops.main(" in entry.read_text()
    assert "set_workload_version(" in entry.read_text()


@each_charm
def test_it_runs_on_what_the_lock_says(charm: Path) -> None:
    found = project(charm)["project"]
    assert found["requires-python"] == ">=3.10"
    [ops] = [d for d in found["dependencies"] if re.match(r"ops\b", d)]
    assert ops == "ops>=3.9,<4", "bounded, and not to one version"
    lock = tomllib.loads((charm / "uv.lock").read_text())
    locked = {package["name"] for package in lock["package"]}
    assert {re.split(r"[^a-z-]", d)[0] for d in found["dependencies"]} <= locked
    indexes = {package["source"].get("registry") for package in lock["package"]} - {None}
    assert indexes == {"https://pypi.org/simple"}, "made with an index that others don't have"


@each_charm
def test_the_lock_is_of_these_dependencies(charm: Path) -> None:
    found = project(charm)["project"]
    lock = tomllib.loads((charm / "uv.lock").read_text())
    [own] = [package for package in lock["package"] if package["name"] == found["name"]]
    assert own["version"] == found["version"]
    locked = {
        (d["name"], *sorted(d["specifier"].split(","))) for d in own["metadata"]["requires-dist"]
    }
    declared = set()
    for dependency in found["dependencies"]:
        name, specifier = re.findall(r"^[a-z-]+|[<>=!~].*", dependency)
        declared.add((name, *sorted(specifier.split(","))))
    assert locked == declared, "uv.lock is out of date: ./dev lock"


@each_charm
def test_the_parts_bring_what_the_listing_shows(charm: Path) -> None:
    parts = metadata(charm)["parts"]
    assert parts["charm"]["plugin"] == "uv"
    assert "--require-hashes" in parts["wheels"]["override-build"]
    assert set(parts["files"]["stage"]) >= {"icon.svg", "LICENSE", "README.md", "SECURITY.md"}
    for name in parts["files"]["stage"]:
        assert (charm / name).is_file(), name


@each_charm
def test_the_icon_is_a_flat_circle_of_the_right_size(charm: Path) -> None:
    root = ElementTree.parse(charm / "icon.svg").getroot()
    assert (root.get("width"), root.get("height")) == ("100", "100")
    assert root.get("viewBox") == "0 0 100 100"
    circle = root.find("{http://www.w3.org/2000/svg}circle")
    assert circle is not None
    assert [circle.get(key) for key in ("cx", "cy", "r")] == ["50", "50", "50"]
    assert re.fullmatch(r"#[0-9a-f]{6}", circle.get("fill") or "")


@each_charm
def test_the_licence_is_one_that_the_review_knows(charm: Path) -> None:
    text = (charm / "LICENSE").read_text().strip()
    assert hashlib.sha512(text.encode()).hexdigest() == APACHE_2
    assert project(charm)["project"]["license"] == "Apache-2.0"


@each_charm
def test_tox_has_the_commands_that_charms_share(charm: Path) -> None:
    tox = configparser.ConfigParser()
    tox.read(charm / "tox.ini")
    assert {f"testenv:{name}" for name in ("format", "lint", "unit", "integration")} <= set(tox)


@each_charm
def test_the_readme_describes_every_option_action_and_endpoint(charm: Path) -> None:
    readme, found = (charm / "README.md").read_text(), metadata(charm)
    names = [*found["config"]["options"], *found["actions"]]
    names += [n for s in ("provides", "requires") for n in found.get(s, {})]
    missing = [n for n in names if f"`{n}`" not in readme and f"{charm.name}:{n}" not in readme]
    assert not missing


@each_charm
def test_the_readme_explains_what_the_linter_is_told_to_pass_over(charm: Path) -> None:
    listing = (charm / "README.md").read_text().partition("\n## Listing\n")[2]
    for rule in project(charm)["tool"]["charmlint"]["ignore"]:
        if rule.startswith("METADATA"):
            assert "links" in listing
        else:
            assert rule in listing


@each_charm
def test_charmlint_has_nothing_to_say(charm: Path) -> None:
    charmlint = Path(sys.executable).with_name("charmlint")
    if not charmlint.exists():
        pytest.skip("charmlint needs Python 3.12")
    done = subprocess.run(
        [charmlint, "--strict", charm], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "No issues" in done.stderr

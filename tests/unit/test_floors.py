"""Imports only go down (docs/explanation/architecture.md); read from the source, nothing runs."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOOR = {
    "aar": 2,
    "ams": 2,
    "regkit": 1,
    "machine_service": 1,
    "shared_engines": 1,
    "aar_interface": 0,
}
"""Our packages. What shares a floor does not import each other."""

COMMAND_LINE = ("ams.amc", "ams.client", "regkit", "aar_interface")
"""What `ams.amc` may import of ours: it works over the REST interface only."""

CLIENT = ("ams.client", "regkit", "aar_interface")
SERVER_SIDE = ("regkit.database", "regkit.trust", "regkit.blobs", "regkit.rest", "regkit.serving")
RELATION = "aar_interface.relation"
JUJU = (RELATION, "shared_engines.relations")
"""The modules that stand on ops; nothing but a charm imports them."""

DOORS = ("web", "cli", "serve", "server", "amc")
"""The parts of a service that parse and answer; rules and stores import none of them."""

STARTERS = ("cli", "serve", "server", "__main__")
"""Doors that put the others together."""


def imports(source: str, module: str) -> Iterator[str]:
    """Yield the full names that `module` imports, also those inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: write imports in full, not relative"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def modules() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for base in (ROOT / "src", ROOT / "lib"):
        for path in sorted(base.rglob("*.py")):
            name = ".".join(path.relative_to(base).with_suffix("").parts)
            name = name.removesuffix(".__init__")
            found[name] = set(imports(path.read_text(encoding="utf-8"), name))
    return found


MODULES = modules()


def ours(module: str) -> list[str]:
    return sorted(name for name in MODULES[module] if name.split(".")[0] in FLOOR)


def test_every_package_has_a_floor() -> None:
    assert {name.split(".")[0] for name in MODULES} <= set(FLOOR)


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_down(module: str) -> None:
    package = module.partition(".")[0]
    wrong = [
        name
        for name in ours(module)
        if name.split(".")[0] != package and FLOOR[name.split(".")[0]] >= FLOOR[package]
    ]
    assert not wrong, f"{module} reaches sideways or up: {wrong}"


@pytest.mark.parametrize("module", [m for m in MODULES if within(m, ("ams.amc",))])
def test_the_command_line_stands_on_the_client_alone(module: str) -> None:
    wrong = [
        name
        for name in ours(module)
        if not within(name, COMMAND_LINE) or within(name, SERVER_SIDE)
    ]
    assert not wrong, f"{module} goes around the REST interface: {wrong}"


@pytest.mark.parametrize("module", [m for m in MODULES if within(m, ("ams.client",))])
def test_the_client_knows_nothing_of_the_service(module: str) -> None:
    wrong = [
        name for name in ours(module) if not within(name, CLIENT) or within(name, SERVER_SIDE)
    ]
    assert not wrong, f"{module} knows the service's inside: {wrong}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.split(".")[0] in ("aar", "ams")])
def test_rules_and_stores_import_no_door(module: str) -> None:
    service, *rest = module.split(".")
    if rest and rest[0] in (*DOORS, *STARTERS):
        return
    doors = tuple(f"{service}.{door}" for door in DOORS)
    wrong = [name for name in ours(module) if within(name, doors)]
    wrong += [name for name in MODULES[module] if within(name, ("flask", "werkzeug", "click"))]
    assert not wrong, f"{module} is no door, yet imports {wrong}"


@pytest.mark.parametrize("module", [m for m in MODULES if m not in JUJU])
def test_only_charms_know_of_juju(module: str) -> None:
    """The services run without ops, so nothing here reaches it, directly or by the relation."""
    wrong = [name for name in MODULES[module] if within(name, ("ops", *JUJU))]
    assert not wrong, f"{module} is for machines without Juju, yet imports {wrong}"


@pytest.mark.parametrize("module", [m for m in MODULES if within(m, ("aar_interface",))])
def test_the_interface_does_no_io(module: str) -> None:
    """Both charms ship it, so it brings nothing but cryptography; ops is the charms' own."""
    allowed = {"cryptography", "ops"} if module == RELATION else {"cryptography"}
    foreign = {
        name.split(".")[0]
        for name in MODULES[module]
        if name.split(".")[0] not in {*sys.stdlib_module_names, "aar_interface"}
    }
    assert foreign <= allowed
    assert not {"socket", "subprocess", "os", "pathlib", "sqlite3"} & MODULES[module]


CHARM_SOURCES = sorted((ROOT / "charms").glob("*/src/*.py"))


@pytest.mark.parametrize("path", CHARM_SOURCES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_charm_reaches_its_service_by_command_line_only(path: Path) -> None:
    """It has the lower floors' libraries, ops, and YAML for the settings that it writes."""
    own = {source.stem for source in path.parent.glob("*.py")}
    libraries = {"aar_interface", "machine_service", "shared_engines", "ops", "yaml"}
    allowed = {*sys.stdlib_module_names, *own, *libraries}
    found = set(imports(path.read_text(encoding="utf-8"), path.stem))
    wrong = [name for name in found if name.split(".")[0] not in allowed]
    assert not wrong, f"{path} imports {wrong}"
    if path.stem not in ("charm", "shared", "status"):
        assert "ops" not in {name.split(".")[0] for name in found}, f"{path} speaks Juju"


@pytest.mark.parametrize("module", MODULES)
def test_charmhelpers_has_one_door(module: str) -> None:
    if module != "machine_service.account":
        assert not within_any(MODULES[module], "charmhelpers"), f"{module} uses charmhelpers"


def within_any(names: set[str], package: str) -> bool:
    return any(within(name, (package,)) for name in names)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a.b", {"a.b"}),
        ("from a import b as c, d", {"a.b", "a.d"}),
        ("def f():\n    from a.b import c", {"a.b.c"}),
        ("if TYPE_CHECKING:\n    import a", {"a"}),
    ],
)
def test_no_import_is_overlooked(source: str, expected: set[str]) -> None:
    assert set(imports(source, "example")) == expected


def test_relative_imports_are_refused() -> None:
    with pytest.raises(AssertionError, match="not relative"):
        list(imports("from . import sibling", "example"))

"""bundle.yaml, the Terraform modules and the workflow name what exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "terraform"
MODULES = ("aar", "ams", "example")
FILES = ("main.tf", "outputs.tf", "variables.tf", "versions.tf")


def metadata(charm: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "charms" / charm / "charmcraft.yaml").read_text())


def text(module: str) -> str:
    return "\n".join((TERRAFORM / module / name).read_text() for name in FILES)


def test_the_bundle_relates_endpoints_that_exist() -> None:
    bundle = yaml.safe_load((ROOT / "bundle.yaml").read_text())
    ending = "_ubuntu@24.04-amd64.charm"
    charms = {}
    for name, application in bundle["applications"].items():
        path = Path(application["charm"])
        assert path.parent == Path("build")
        assert path.name.endswith(ending)
        charms[name] = path.name.removesuffix(ending)
    assert sorted(charms.values()) == ["aar", "ams", "ams", "ams"]
    for provider, requirer in bundle["relations"]:
        (registry, provided), (site, required) = provider.split(":"), requirer.split(":")
        assert provided in metadata(charms[registry])["provides"]
        assert required in metadata(charms[site])["requires"]
        assert required == f"registry-{provided}"
    related = {end.split(":")[0] for pair in bundle["relations"] for end in pair}
    assert related == set(charms)


def test_the_overlay_adds_what_several_units_share() -> None:
    bundle = yaml.safe_load((ROOT / "bundle.yaml").read_text())
    overlay = yaml.safe_load((ROOT / "overlay-ha.yaml").read_text())
    assert overlay["applications"]["aar"] == {"num_units": 3}
    added = overlay["applications"].keys() - bundle["applications"].keys()
    requires = metadata("aar")["requires"]
    related = {}
    for ours, theirs in overlay["relations"]:
        name, endpoint = ours.split(":")
        assert name == "aar"
        related[endpoint] = theirs.split(":")[0]
    assert related.keys() == requires.keys()
    assert set(related.values()) == added


def test_the_bundle_s_base_is_one_the_charms_are_packed_for() -> None:
    base = yaml.safe_load((ROOT / "bundle.yaml").read_text())["default-base"].split("/")[0]
    for charm in ("aar", "ams"):
        assert f"{base}:amd64" in metadata(charm)["platforms"]


@pytest.mark.parametrize(("module", "section"), [("aar", "provides"), ("ams", "requires")])
def test_a_module_names_its_charm_s_endpoints(module: str, section: str) -> None:
    main = (TERRAFORM / module / "main.tf").read_text()
    block = re.search(rf"{section} = \{{(.*?)\}}", main, re.DOTALL)
    assert block
    pairs = dict(re.findall(r'(\w+)\s+= "([\w-]+)"', block.group(1)))
    assert {"client", "publisher"} <= set(pairs)
    assert set(pairs.values()) == set(metadata(module)[section])


def test_the_registry_s_module_names_the_engines_endpoints() -> None:
    main = (TERRAFORM / "aar" / "main.tf").read_text()
    block = re.search(r"requires = \{(.*?)\}", main, re.DOTALL)
    assert block
    endpoints = {value for _, value in re.findall(r'(\w+)\s+= "([\w-]+)"', block.group(1))}
    assert endpoints == set(metadata("aar")["requires"])


@pytest.mark.parametrize("module", MODULES)
def test_every_variable_is_described_and_used(module: str) -> None:
    source = text(module)
    declared = set(re.findall(r'^variable "(\w+)"', source, re.MULTILINE))
    assert set(re.findall(r"\bvar\.(\w+)", source)) == declared
    blocks = re.findall(r'^(?:variable|output) "\w+" \{\n(.*?)^\}', source, re.S | re.M)
    assert blocks
    for block in blocks:
        assert re.search(r'description = ".+"', block), block


def test_the_example_asks_the_modules_for_outputs_that_they_have() -> None:
    outputs = {m: set(re.findall(r'^output "(\w+)"', text(m), re.M)) for m in ("aar", "ams")}
    inputs = {m: set(re.findall(r'^variable "(\w+)"', text(m), re.M)) for m in ("aar", "ams")}
    example = text("example")
    for block in re.findall(r'^module "\w+" \{\n(.*?)^\}', example, re.S | re.M):
        [module] = re.findall(r'source\s+= "\.\./(\w+)"', block)
        given = set(re.findall(r"^  (\w+)\s+=", block, re.M)) - {"source", "for_each"}
        assert given <= inputs[module]
    assert set(re.findall(r"module\.aar\.(\w+)", example)) <= outputs["aar"]
    assert set(re.findall(r"module\.publisher\.(\w+)", example)) <= outputs["ams"]


@pytest.mark.skipif(shutil.which("terraform") is None, reason="needs terraform")
def test_terraform_can_read_it() -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", "-diff", TERRAFORM],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def workflow() -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())


def test_every_action_is_pinned_by_its_commit() -> None:
    steps = [step for job in workflow()["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action


def test_jobs_may_only_read() -> None:
    assert workflow()["permissions"] == {}
    for name, job in workflow()["jobs"].items():
        assert job["permissions"] == {"contents": "read"}, name
        assert job["timeout-minutes"] <= 90, name


def test_the_environments_that_the_workflow_runs_exist() -> None:
    tox = (ROOT / "tox.ini").read_text()
    matrix = workflow()["jobs"]["integration"]["strategy"]["matrix"]["include"]
    for row in matrix:
        assert f"[testenv:{row['tests']}]" in tox

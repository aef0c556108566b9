"""`amc application set|unset` as processes: each field ends up where `show` and the API say it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ams.amc.fields import EMPTY, FIELDS
from support.ams import Service, running, write_package


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


@pytest.fixture
def app(service: Service, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The name of an application of this test's own."""
    name = f"app-{abs(hash(request.node.name))}"
    folder = write_package(tmp_path / "package", name, tags=["game"], watchdog={"disabled": True})
    service.ok("application", "create", folder)
    return name


def found(service: Service, app: str) -> dict[str, Any]:
    return service.api("GET", f"/1.0/applications/{app}").json()["metadata"]


APPLICATION: list[tuple[str, str, str, Any, Any]] = [
    ("image", "jammy:android13:amd64", "parent_image_id", "jammy:android13:amd64", ""),
    ("addons", "ssh, gms", "addons", ["ssh", "gms"], []),
    ("tags", "beta,game", "tags", ["beta", "game"], []),
    ("node-selector", "gpu=nvidia", "node_selector", ["gpu=nvidia"], []),
    ("resources.cpus", "4", "resources.cpus", 4, None),
    ("resources.memory", "3GB", "resources.memory", "3GB", None),
    ("resources.disk-size", "8GB", "resources.disk-size", "8GB", None),
    ("resources.gpu-slots", "0", "resources.gpu-slots", 0, -1),
    ("resources.vpu-slots", "1", "resources.vpu-slots", 1, -1),
]
VERSION: list[tuple[str, str, str, Any, Any]] = [
    ("boot-activity", "com.foo.Main", "boot_activity", "com.foo.Main", ""),
    ("required-permissions", "a.b.CAMERA", "required_permissions", ["a.b.CAMERA"], []),
    ("video-encoder", "software", "video_encoder", "software", None),
    ("features", "one,two", "features", ["one", "two"], []),
    ("hooks.timeout", "5m", "hooks.timeout", "5m", None),
    ("bootstrap.keep", "app.apk", "bootstrap.keep", ["app.apk"], None),
    ("watchdog.allowed-packages", "*", "watchdog.allowed-packages", ["*"], []),
]


def at(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document.get(key)
        if document is None:
            return None
    return document


@pytest.mark.parametrize(("field", "text", "path", "value", "without"), APPLICATION)
def test_fields_of_the_application(
    service: Service, app: str, field: str, text: str, path: str, value: Any, without: Any
) -> None:
    assert service.ok("application", "set", app, field, text) == ""
    assert at(found(service, app), path) == value
    assert service.ok("app", "unset", app, field.replace("-", "_")) == ""
    assert at(found(service, app), path) == without
    assert len(found(service, app)["versions"]) == 1


@pytest.mark.parametrize(("field", "text", "path", "value", "without"), VERSION)
def test_fields_that_make_a_new_version(
    service: Service, app: str, field: str, text: str, path: str, value: Any, without: Any
) -> None:
    service.ok("application", "set", app, field, text)
    versions = found(service, app)["versions"]
    assert at(versions[-1], path) == value
    assert at(versions[0], path) != value
    service.ok("application", "unset", app, field)
    assert at(found(service, app)["versions"][-1], path) == without


def test_what_is_true_or_false(service: Service, app: str) -> None:
    service.ok("application", "set", app, "inhibit-auto-updates", "true")
    assert json.loads(service.ok("app", "show", app, "--format", "json"))["inhibit-auto-updates"]
    service.ok("application", "set", app, "inhibit-auto-updates", "False")
    assert found(service, app)["inhibit_auto_updates"] is False
    service.ok("application", "set", app, "watchdog.allowed-packages", "com.foo")
    service.ok("application", "set", app, "watchdog.disabled", "false")
    # One field of the watchdog leaves the other as it is.
    newest = found(service, app)["versions"][-1]["watchdog"]
    assert newest == {"disabled": False, "allowed-packages": ["com.foo"]}


def test_the_instance_type(service: Service, app: str) -> None:
    service.ok("application", "set", app, "instance-type", "a2.3")
    listed = service.ok("application", "list", "-f", f"name={app}", "--format", "csv")
    assert ",a2.3," in listed


def test_every_field_is_tried_here() -> None:
    tried = {row[0] for row in (*APPLICATION, *VERSION)}
    tried |= {"inhibit-auto-updates", "watchdog.disabled", "instance-type"}
    assert tried == set(FIELDS)
    assert set(FIELDS) - set(EMPTY) == {"inhibit-auto-updates", "watchdog.disabled"}


REFUSED = [
    ("resources.memory", "much"),
    ("video-encoder", "fast"),
    ("hooks.timeout", "1h"),
    ("tags", "x" * 300),
]


@pytest.mark.parametrize(("field", "value"), REFUSED)
def test_what_the_service_refuses_changes_nothing(
    service: Service, app: str, field: str, value: str
) -> None:
    before = service.state()
    assert field.partition(".")[0] in service.fails("application", "set", app, field, value)
    assert service.state() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("set", "x", "colour", "red"), "colour"),
        (("set", "x", "resources.cpus", "many"), "is not a number"),
        (("set", "x", "resources.cpus", "4.5"), "is not a number"),
        (("set", "x", "inhibit-auto-updates", "perhaps"), "neither true nor false"),
        (("set", "x", "tags"), "Missing argument"),
        (("unset", "x", "watchdog.disabled"), "watchdog.disabled"),
        (("unset", "x", "tags", "extra"), "extra"),
    ],
)
def test_wrong_usage(service: Service, arguments: tuple[str, ...], words: str) -> None:
    assert words in service.fails("application", *arguments, code=2)


def test_unknown_applications(service: Service) -> None:
    assert "no application" in service.fails("application", "set", "nobody", "tags", "x")
    assert "no application" in service.fails("application", "unset", "nobody", "tags")


def test_update_without_a_package(service: Service, app: str) -> None:
    before = found(service, app)
    assert service.ok("application", "update", app) == ""
    assert found(service, app)["versions"] == before["versions"]
    assert "no application" in service.fails("application", "update", "nobody")


def test_the_help_names_every_field() -> None:
    for command, fields in (("set", FIELDS), ("unset", EMPTY)):
        shown = subprocess.run(
            [sys.executable, "-m", "ams.amc", "application", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for field in fields:
            assert field in "".join(shown.split())  # lines may break within a name

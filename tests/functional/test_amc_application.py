"""`amc application …` as processes against a running service: the life of an application."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.ams import Service, running, write_package


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of an application that no other test has."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]


def show(service: Service, application: str) -> dict[str, object]:
    return json.loads(service.ok("application", "show", application, "--format", "json"))


def create(service: Service, folder: Path, name: str, **more: object) -> str:
    created = service.ok("application", "create", write_package(folder, name, **more))
    assert re.fullmatch(r"[0-9a-z]{20}\n", created)
    return created.strip()


def test_create_list_show(service: Service, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "package"
    id_ = create(service, folder, name, tags=["game", "beta"], addons=["ssh"])
    listed = service.ok("application", "list")
    headings = "ID,NAME,INSTANCE TYPE,ADDONS,TAGS,PUBLISHED,STATUS,LAST UPDATED"
    position = 0
    for heading in headings.split(","):
        position = listed.index(heading, position)
    row = next(line for line in listed.splitlines() if id_ in line)
    for word in (name, "a4.3", "ssh", "game,beta", "true", "ready"):
        assert word in row

    shown = yaml.safe_load(service.ok("application", "show", name))
    assert shown["id"] == id_
    assert shown["name"] == name
    assert shown["status"] == "ready"
    assert (shown["published"], shown["immutable"], shown["vm"]) == (True, False, False)
    assert shown["tags"] == ["game", "beta"]
    assert shown["config"]["instance-type"] == "a4.3"
    assert list(shown["versions"]) == [0]
    version = shown["versions"][0]
    assert version["manifest-version"] == "1.0"
    assert (version["published"], version["status"]) == (True, "active")
    assert version["digest"].startswith("sha256:")
    assert service.ok("app", "show", id_) == service.ok("application", "show", name)
    # Keys that programs read come in the order of the reference.
    keys = "id name status published immutable vm inhibit-auto-updates parent-image"
    keys += " parent-image-variant tags config versions resources"
    assert list(show(service, name)) == keys.split()
    assert list(shown["config"]) == ["instance-type", "boot-package"]
    keys = "image manifest-version published status extra-data"
    assert list(version)[:5] == keys.split()


def test_lists_for_programs(service: Service, tmp_path: Path, name: str) -> None:
    id_ = create(service, tmp_path / "package", name, tags=[name])
    chosen = ("application", "list", "--filter", f"tags={name}", "--format")
    (row,) = json.loads(service.ok(*chosen, "json"))
    assert (row["id"], row["name"], row["published"], row["vm"]) == (id_, name, True, False)
    assert isinstance(row["created_at"], int)
    assert yaml.safe_load(service.ok(*chosen, "yaml")) == [row]
    (line,) = csv.DictReader(io.StringIO(service.ok(*chosen, "csv")))
    assert (line["ID"], line["PUBLISHED"], line["STATUS"]) == (id_, "true", "ready")


@pytest.mark.parametrize("output_format", ["json", "yaml"])
def test_an_empty_list_is_a_list(service: Service, output_format: str) -> None:
    nothing = ("--filter", "name=there-is-none", "--format", output_format)
    assert service.ok("application", "list", *nothing) == "[]\n"


def test_filters(service: Service, tmp_path: Path, name: str) -> None:
    create(service, tmp_path / "a", f"{name}-a", tags=[name, "one"], addons=["ssh"])
    create(service, tmp_path / "b", f"{name}-b", tags=[name, "two"])
    service.ok("application", "revoke", f"{name}-b", "0")

    def names(*filters: str) -> list[str]:
        tags = [] if any(text.startswith("tag") for text in filters) else [f"tags={name}"]
        flags = [word for text in (*tags, *filters) for word in ("--filter", text)]
        rows = json.loads(service.ok("application", "list", "--format", "json", *flags))
        return [row["name"][-1] for row in rows]

    assert names() == ["a", "b"]
    assert names("published=true") == ["a"]
    assert names("published=false") == ["b"]
    assert names("addons=ssh") == ["a"]
    assert names("immutable=true") == []
    assert names("instance-type=a4.3") == ["a", "b"]
    assert names(f"name={name}-b", "vm=false", "status=ready") == ["b"]
    assert names("tag=two") == ["b"]  # the reference's old name
    assert names("abi=x86_64", "inhibit-auto-updates=false") == ["a", "b"]
    assert names("inhibit_auto_updates=true") == []
    assert names("boot-package=com.foo") == []
    id_ = show(service, f"{name}-a")["id"]
    assert names(f"id={id_}") == ["a"]
    message = service.fails("application", "list", "--filter", "published=perhaps")
    assert "neither true nor false" in message


def test_update_publish_revoke(service: Service, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "package"
    id_ = create(service, folder, name)
    assert "nothing to update" in service.fails("application", "update", id_, folder)
    (folder / "app.apk").write_bytes(b"the next one")
    assert not service.ok("application", "update", id_, folder)
    published = {n: v["published"] for n, v in show(service, id_)["versions"].items()}  # type: ignore[attr-defined]
    assert published == {"0": True, "1": True}
    assert not service.ok("application", "revoke", id_, "0")
    assert not service.ok("application", "revoke", name, "1")
    assert show(service, id_)["published"] is False
    assert not service.ok("application", "publish", name, "1")
    assert show(service, id_)["published"] is True
    assert "has no version 7" in service.fails("application", "publish", name, "7")


def test_an_update_of_another_name_is_refused(service: Service, tmp_path: Path, name: str) -> None:
    create(service, tmp_path / "a", name)
    other = write_package(tmp_path / "b", f"{name}-other")
    before = service.state()
    message = service.fails("application", "update", name, other)
    assert "a name can't be changed" in message
    assert service.state() == before


def test_a_name_is_taken_once(service: Service, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "package"
    create(service, folder, name)
    before = service.state()
    assert "exists already" in service.fails("application", "create", folder)
    assert service.state() == before


@pytest.mark.parametrize("kind", ["tar", "tar.bz2", "tar.gz", "tar.xz"])
def test_create_from_an_archive(service: Service, tmp_path: Path, name: str, kind: str) -> None:
    folder = write_package(tmp_path / "package", name)
    archive = tmp_path / f"package.{kind}"
    mode = f"w:{kind.partition('.')[2]}"
    with tarfile.open(archive, mode) as packed:  # type: ignore[call-overload]
        packed.add(folder, ".")
    id_ = service.ok("application", "create", archive, "--vm").strip()
    assert show(service, id_)["vm"] is True


def test_export_and_create_again_is_the_same_version(
    service: Service, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "package"
    (folder / "extra-data").mkdir(parents=True)
    (folder / "extra-data" / "level.bin").write_bytes(bytes(range(256)) * 5000)
    extra = {"level.bin": {"target": "/sdcard/level.bin"}}
    id_ = create(service, folder, name, **{"extra-data": extra})
    target = tmp_path / "out"
    target.mkdir()
    printed = service.ok("application", "export", id_, "0", "--output", target).strip()
    exported = Path(printed)
    assert exported.parent == target
    assert list(target.iterdir()) == [exported]
    with tarfile.open(exported, "r:bz2") as packed:
        level = packed.extractfile("extra-data/level.bin")
        assert level is not None
        assert level.read() == bytes(range(256)) * 5000
    message = service.fails("application", "export", id_, "0", "--output", target)
    assert "exists already" in message
    content = exported.read_bytes()
    service.ok("application", "export", id_, "0", "--output", target, "--force")
    assert exported.read_bytes() == content
    # The same content is the same version: there is nothing to update.
    assert "nothing to update" in service.fails("application", "update", id_, exported)


def test_export_of_what_is_not_there_writes_nothing(
    service: Service, tmp_path: Path, name: str
) -> None:
    id_ = create(service, tmp_path / "package", name)
    target = tmp_path / "out"
    target.mkdir()
    message = service.fails("application", "export", id_, "3", "-o", target)
    assert "has no version 3" in message
    assert list(target.iterdir()) == []


UNKNOWN = [
    ("show", "nobody"),
    ("publish", "nobody", "0"),
    ("revoke", "nobody", "0"),
    ("export", "nobody", "0"),
    ("delete", "nobody"),
    ("delete", "nobody", "--yes"),
    ("show", ".."),
]


@pytest.mark.parametrize("arguments", UNKNOWN, ids=" ".join)
def test_an_unknown_application(service: Service, arguments: tuple[str, ...]) -> None:
    result = service.amc("application", *arguments)
    assert result.code == 1
    # Existence is checked before the question is asked.
    assert not result.out
    assert "amc application list" in result.err


def test_update_of_an_unknown_application(service: Service, tmp_path: Path) -> None:
    folder = write_package(tmp_path / "package", "nobody")
    assert "no application" in service.fails("application", "update", "nobody", folder)


def test_delete_asks_in_the_words_of_the_reference(
    service: Service, tmp_path: Path, name: str
) -> None:
    create(service, tmp_path / "package", name)
    before = service.state()
    question = f"The following application will be REMOVED:\n  - {name}\n"
    for answer in ("n\n", "", "\n", "perhaps\n"):
        refused = service.amc("application", "delete", name, stdin=answer)
        assert refused.code == 1
        assert refused.out == question + "Do you want to continue? [Y/n]:\n"
        assert "--yes" in refused.err
        assert service.state() == before
    assert service.ok("application", "delete", name, stdin="y\n").startswith(question)
    assert "no application" in service.fails("application", "show", name)


def test_delete_a_version_and_never_the_last(service: Service, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "package"
    create(service, folder, name)
    message = service.fails("application", "delete", name, "--version", "0", "--yes")
    assert "at least one remains" in message
    (folder / "app.apk").write_bytes(b"the next one")
    service.ok("application", "update", name, folder)
    assert "no version 5" in service.fails("application", "delete", name, "-v", "5", "-y")
    assert not service.ok("application", "delete", name, "-v", "0", "-y")
    assert list(show(service, name)["versions"]) == ["1"]  # type: ignore[call-overload]


def test_completion_of_names_and_ids(service: Service, tmp_path: Path, name: str) -> None:
    id_ = create(service, tmp_path / "package", name)

    def completed(line: str) -> list[str]:
        asked = {
            "_AMC_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split()) - 1),
        }
        done = service.amc(env=asked)
        assert done.code == 0
        return [word.removeprefix("plain,") for word in done.out.split()]

    assert completed(f"amc app show {name[:-3]}") == [name]
    assert completed(f"amc application publish {id_[:18]}") == [id_]
    assert completed("amc app show nothing-of-the-kind") == []
    assert completed("amc application list -f inst") == ["instance-type="]


def test_no_wait_names_the_operation(service: Service, tmp_path: Path, name: str) -> None:
    folder = write_package(tmp_path / "package", name)
    result = service.amc("application", "create", folder, "--no-wait")
    assert result.code == 0
    match = re.search(r"Operation ([0-9a-f-]{36})", result.err)
    assert match is not None
    ended = service.api("GET", f"/1.0/operations/{match[1]}/wait?timeout=30").json()["metadata"]
    assert ended["status_code"] == 200
    assert show(service, name)["status"] == "ready"


def test_a_time_out_says_that_it_goes_on(service: Service, tmp_path: Path, name: str) -> None:
    folder = write_package(tmp_path / "package", name)
    message = service.fails("application", "create", folder, "--timeout", "0s")
    assert "still goes on" in message
    operation = message.split("operation ")[1].split(")")[0]
    ended = service.api("GET", f"/1.0/operations/{operation}/wait?timeout=30s").json()["metadata"]
    assert ended["status"] == "Success"


def test_delete_all(tmp_path: Path) -> None:
    with running(tmp_path / "home") as alone:
        assert alone.ok("application", "delete", "--all", "--yes") == "There are no applications\n"
        for letter in "ab":
            create(alone, tmp_path / letter, f"app-{letter}")
        refused = alone.amc("application", "delete", "--all", stdin="n\n")
        expected = "The following applications will be REMOVED:\n  - app-a\n  - app-b\n"
        assert refused.out.startswith(expected)
        assert len(json.loads(alone.ok("application", "list", "--format", "json"))) == 2
        alone.ok("application", "delete", "--all", "--yes")
        assert alone.ok("application", "list", "--format", "json") == "[]\n"

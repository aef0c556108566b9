from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regkit.errors import Invalid
from regkit.oci.application import (
    ARTIFACT_TYPE,
    CONFIG_MEDIA_TYPE,
    CREATED,
    MODE,
    TITLE,
    UNPACK,
    ApplicationImage,
    Key,
    PackageFile,
    build,
    build_index,
    parse_version_tag,
    read,
)
from regkit.oci.digest import Digest
from regkit.oci.manifests import INDEX, MANIFEST, parse_manifest

KEY = Key("candy", 3, "amd64")
FILES = (
    PackageFile("app.apk", Digest.of(b"apk"), 3),
    PackageFile("extra-data/a.dat", Digest.of(b"data"), 4),
    PackageFile("hooks/install", Digest.of(b"#!"), 2, 0o755),
    PackageFile("manifest.yaml", Digest.of(b"name"), 4),
)
IMAGE = ApplicationImage(
    KEY,
    {"name": "candy", "tags": ["game", "öl"], "resources": {"cpus": 2}},
    FILES,
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
)


def read_back(config: bytes, manifest: bytes) -> ApplicationImage:
    return read(parse_manifest(manifest, MANIFEST), config)


def changed(config: Any = None, **manifest: Any) -> tuple[bytes, bytes]:
    """Build IMAGE with other contents of its config or manifest, digests made to fit."""
    old_config, old_manifest = build(IMAGE)
    new_config = json.dumps(json.loads(old_config) | (config or {})).encode()
    body = json.loads(old_manifest)
    body["config"] |= {"digest": str(Digest.of(new_config)), "size": len(new_config)}
    return new_config, json.dumps(body | manifest).encode()


def layer(title: Any = "a", **annotations: str) -> dict[str, Any]:
    names = {} if title is None else {TITLE: title}
    return {
        "mediaType": "text/plain",
        "digest": str(Digest.of(b"x")),
        "size": 1,
        "annotations": names | annotations,
    }


def test_what_was_built_is_read_back():
    image = read_back(*build(IMAGE))
    assert image == IMAGE
    assert image.tags == ("game", "öl")
    assert image.size == 13


def test_the_same_input_gives_the_same_bytes_in_whatever_order():
    shuffled = dataclasses.replace(
        IMAGE,
        manifest=dict(reversed(list(IMAGE.manifest.items()))),
        files=tuple(reversed(FILES)),
        created=datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2))),
    )
    assert build(shuffled) == build(IMAGE)


def test_the_manifest_is_one_that_oras_pulls():
    body = json.loads(build(IMAGE)[1])
    assert body["artifactType"] == ARTIFACT_TYPE
    assert body["config"]["mediaType"] == CONFIG_MEDIA_TYPE
    assert [item["annotations"][TITLE] for item in body["layers"]] == [f.path for f in FILES]
    assert body["layers"][2]["annotations"][MODE] == "0755"
    assert MODE not in body["layers"][0]["annotations"]


def test_an_unchanged_file_is_the_same_blob_in_the_next_version():
    newer = dataclasses.replace(IMAGE, key=Key("candy", 4, "amd64"))
    old, new = (json.loads(build(image)[1]) for image in (IMAGE, newer))
    assert old["layers"] == new["layers"]
    assert old["config"] != new["config"]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
PATH = st.lists(
    st.text("abZ0 .-_ö", min_size=1, max_size=6).filter(lambda part: part not in {".", ".."}),
    min_size=1,
    max_size=3,
).map("/".join)


@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key != "tags"), PLAIN), PATH)
def test_any_plain_manifest_and_path_survive(manifest: dict[str, Any], path: str):
    image = ApplicationImage(KEY, manifest, (PackageFile(path, Digest.of(b""), 0),))
    assert read_back(*build(image)) == image


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "..", "../x", "a/../b", "a/./b", "a//b", "a/", ".", "a\\b", "a\0b",
             "a\nb", "x" * 256, "/".join(["x" * 200] * 21), "a\x7fb"]
)  # fmt: skip
def test_unsafe_paths_are_refused_in_both_directions(path: str):
    image = dataclasses.replace(IMAGE, files=(PackageFile(path, Digest.of(b""), 0),))
    with pytest.raises(Invalid, match="not a safe path"):
        build(image)
    with pytest.raises(Invalid, match="not a safe path"):
        read_back(*changed(layers=[layer(path)]))


def test_paths_that_collide_are_refused():
    with pytest.raises(Invalid, match="there twice"):
        read_back(*changed(layers=[layer("a"), layer("b"), layer("a")]))
    with pytest.raises(Invalid, match="below a path that is a file"):
        read_back(*changed(layers=[layer("a/b/c"), layer("a/b")]))


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([layer(None)], "no annotation"),
        ([layer("a", **{MODE: "4755"})], "permission bits"),
        ([layer("a", **{MODE: "rwx"})], "permission bits"),
        ([layer("a", **{UNPACK: "true"})], "packed directory"),
        ([layer("a") | {"urls": ["http://example.com"]}], "kept elsewhere"),
    ],
)
def test_layers_that_are_no_files(layers: list[Any], says: str):
    with pytest.raises(Invalid, match=says):
        read_back(*changed(layers=layers))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"name": "../x"}, "not an application name"),
        ({"name": None}, "not an application name"),
        ({"number": -1}, "not a version number"),
        ({"number": "1"}, "not a version number"),
        ({"number": True}, "not a version number"),
        ({"number": 2**31}, "not a version number"),
        ({"architecture": "AMD64"}, "not an architecture"),
        ({"architecture": ["amd64"]}, "not an architecture"),
        ({"manifest": None}, "no 'manifest'"),
        ({"manifest": {"tags": "game"}}, "tags must be"),
        ({"manifest": {"tags": [1]}}, "tags must be"),
        ({"manifest": {"tags": [""]}}, "tags must be"),
        ({"manifest": {"tags": ["\x1b[2J"]}}, "control character"),
        ({"manifest": {"tags": ["x"] * 257}}, "tags must be"),
    ],
)
def test_faults_of_the_config(config: dict[str, Any], says: str):
    with pytest.raises(Invalid, match=says):
        read_back(*changed(config))


def test_a_config_other_than_described_is_refused():
    config, manifest = build(IMAGE)
    with pytest.raises(Invalid, match="isn't what its manifest describes"):
        read_back(config.replace(b"candy", b"cando"), manifest)
    with pytest.raises(Invalid, match="isn't what its manifest describes"):
        read_back(config + b" ", manifest)


def test_other_kinds_of_manifest_are_no_application():
    config, manifest = changed(artifactType="application/vnd.example")
    with pytest.raises(Invalid, match="artifactType"):
        read_back(config, manifest)
    body = json.loads(manifest)
    body["config"]["mediaType"] = "application/json"
    with pytest.raises(Invalid, match="not an application"):
        read_back(config, json.dumps(body).encode())


@pytest.mark.parametrize("moment", ["yesterday", "2026-01-02", "2026-01-02T03:04:05", "Z", ""])
def test_a_bad_creation_time(moment: str):
    with pytest.raises(Invalid, match="RFC 3339"):
        read_back(*changed(annotations={CREATED: moment}))


@pytest.mark.parametrize(
    "value", [datetime(2026, 1, 1), {1: "x"}, ("a",), float("nan"), {"a": {2}}, "\ud800"]
)
def test_a_manifest_that_json_cannot_keep_is_refused(value: Any):
    with pytest.raises(Invalid, match=r"manifest\.yaml"):
        build(dataclasses.replace(IMAGE, manifest={"x": value}))


@pytest.mark.parametrize(
    ("tag", "parsed"),
    [("0", (0, None)), ("0-amd64", (0, "amd64")), ("2147483647-arm64", (2**31 - 1, "arm64")),
     ("00", None), ("01-amd64", None), ("2147483648", None), ("1-", None), ("1-A", None),
     ("latest", None), ("v1", None), ("1-a-b", None), ("\u0661", None)],
)  # fmt: skip
def test_version_tags(tag: str, parsed: Any):
    assert parse_version_tag(tag) == parsed


def test_keys_are_ordered_and_named():
    assert KEY.tag == "3-amd64"
    assert KEY.index_tag == "3"
    assert parse_version_tag(KEY.tag) == (3, "amd64")
    assert (
        sorted([Key("b", 0, "amd64"), Key("a", 10, "amd64"), Key("a", 9, "arm64")])[0].number == 9
    )


def test_an_index_lists_architectures_in_order_by_their_go_names():
    entries = [("armhf", Digest.of(b"2"), 2), ("amd64", Digest.of(b"1"), 1)]
    content = build_index(entries)
    assert content == build_index(reversed(entries))
    parsed = parse_manifest(content, INDEX)
    assert [item.platform for item in parsed.manifests] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm", "os": "linux", "variant": "v7"},
    ]
    assert [item.size for item in parsed.manifests] == [1, 2]

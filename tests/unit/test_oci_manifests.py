from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regkit.errors import Invalid, TooLarge
from regkit.oci.digest import Digest
from regkit.oci.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEX,
    MANIFEST,
    MAX_BYTES,
    parse_manifest,
)

DIGEST = str(Digest.of(b"x"))


def descriptor(**changes: Any) -> dict[str, Any]:
    body = {"mediaType": "application/octet-stream", "digest": DIGEST, "size": 1} | changes
    return {key: value for key, value in body.items() if value is not ...}


def image(**changes: Any) -> dict[str, Any]:
    body = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(mediaType="application/vnd.oci.empty.v1+json"),
        "layers": [descriptor()],
    } | changes
    return {key: value for key, value in body.items() if value is not ...}


def parse(body: Any, media_type: str | None = MANIFEST):
    return parse_manifest(json.dumps(body).encode(), media_type)


def test_an_image_manifest():
    parsed = parse(
        image(
            subject=descriptor(size=7),
            annotations={"a": "b"},
            artifactType="application/vnd.example",
            layers=[descriptor(annotations={"t": "u"}, artifactType="text/plain")],
        )
    )
    assert not parsed.is_index
    assert parsed.config is not None
    assert [blob.digest for blob in parsed.blobs] == [Digest.of(b"x")] * 2
    assert parsed.subject is not None
    assert parsed.subject.size == 7
    assert parsed.annotations == {"a": "b"}
    assert parsed.effective_artifact_type == "application/vnd.example"
    assert parsed.layers[0].to_dict() == descriptor(
        annotations={"t": "u"}, artifactType="text/plain"
    )


def test_the_configs_media_type_stands_in_for_the_artifact_type():
    assert parse(image()).effective_artifact_type == "application/vnd.oci.empty.v1+json"


def test_an_index():
    body = {
        "schemaVersion": 2,
        "manifests": [descriptor(platform={"architecture": "amd64", "os": "linux"})],
    }
    parsed = parse(body, INDEX)
    assert parsed.is_index
    assert parsed.blobs == ()
    assert parsed.effective_artifact_type is None
    assert parsed.manifests[0].platform == {"architecture": "amd64", "os": "linux"}


def test_dockers_kinds_are_taken():
    assert not parse(image(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST).is_index
    body = {"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": []}
    assert parse(body, DOCKER_LIST).is_index


def test_layers_kept_elsewhere_are_not_ours():
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    layers = [descriptor(mediaType=foreign), descriptor(urls=["https://example.com/x"])]
    assert len(parse(image(layers=layers)).blobs) == 1


def test_the_media_type_field_decides_when_nothing_was_declared():
    assert parse(image(), None).media_type == MANIFEST
    with pytest.raises(Invalid, match="supported kind"):
        parse(image(mediaType=...), None)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "must be a JSON object"),
        (image(schemaVersion=1), "schemaVersion must be 2"),
        (image(schemaVersion=True), "schemaVersion must be 2"),
        (image(schemaVersion="2"), "schemaVersion must be 2"),
        (image(mediaType=INDEX), "declared as"),
        (image(mediaType=7), "mediaType is not a media type"),
        (image(manifests=[]), "can't have 'manifests'"),
        (image(config=...), "config must be a descriptor"),
        (image(config="x"), "config must be a descriptor"),
        (image(layers=...), "layers must be a list"),
        (image(layers={}), "layers must be a list"),
        (image(layers=[descriptor()] * 10_001), "more than 10000"),
        (image(layers=["x"]), r"layers\[0\] must be a descriptor"),
        (image(layers=[descriptor(mediaType=...)]), r"layers\[0\] has no mediaType"),
        (image(layers=[descriptor(digest="sha256:xyz")]), r"layers\[0\]: .* not a digest"),
        (image(layers=[descriptor(digest=...)]), "not a digest"),
        (image(layers=[descriptor(size=-1)]), "size must be"),
        (image(layers=[descriptor(size=1.5)]), "size must be"),
        (image(layers=[descriptor(size=True)]), "size must be"),
        (image(layers=[descriptor(size=2**53)]), "size must be"),
        (image(layers=[descriptor(size="1")]), "size must be"),
        (image(layers=[descriptor(urls=[1])]), "urls must be"),
        (image(layers=[descriptor(platform=[])]), "platform must be"),
        (image(annotations={"a": 1}), "annotations must map"),
        (image(annotations=[]), "annotations must map"),
        (image(annotations={str(i): "" for i in range(1001)}), "more than 1000"),
        (image(subject="x"), "subject must be a descriptor"),
        (image(artifactType="no media type"), "artifactType is not"),
    ],
)
def test_faults_are_named(body: Any, says: str):
    with pytest.raises(Invalid, match=says):
        parse(body)


def test_content_that_is_both_manifest_and_index_is_refused():
    with pytest.raises(Invalid, match="an index can't have"):
        parse(image(mediaType=..., manifests=[]), INDEX)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"schemaVersion":2,"schemaVersion":2}', "a key is given twice"),
        (b'{"schemaVersion":NaN}', "NaN"),
        (b'{"a":"\\ud800"}', "not valid Unicode"),
        (b'{"\\udfff":1}', "not valid Unicode"),
        (b'{"a":1e999}', "JSON can't express"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", "nested deeper"),
    ],
)
def test_tricky_json_is_refused(content: bytes, says: str):
    with pytest.raises(Invalid, match=says):
        parse_manifest(content, MANIFEST)


def test_a_manifest_over_the_limit():
    with pytest.raises(TooLarge, match="at most"):
        parse_manifest(b" " * (MAX_BYTES + 1), MANIFEST)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"schemaVersion": st.just(2)},
        optional={
            key: JSON | st.just(descriptor()) | st.just([descriptor()])
            for key in ("mediaType", "config", "layers", "manifests", "subject", "annotations")
        },
    ),
    st.sampled_from([MANIFEST, INDEX]),
)
def test_any_json_parses_or_is_invalid(body: Any, kind: str):
    try:
        parsed = parse(body, kind)
    except Invalid:
        return
    assert parsed.media_type == kind


@given(st.binary(max_size=200))
def test_any_bytes_are_invalid(content: bytes):
    with pytest.raises(Invalid):
        parse_manifest(content, MANIFEST)

"""`manifest.yaml`: what is read, what is refused, and that all faults are told at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.packages.manifest import parse
from regkit.errors import Invalid
from regkit.yamlsafe import MAX_BYTES

FULL = b"""\
name: candy.crush_1-x
version: 1.10
instance-type: a4.3
required-permissions: [android.permission.CAMERA]
image: jammy:android13:amd64
addons: [ssh]
tags: [game, 2024]
boot-package: com.example.candy
boot-activity: com.example.candy.Main
video-encoder: gpu-preferred
watchdog: {disabled: no, allowed-packages: [com.example.other]}
services:
- {name: adb, port: 5559, protocols: [tcp, udp], expose: true}
resources: {cpus: 4, memory: 4GB, disk-size: 512MB, gpu-slots: 0}
extra-data:
  main.obb: {target: /sdcard/obb, owner: "1000:1000", permissions: 0644}
hooks: {timeout: 15m}
bootstrap: {keep: [apps/data]}
features: [foo]
node-selector: [gpu=yes]
"""


def test_every_field_is_kept_as_it_was_meant():
    found = parse(FULL).to_dict()
    assert found["version"] == "1.10"  # no float
    assert found["tags"] == ["game", "2024"]
    assert found["watchdog"] == {"disabled": False, "allowed-packages": ["com.example.other"]}
    assert found["services"][0] == {
        "name": "adb",
        "port": 5559,
        "protocols": ["tcp", "udp"],
        "expose": True,
    }
    assert found["resources"] == {
        "cpus": 4,
        "memory": "4GB",
        "disk-size": "512MB",
        "gpu-slots": 0,
    }
    assert found["extra-data"]["main.obb"]["permissions"] == "0644"
    assert set(found) == {
        line.split(b":")[0].decode() for line in FULL.splitlines() if line[0] not in b" -"
    }


def test_empty_fields_are_as_if_left_out():
    assert parse(b"name: a\ntags:\nresources: ~\n").to_dict() == {"name": "a"}


def test_all_faults_are_told_at_once_with_their_place():
    with pytest.raises(Invalid) as caught:
        parse(
            b"name: a b\nfoo: 1\nversion: " + b"1" * 51 + b"\nhooks: {timeout: 16m}\n"
            b"services: [{name: x, port: http, protocols: [sctp]}, 3]\ntags: x\n"
        )
    text = str(caught.value)
    for part in (
        "name: 'a b'",
        "foo: unknown key",
        "version: ",
        "hooks.timeout: '16m' is too long: at most 15m",
        "services[0].port: must be a whole number",
        "services[0].protocols[0]: ",
        "services[1]: must be keys and values",
        "tags: must be a list",
    ):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("name: ''", "name: "),
        ("name: ..", "not only dots"),
        ("name: a/b", "use letters"),
        ("name: é", "use letters"),
        ("version: x", "name: is missing"),
        ("name: a\nvideo-encoder: h264", "video-encoder: "),
        ("name: a\nservices: [{name: x, port: 0, protocols: [tcp]}]", "services[0].port: "),
        ("name: a\nservices: [{name: x, port: 65536, protocols: [tcp]}]", "services[0].port: "),
        ("name: a\nservices: [{name: x, port: 1, protocols: []}]", "services[0].protocols: "),
        ("name: a\nresources: {cpus: 0}", "resources.cpus: "),
        ("name: a\nresources: {memory: lots}", "resources.memory: 'lots' is not a size"),
        ("name: a\nextra-data: {../x: {target: /y}}", "must be the name of a file"),
        ("name: a\nextra-data: {x: {}}", "extra-data.x.target: is missing"),
        ("name: a\nextra-data: {x: {target: /y, permissions: rwx}}", "in octal"),
        ("name: a\nwatchdog: {disabled: maybe}", "watchdog.disabled: must be true or false"),
        ("name: a\nhooks: {timeout: soon}", "is not a duration"),
        ("name: a\ntags: ['']", "tags[0]: "),
        ("name: a\nname: b", "line 2: the key 'name' is there twice"),
        ("a: &x [1]\nb: *x", "anchors and aliases"),
        ("name: !!python/object/apply:os.system [id]", "tags such as"),
        ("[" * 100, "nested deeper than 32"),
        ("a: [", "not valid YAML"),
        ("--- 1\n--- 2", "not valid YAML"),
        ("{[a]: 1}", "a key must be a plain text"),
        ("- a", "must hold keys and values"),
        ("", "must hold keys and values"),
        ("name: a\n\x00", "not valid YAML"),
        ("name: [" + "a," * 60000 + "]", "more than 50000 values"),
    ],
)
def test_refused(field: str, part: str):
    with pytest.raises(Invalid) as caught:
        parse(field.encode())
    assert part in str(caught.value)
    assert str(caught.value).startswith("manifest.yaml")


def test_not_text_and_too_large():
    with pytest.raises(Invalid, match="not UTF-8"):
        parse(b"name: \xff")
    with pytest.raises(Invalid, match="too large"):
        parse(b"#" * (MAX_BYTES + 1))


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
def test_any_bytes_are_read_or_refused(raw: bytes):
    try:
        parse(raw)
    except Invalid as error:
        assert str(error)

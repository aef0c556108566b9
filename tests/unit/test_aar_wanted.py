"""The document of `aar trust apply`: what is read, and that all that is wrong is told."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import yaml

from aar.wanted import read_wanted
from aar_interface import Role
from regkit.errors import Invalid
from regkit.trust import Wanted
from support.certificates import certify

CERTIFICATE = certify()
PEM = CERTIFICATE.pem
LIMIT = 100_000


def fault(document: object) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(Invalid) as caught:
        read_wanted(raw, "standard input", LIMIT)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump], ids=["json", "yaml"])
def test_json_and_yaml(write: Callable[[object], str]) -> None:
    full = {
        "certificate": PEM,
        "role": "publisher",
        "origin": "publisher:3",
        "architectures": ["amd64", "arm64"],
    }
    raw = write({"trusted": [full, {"certificate": PEM, "role": "client"}]}).encode()
    assert read_wanted(raw, "x", LIMIT) == [
        Wanted(CERTIFICATE, Role.PUBLISHER, "publisher:3", ("amd64", "arm64")),
        Wanted(CERTIFICATE, Role.CLIENT),
    ]
    assert read_wanted(write({"trusted": []}).encode(), "x", LIMIT) == []


@pytest.mark.parametrize("raw", [b"", b"# nothing\n", b"[]", b"null", b"trusted"])
def test_nothing_is_not_an_empty_list(raw: bytes) -> None:
    """Or a pipe that broke would take all trust away."""
    assert fault(raw) == "standard input must hold keys and values, such as 'trusted:'"


def test_every_fault_with_its_place() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
    said = fault(
        {
            "trusted": [
                {"certificate": PEM, "role": "admin"},
                {"certificate": key, "role": "client"},
                {"certificate": PEM, "role": "client", "origins": "client:1"},
                {"certificate": PEM, "role": "publisher", "architectures": ["AMD 64"]},
                {"certificate": PEM, "role": "client", "origin": "a b"},
                {"certificate": 5, "role": "client"},
                {"role": "client"},
                "text",
            ],
            "wanted": [],
        }
    )
    for part in (
        "standard input: trusted[0].role: ",
        "trusted[1].certificate: this holds a private key",
        "trusted[2].origins: unknown key",
        "trusted[3]: 'AMD 64' is not an architecture",
        "trusted[4]: 'a b' is not an origin",
        "trusted[5].certificate: must be a text",
        "trusted[6].certificate: is missing",
        "trusted[7]: ",
        "wanted: unknown key",
    ):
        assert part in said
    assert "c2VjcmV0" not in said


def test_many_faults_are_counted() -> None:
    said = fault({"trusted": [{}] * 100})
    assert said.endswith("; and 180 more")
    assert len(said) < 1000


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"trusted: []\ntrusted: []\n", "line 2: the key 'trusted' is there twice"),
        (b'{"trusted": [], "trusted": []}', "is there twice"),
        (b"a: &a []\ntrusted: *a\n", "anchors and aliases"),
        (b"trusted: [\n", "not valid YAML"),
        (b'{"trusted": ["\\ud800"]}', "not valid Unicode"),
        (b"#" * (LIMIT + 1), "too large"),
        (b"trusted:\n", "trusted: "),
        (b"{}", "trusted: is missing"),
    ],
)
def test_what_is_no_such_document(raw: bytes, words: str) -> None:
    assert words in fault(raw)

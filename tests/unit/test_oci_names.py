from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regkit.errors import Invalid
from regkit.oci.digest import Digest
from regkit.oci.names import (
    application_of,
    repository_of,
    valid_application,
    valid_repository,
    valid_tag,
)

NAMES = st.text("abXY019._-", min_size=1, max_size=255).filter(valid_application)


@given(NAMES)
def test_an_application_and_its_repository_are_one_to_one(name: str):
    repository = repository_of(name)
    assert valid_repository(repository)
    assert application_of(repository) == name


@given(st.text(max_size=40))
def test_no_text_is_two_applications(text: str):
    name = application_of(text)
    assert name is None or repository_of(name) == text


@pytest.mark.parametrize(
    ("application", "repository"),
    [
        ("candy", "candy"),
        ("a.b_c-d", "a.b_c-d"),
        ("Candy", "x--8dgmsp3p"),
        ("x--candy", "x--f0miqor1dpi7i"),
        ("a..b", "x--c4n2sog"),
        ("-", "x--5k"),
    ],
)
def test_known_repositories(application: str, repository: str):
    # Reckoned once; operators and other clients rely on them.
    assert repository_of(application) == repository


@pytest.mark.parametrize("name", ["x--", "x--candy!", "x--0", "x--VVV", "x--cdgmsp3p", "a/b", "A"])
def test_what_is_no_applications_repository(name: str):
    # x--cdgmsp3p is "candy", which needs no encoding and so has another repository.
    assert application_of(name) is None


@pytest.mark.parametrize(
    "name", ["", ".", "..", "...", "a/b", "a b", "é", "a\n", "a\0", "x" * 256]
)
def test_hostile_application_names(name: str):
    assert not valid_application(name)
    with pytest.raises(Invalid, match="not an application name"):
        repository_of(name)


@pytest.mark.parametrize(
    "name", ["a", "a/b/c", "a.b", "a_b", "a__b", "a--b", "0/1", "library/x-y"]
)
def test_repositories(name: str):
    assert valid_repository(name)


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", ".a", "a.", "../a", "a\n", "a%2f",
             "a" * 513]
)  # fmt: skip
def test_hostile_repositories(name: str):
    assert not valid_repository(name)


def test_tags():
    assert all(map(valid_tag, ["0", "0-amd64", "_x", "A.b-c", "x" * 128]))
    assert not any(map(valid_tag, ["", ".x", "-x", "a/b", "a:b", "x" * 129, "a\n", "é"]))


@given(st.binary(max_size=200), st.sampled_from(["sha256", "sha512"]))
def test_a_digest_survives_writing_and_reading(content: bytes, algorithm: str):
    digest = Digest.of(content, algorithm)
    assert Digest.parse(str(digest)) == digest


@pytest.mark.parametrize(
    "text", ["", "sha256", "sha256:", "sha256:" + "a" * 63, "sha256:" + "A" * 64,
             "md5:" + "a" * 32, "sha512:" + "a" * 64, "sha256:" + "a" * 64 + "\n",
             "sha256:../" + "a" * 61, None, 7,
             "sha256:" + "\u0661" * 64]
)  # fmt: skip
def test_what_is_no_digest(text: object):
    with pytest.raises(Invalid, match="not a digest"):
        Digest.parse(text)

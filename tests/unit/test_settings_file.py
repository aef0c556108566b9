"""Strict reading of conf/main.yaml, whatever the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from regkit.errors import Invalid
from regkit.settings import (
    MAX_BYTES,
    Address,
    CertificateName,
    ListenAddress,
    LogSettings,
    Section,
    load,
)


class Http(Section):
    addr: ListenAddress = Address(host="0.0.0.0", port=3000)
    body_limit: int = 1


class Example(Section):
    http: Http = Http()
    log: LogSettings = LogSettings()


class Demanding(Section):
    name: str


def read(tmp_path: Path, text: str) -> Example:
    path = tmp_path / "main.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, Example)


@pytest.mark.parametrize("text", ["", "# nothing\n", "null\n", "{}\n"])
def test_empty_gives_the_defaults(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == Example()


def test_missing_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path / "missing.yaml", Example) == Example()


def test_values_are_read(tmp_path: Path) -> None:
    settings = read(tmp_path, 'http: {addr: "[::1]:0", body-limit: 7}\nlog: {level: debug}\n')
    assert settings.http.addr == Address(host="::1", port=0)
    assert settings.http.body_limit == 7
    assert settings.log.level == "debug"


def test_every_fault_at_once_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        read(tmp_path, "http: {addr: nowhere, body-limit: x, adr: 1}\nlog: {level: loud}\nx: 1\n")
    message = str(caught.value)
    assert "http.addr: 'nowhere' is not an address: write it like 0.0.0.0:3000" in message
    assert "http.body-limit: " in message
    assert "http.adr: unknown key" in message
    assert "log.level: " in message
    assert "x: unknown key" in message
    assert "\n" not in message


def test_values_are_what_was_written(tmp_path: Path) -> None:
    """Not what YAML makes of them: 0123 would be 83, and 1:30 would be 90."""
    path = tmp_path / "main.yaml"
    for text in ("0123", "1:30", "on", "2026-01-01"):
        path.write_text(f"name: {text}")
        assert load(path, Demanding).name == text
    path.write_text('{"name": "\\ud83d\\ude00"}')
    assert load(path, Demanding).name == "\U0001f600"


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "main.yaml"
    path.write_text("{other: 1}")
    with pytest.raises(Invalid, match="name: is missing; other: unknown key"):
        load(path, Demanding)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http: [\n", "line 2: not valid YAML"),
        ("- a\n", "must hold keys and values"),
        ("just text\n", "must hold keys and values"),
        ("a: !!python/object/apply:os.getcwd []\n", "line 1: tags such as .* are not allowed"),
        ("[" * 5000, "nested deeper than"),
        ("log: {level: info}\nlog: {level: debug}\n", "line 2: the key 'log' is there twice"),
        ("http: &a {}\nlog: *a\n", "line 1: anchors and aliases are not allowed"),
    ],
)
def test_not_a_mapping(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        read(tmp_path, text)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "main.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01\xff")
    with pytest.raises(Invalid, match="not UTF-8 text"):
        load(path, Example)


def test_too_large(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="too large"):
        read(tmp_path, "#" * (MAX_BYTES + 1))


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="can't be read"):
        load(tmp_path, Example)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":3000", "0.0.0.0", 3000),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::]:65535", "::", 65535),
        ("registry.example:3000", "registry.example", 3000),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "3000", "host", "host:", "host:65536", "host:-1", "host:\u0663", "::1:3000",
        "[host]:1", "[::1]", "[127.0.0.1]:1", "a b:1", "-a:1", "a..b:1", "https://host:1",
    ],
)  # fmt: skip
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an address|is neither an IP address nor"):
        Address.parse(text)


class Named(Section):
    """A model with names for a certificate."""

    names: tuple[CertificateName, ...] = ()


def test_names_for_the_certificate_are_hosts_and_addresses(tmp_path: Path) -> None:
    path = tmp_path / "main.yaml"
    path.write_text("names: [registry.example.com, 192.0.2.7, '2001:DB8::1']\n")
    names = load(path, Named).names
    assert names == ("registry.example.com", "192.0.2.7", "2001:db8::1")
    path.write_text("names: [registry, 'https://registry', [7]]\n")
    with pytest.raises(Invalid) as caught:
        load(path, Named)
    assert "names[1]: 'https://registry' is neither an IP address nor a host name" in str(
        caught.value
    )
    assert "names[2]" in str(caught.value)


def test_a_key_of_any_shape_is_told_in_one_short_line(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        read(tmp_path, '"a\\nb\\u2028c": 1\n' + "k" * 500 + ": 1\n")
    message = str(caught.value)
    assert r"'a\nb\u2028c': unknown key" in message
    assert "k" * 100 + "…: unknown key" in message
    assert message.isprintable()

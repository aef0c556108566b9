"""Strict reading of conf/main.yaml, whatever the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from regkit.errors import Invalid
from regkit.settings import MAX_BYTES, Address, ListenAddress, LogSettings, Section, load


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


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "main.yaml"
    path.write_text("{other: 1}")
    with pytest.raises(Invalid, match="name: is missing; other: unknown key"):
        load(path, Demanding)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http: [\n", "is not valid YAML at line 2"),
        ("- a\n", "must hold keys and values"),
        ("just text\n", "must hold keys and values"),
        ("a: !!python/object/apply:os.getcwd []\n", "is not valid YAML at line 1"),
        ("[" * 5000, "is not valid YAML"),
    ],
)
def test_not_a_mapping(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        read(tmp_path, text)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "main.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01\xff")
    with pytest.raises(Invalid, match="is not valid YAML"):
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

"""How operators and databags write where a service is."""

from __future__ import annotations

import pytest

from aar_interface.addresses import Address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("registry.example.com", "registry.example.com", None),
        (" registry:443 ", "registry", 443),
        ("192.0.2.7", "192.0.2.7", None),
        ("192.0.2.7:3001", "192.0.2.7", 3001),
        ("2001:DB8::1", "2001:db8::1", None),
        ("[2001:db8::1]", "2001:db8::1", None),
        ("[2001:db8::1]:65535", "2001:db8::1", 65535),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int | None) -> None:
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":3000",
        "registry:0",
        "registry:65536",
        "registry:http",
        "https://registry",
        "registry/path",
        "user@registry",
        "two words",
        "192.0.2.256",
        "2130706433",
        "127.1:3000",
        "fe80::1%eth0",
        "[fe80::1%eth0]:3000",
        "-registry",
        "[192.0.2.7]:3000",
        "2001:db8::1:99999:",
        "x" * 254,
        "new\nline",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|neither"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (Address("registry"), "https://registry:3000"),
        (Address("registry", 443), "https://registry:443"),
        (Address("2001:db8::1"), "https://[2001:db8::1]:3000"),
    ],
)
def test_the_url_has_the_port_always(address: Address, url: str) -> None:
    assert address.url(3000) == url

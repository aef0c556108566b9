"""The databags: what the reference's charms wrote, what ours write, and what a hostile side might.

The rules of the relation are in test_interface_rules.py, the specification in
test_interface_spec.py.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aar_interface import Certificate, Role
from aar_interface.certificates import MAX_BYTES
from aar_interface.databag import (
    MAX_TEXT,
    PROVIDER_FIELDS,
    REQUIRER_FIELDS,
    InvalidDatabag,
    ProviderData,
    RequirerData,
)
from support.databags import certificate

GOLDEN_PEM = """\
-----BEGIN CERTIFICATE-----
MIICrDCCAZSgAwIBAgIUB9dSYSjaOBVLQVsKrdkbPKnPEbAwDQYJKoZIhvcNAQEL
BQAwEDEOMAwGA1UEAwwFYW1zLTAwHhcNMjMwNTA0MDAwMDAwWhcNMzMwNTAxMDAw
MDAwWjAQMQ4wDAYDVQQDDAVhbXMtMDCCASIwDQYJKoZIhvcNAQEBBQADggEPADCC
AQoCggEBANTNB6LB85y8mnfoN9IAObNx84cQmMy9SnJ87ls02Hv7T+c0qeuQPNtP
ZCOj6KOlC6i2T10eg/LPstWaUD4qK4HBRUBz0/n9Sl1yfWvllgj0W4mIrKxU9P3l
B3LBvNE7uFUiHVNLwmOUEwbUeJa34Q3PQ8gowWsC9XTyJv30m7WCLgnXyyQJmHb2
9sIB2aBb/YQnHRGVAgm8W++iQQgbmmWz6cCAfXzwu4MER2S3hCwchZo5+Oc2fWKG
GjMr/9AwIRKIgKkYb1ODutEkp0TEfTdc25n7vwdRyuMhmlkYP+E9BCFRYv4JgZ8j
05NoBvFdlRPGID1kvhS5hOFK7KY34qsCAwEAATANBgkqhkiG9w0BAQsFAAOCAQEA
Z0pVCYbFY8FdxDi7B8GDAI11Jz00uWbrPZJe+uFeCgHoob1gtNiJZwCPUERXlz55
vjAvH2hM6n1ILxRfKxbmgRKciEXv6fTINw5wYyKIBlABp/xIszuf6SNt+hrgrZM3
jQf3Ca0MzyvQWwAnHWvWns6eW5OkV8c3dVZmcp2g4o5bXH0VUR2PVPx/92jJ0Bj3
LMZQoM4MjgeqOTwnaLOnFPRxO66w3Ntt/Uwcnn53Ojj0srDga19Xb5En+3pOrmXQ
vHQ/WsZrmDc2Vovkf+oa0pFWkJzoTIVR2lXVdKJxtcvbndLrP4aN36pAwS3djGvD
gdvnNuHVkVhxiANA1beE9A==
-----END CERTIFICATE-----
"""
GOLDEN_HEX = "f9c2dfdbbf4c157d7a386be315ff2636e5e2042febd2c1212393a2ccf06c3528"
OVER_PEM_HEX = "b685cf8c3813711a72336da13199cb1aa899d964f1cfd282c953b196cfbc95ca"
"""What the reference calls the fingerprint: a digest over the PEM text."""

ESCAPED = GOLDEN_PEM.replace("\n", "\\n")
GOLDEN = Certificate.parse(GOLDEN_PEM)

OURS = certificate("registry")
JUJUS = {
    "egress-subnets": "10.61.2.7/32",
    "ingress-address": "10.61.2.7",
    "private-address": "10.61.2.7",
}

REFERENCE_PROVIDERS: dict[str, tuple[dict[str, str], ProviderData]] = {
    "as written": (
        {
            **JUJUS,
            "certificate": GOLDEN_PEM,
            "fingerprint": OVER_PEM_HEX,
            "ip": "10.61.2.7",
            "port": "3000",
        },
        ProviderData(GOLDEN, "10.61.2.7", 3000),
    ),
    "location is a name, port isn't set": (
        {"certificate": GOLDEN_PEM, "ip": "Registry.example", "port": ""},
        ProviderData(GOLDEN, "registry.example"),
    ),
    "every value in quotes": (
        {
            "certificate": json.dumps(GOLDEN_PEM),
            "fingerprint": json.dumps(OVER_PEM_HEX),
            "ip": '"10.61.2.7"',
            "port": '"3000"',
        },
        ProviderData(GOLDEN, "10.61.2.7", 3000),
    ),
    "only joined": (JUJUS, ProviderData()),
}

REFERENCE_REQUIRERS: dict[str, tuple[dict[str, str], RequirerData]] = {
    "as written": (
        {**JUJUS, "certificate": GOLDEN_PEM, "mode": "client"},
        RequirerData(GOLDEN, Role.CLIENT),
    ),
    "JSON": (
        {"certificate": json.dumps(GOLDEN_PEM), "mode": '"publisher"'},
        RequirerData(GOLDEN, Role.PUBLISHER),
    ),
    "quotes around escapes": (
        {"certificate": f'"{ESCAPED}"', "mode": '"client"'},
        RequirerData(GOLDEN, Role.CLIENT),
    ),
    "escapes without quotes": (
        {"certificate": ESCAPED, "mode": "client"},
        RequirerData(GOLDEN, Role.CLIENT),
    ),
    "quotes around real lines": (
        {"certificate": f'"{GOLDEN_PEM}"', "mode": "client"},
        RequirerData(GOLDEN, Role.CLIENT),
    ),
    "JSON of escapes, Windows line ends": (
        {"certificate": json.dumps(ESCAPED.replace("\\n", "\\r\\n"))},
        RequirerData(GOLDEN),
    ),
    "mode before certificate": ({"mode": '"client"'}, RequirerData(None, Role.CLIENT)),
    "certificate before mode": ({"certificate": ESCAPED}, RequirerData(GOLDEN)),
    "nothing yet": ({**JUJUS, "certificate": "null", "mode": '""'}, RequirerData()),
}


class TestGolden:
    def test_the_golden_certificate_is_the_golden_one(self) -> None:
        assert str(GOLDEN.fingerprint) == GOLDEN_HEX
        assert GOLDEN.common_name == "ams-0"

    @pytest.mark.parametrize("name", REFERENCE_PROVIDERS)
    def test_providers_of_the_reference(self, name: str) -> None:
        bag, expected = REFERENCE_PROVIDERS[name]
        assert ProviderData.read(bag) == expected

    @pytest.mark.parametrize("name", REFERENCE_REQUIRERS)
    def test_requirers_of_the_reference(self, name: str) -> None:
        bag, expected = REFERENCE_REQUIRERS[name]
        assert RequirerData.read(bag) == expected

    def test_our_provider(self) -> None:
        data = ProviderData.at(GOLDEN, "10.61.2.7", 3000, Role.PUBLISHER)
        bag = data.write()
        assert list(bag.items()) == [
            ("certificate", GOLDEN_PEM),
            ("fingerprint", GOLDEN_HEX),
            ("ip", "10.61.2.7"),
            ("port", "3000"),
            ("role", "publisher"),
            ("url", "https://10.61.2.7:3000"),
        ]
        assert tuple(bag) == PROVIDER_FIELDS
        assert ProviderData.read({**JUJUS, **bag}) == data

    def test_our_requirer(self) -> None:
        data = RequirerData.of(GOLDEN, Role.CLIENT, "arm64")
        bag = data.write()
        assert list(bag.items()) == [
            ("architecture", "arm64"),
            ("certificate", GOLDEN_PEM),
            ("mode", "client"),
        ]
        assert tuple(bag) == REQUIRER_FIELDS
        assert RequirerData.read({**JUJUS, **bag}) == data

    def test_the_reference_reads_what_we_write(self) -> None:
        """Its charm takes quotes and escapes off the certificate, and looks for the mode in the
        name of the relation."""
        bag = RequirerData.of(GOLDEN, Role.PUBLISHER, "amd64").write()
        assert bag["certificate"].replace("\\n", "\n").strip('"') == GOLDEN_PEM
        assert bag["mode"].strip('"') in "publisher"

    def test_what_is_not_known_yet_is_not_written(self) -> None:
        assert ProviderData().write() == {}
        assert RequirerData().write() == {}
        bag = ProviderData.at(GOLDEN, "", 3000, Role.CLIENT).write()
        assert list(bag) == ["certificate", "fingerprint", "port", "role"]
        assert RequirerData.of(GOLDEN, Role.CLIENT, "").architecture == ""


class TestTrust:
    def test_the_fingerprint_is_computed_and_never_read(self) -> None:
        told = {"certificate": GOLDEN_PEM, "fingerprint": "0" * 64}
        assert ProviderData.read(told).write()["fingerprint"] == GOLDEN_HEX
        assert ProviderData.read({"fingerprint": GOLDEN_HEX}) == ProviderData()
        assert ProviderData.read({"fingerprint": "\0" * 10_000_000}) == ProviderData()

    def test_unknown_fields_and_those_of_juju_are_ignored(self) -> None:
        hostile = {"private-address": '"', "ingress-address": "x" * 99_999, "": "", "URL": "ftp:"}
        assert ProviderData.read(hostile) == ProviderData()
        assert RequirerData.read(hostile) == RequirerData()
        assert ProviderData.read(JUJUS).endpoint is None


class TestEndpoint:
    @pytest.mark.parametrize(
        ("bag", "endpoint"),
        [
            ({}, None),
            ({"ip": "10.0.0.1"}, None),
            ({"port": "3000"}, None),
            ({"ip": "10.0.0.1", "port": "03000"}, "https://10.0.0.1:3000"),
            ({"ip": "fd00::1", "port": "3000"}, "https://[fd00::1]:3000"),
            ({"ip": "[FD00:0::1]", "port": "3000"}, "https://[fd00::1]:3000"),
            ({"ip": "Registry.Example", "port": "1"}, "https://registry.example:1"),
            ({"ip": " 10.0.0.1\n", "port": " 65535 "}, "https://10.0.0.1:65535"),
            ({"url": "https://a.example:3000", "ip": "10.0.0.1"}, "https://a.example:3000"),
            ({"url": '"https://a.example:3000"'}, "https://a.example:3000"),
            ({"url": "https://a.example"}, "https://a.example:443"),
            ({"url": "HTTPS://A.Example:3000/"}, "https://a.example:3000"),
            ({"url": "https://[FD00:0::1]:3000"}, "https://[fd00::1]:3000"),
            ({"url": "https://[::1]"}, "https://[::1]:443"),
            ({"url": "https://10.0.0.1:3000"}, "https://10.0.0.1:3000"),
        ],
    )
    def test_what_is_said_makes_one_url(self, bag: dict[str, str], endpoint: str | None) -> None:
        data = ProviderData.read(bag)
        assert data.endpoint == endpoint
        assert ProviderData.read(data.write()) == data

    @pytest.mark.parametrize(
        ("host", "port", "url"),
        [
            ("10.0.0.1", 3000, "https://10.0.0.1:3000"),
            ("fd00::1", 3000, "https://[fd00::1]:3000"),
            ("[fd00::1]", 1, "https://[fd00::1]:1"),
            ("Registry.Example", 65535, "https://registry.example:65535"),
        ],
    )
    def test_our_own(self, host: str, port: int, url: str) -> None:
        data = ProviderData.at(GOLDEN, host, port, Role.CLIENT)
        assert (data.url, data.endpoint) == (url, url)
        assert ProviderData(GOLDEN, data.ip, data.port).endpoint == url

    @pytest.mark.parametrize(
        ("host", "port", "message"),
        [
            ("10.0.0.1", 0, "port: '0' is not a port from 1 to 65535"),
            ("10.0.0.1", 65536, "port: '65536' is not a port from 1 to 65535"),
            ("10.0.0.1", -1, "port: '-1' is not a port from 1 to 65535"),
            ("", 0, "port: '0' is not a port from 1 to 65535"),
            ("10.0.0.1:3000", 1, "ip: '10.0.0.1:3000' is not an IP address or a host name"),
            ("fe80::1%eth0", 1, "ip: 'fe80::1%eth0' is not an IP address or a host name"),
            ("my host", 1, "ip: 'my host' is not an IP address or a host name"),
        ],
    )
    def test_what_no_client_could_use_is_not_said(
        self, host: str, port: int, message: str
    ) -> None:
        with pytest.raises(InvalidDatabag) as caught:
            ProviderData.at(GOLDEN, host, port, Role.CLIENT)
        assert str(caught.value) == message


class TestHostile:
    @pytest.mark.parametrize(
        "url",
        [
            "http://a.example:3000",
            "file:///etc/passwd",
            "a.example:3000",
            "https://",
            "https:///1.0",
            "https://:3000",
            "https://a.example:",
            "https://a.example:0",
            "https://a.example:65536",
            "https://a.example:+3",
            "https://a.example:\uff13000",
            "https://user@a.example",
            "https://user:secret@a.example:3000",
            "https://a.example\\@b.example",
            "https://a.example/path",
            "https://a.example//",
            "https://a.example?x=y",
            "https://a.example#x",
            "https://a.example:3000,https://b.example:3000",
            "https://a.example https://b.example",
            "https://a.example\thttps://b.example",
            "https://a.ex\nample",
            "https://a.ex\x00ample",
            "https://a.ex\x1b[31mample",
            "https://a.ex\u202eample",
            "https://fd00::1",
            "https://fd00::1:3000",
            "https://[fd00::1",
            "https://[fd00::1]x",
            "https://[fe80::1%eth0]:3000",
            "https://[fe80::1%25eth0]:3000",
            "https://[10.0.0.1]:3000",
            "https://[a.example]:3000",
            "https://10.0.0.256",
            "https://2130706433",
            "https://127.1",
            "https://a.example.1",
            "https://bücher.example",
            "https://a..example",
            "https://-a.example",
            "https://" + "a." * 127 + "example",
            "https://" + "a" * 64 + ".example",
        ],
    )
    def test_urls(self, url: str) -> None:
        with pytest.raises(InvalidDatabag, match=r"^url: ") as caught:
            ProviderData.read({"url": url})
        assert str(caught.value).isascii()
        assert str(caught.value).isprintable()
        with pytest.raises(InvalidDatabag, match=r"^url: "):
            ProviderData.read({"url": json.dumps(url)})

    @pytest.mark.parametrize(
        "ip",
        ["10.0.0.1:3000", "10.0.0.256", "1", "::1::", "fe80::1%eth0", "a b", "a,b", "u@h", "[x]"],
    )
    def test_addresses(self, ip: str) -> None:
        with pytest.raises(InvalidDatabag, match=r"^ip: .* is not an IP address or a host name$"):
            ProviderData.read({"ip": ip})

    @pytest.mark.parametrize(
        "port", ["0", "65536", "-1", "3000.0", "٣", "x", "1e3", "123456", '"']
    )
    def test_ports(self, port: str) -> None:
        with pytest.raises(InvalidDatabag, match=r"^port: "):
            ProviderData.read({"port": port})

    @pytest.mark.parametrize(
        "word", ["admin", "Client", "client,publisher", "pub", "client\0", "[]"]
    )
    def test_roles(self, word: str) -> None:
        message = r"^{}: .* is not client or publisher$"
        with pytest.raises(InvalidDatabag, match=message.format("mode")):
            RequirerData.read({"mode": word})
        with pytest.raises(InvalidDatabag, match=message.format("role")):
            ProviderData.read({"role": json.dumps(word)})

    @pytest.mark.parametrize(
        "word", ["AMD64", "amd 64", "amd64,arm64", "a" * 33, "*", "\uff41", "../x"]
    )
    def test_architectures(self, word: str) -> None:
        """Taken as missing, it would let a publisher push for all of them."""
        with pytest.raises(InvalidDatabag, match=r"^architecture: .* is not one, such as amd64"):
            RequirerData.read({"architecture": word})
        with pytest.raises(InvalidDatabag, match=r"^architecture: "):
            RequirerData.of(GOLDEN, Role.CLIENT, word)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("x", "certificate: this is not an X.509 certificate"),
            (GOLDEN_PEM + OURS.pem, "certificate: this holds 2 certificates: give exactly one"),
            ("x" * (MAX_BYTES + 1), f"certificate: over {MAX_BYTES} characters"),
            (
                "é" * MAX_BYTES,
                "certificate: this is too large for a certificate (over 65536 bytes)",
            ),
            (GOLDEN_PEM[:400], "certificate: this is not an X.509 certificate"),
            ('"' + GOLDEN_PEM, "certificate: opens with a quote, but is no JSON text"),
            ('"\\ud800"', "certificate: this is not an X.509 certificate"),
        ],
        ids=lambda value: value[:12].strip(),
    )
    def test_certificates(self, text: str, message: str) -> None:
        for read in (ProviderData.read, RequirerData.read):
            with pytest.raises(InvalidDatabag) as caught:
                read({"certificate": text})
            assert str(caught.value) == message

    def test_a_private_key_is_not_repeated(self) -> None:
        key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----\n"
        with pytest.raises(InvalidDatabag, match="holds a private key") as caught:
            RequirerData.read({"certificate": key})
        assert "MC4CAQ" not in str(caught.value)

    @pytest.mark.parametrize("field", ["ip", "port", "url", "role"])
    def test_long_values_are_not_looked_at(self, field: str) -> None:
        with pytest.raises(InvalidDatabag, match=f"^{field}: over {MAX_TEXT} characters$"):
            ProviderData.read({field: "h" * (MAX_TEXT + 1)})


PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""In a fresh checkout the first draw makes Hypothesis' tables of Unicode, which takes a second."""

NASTY = st.one_of(
    st.text(max_size=80),
    st.text(alphabet='"\\nu0{}[]:/@%,.-#? \t\n', max_size=30),
    st.sampled_from([GOLDEN_PEM, ESCAPED, json.dumps(ESCAPED), "null", "client", "3000", "::1"]),
    st.text(max_size=30).map(json.dumps),
    st.text(max_size=40).map("https://{}".format),
    st.integers().map(str),
)
FIELDS = st.sampled_from([*PROVIDER_FIELDS, *REQUIRER_FIELDS, "other"])
BAGS = st.dictionaries(FIELDS, NASTY, max_size=9)


class TestFuzz:
    @pytest.mark.parametrize("kind", [ProviderData, RequirerData])
    @PATIENT
    @given(bag=BAGS)
    def test_reading_gives_data_or_says_which_field(self, kind: Any, bag: dict[str, str]) -> None:
        fields = PROVIDER_FIELDS if kind is ProviderData else REQUIRER_FIELDS
        try:
            data = kind.read(bag)
        except InvalidDatabag as error:
            assert str(error).partition(":")[0] in fields
            assert str(error).isprintable()
            return
        assert kind.read(data.write()) == data

    @PATIENT
    @given(
        host=st.one_of(
            st.ip_addresses().map(str),
            st.from_regex(r"\A[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{1,9}){0,3}\Z"),
        ),
        port=st.integers(1, 65535),
        role=st.sampled_from(Role),
    )
    def test_what_a_provider_writes_is_what_is_read(
        self, host: str, port: int, role: Role
    ) -> None:
        data = ProviderData.at(OURS, host, port, role)
        assert ProviderData.read(data.write()) == data
        quoted = {name: json.dumps(value) for name, value in data.write().items()}
        assert ProviderData.read(quoted) == data
        assert ProviderData(OURS, data.ip, data.port).endpoint == data.url

    @PATIENT
    @given(
        architecture=st.from_regex(r"\A[a-z0-9]{0,32}\Z"),
        mode=st.sampled_from(Role),
    )
    def test_what_a_requirer_writes_is_what_is_read(self, architecture: str, mode: Role) -> None:
        data = RequirerData.of(OURS, mode, architecture)
        assert RequirerData.read(data.write()) == data
        quoted = {name: json.dumps(value) for name, value in data.write().items()}
        assert RequirerData.read(quoted) == data

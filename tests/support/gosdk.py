"""A client that does what the public Go SDK does, request by request, and reads what it reads.

The SDK's sources (github.com/canonical/ams-sdk, `pkg/ams`, `pkg/network`) say which method, path,
query, headers and body each call has, how TLS is set up from the server's own certificate, and how
an operation is waited for: over the websocket of events, opened before the call.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import websocket
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from support import gotypes
from support.contract import Contract
from support.gotypes import Kind
from support.pairs import Pair

DEADLINE = 30.0
SUCCESS = 200


class SdkError(Exception):
    """An error that the SDK would return."""


@dataclass(frozen=True)
class Answer:
    """What came back: `metadata` of the envelope, and what the SDK takes from the headers."""

    metadata: Any
    headers: Mapping[str, str]
    body: bytes

    @property
    def etag(self) -> str:
        return self.headers.get("ETag", "")


def remote_certificate(address: tuple[str, int]) -> x509.Certificate:
    """`GetRemoteCertificate`: GET the address without verifying, and take the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(address, DEADLINE) as raw,
        context.wrap_socket(raw, server_hostname="x") as tls,
    ):
        tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert tls.recv(15) == b"HTTP/1.1 200 OK"
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def tls_config(server: x509.Certificate, pair: Pair) -> tuple[ssl.SSLContext, str]:
    """`GetTLSConfig`: the server's certificate is the only root, its first DNS name the name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=server.public_bytes(Encoding.PEM).decode())
    context.load_cert_chain(*pair.files)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return context, names.get_values_for_type(x509.DNSName)[0]


class Sdk:
    """`client.New(url, tlsConfig)`. Every answer is held to `contract` as well."""

    def __init__(self, address: tuple[str, int], pair: Pair, contract: Contract) -> None:
        self._address = address
        self._context, self._name = tls_config(remote_certificate(address), pair)
        self._contract = contract
        self.extensions = self.call("GET", "/1.0", gotypes.SERVICE_STATUS).metadata[
            "api_extensions"
        ]

    def call(
        self,
        method: str,
        path: str,
        kind: Kind = gotypes.ANY,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        """`CallAPI`: raises SdkError with the envelope's error."""
        answer, status = self._perform(method, path, params, headers, body)
        envelope = gotypes.RESPONSE(json.loads(answer.body), path)
        if envelope["type"] == "error":
            raise SdkError(envelope["error"] or http.client.responses[status])
        return Answer(kind(envelope["metadata"], path), answer.headers, answer.body)

    def operation(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """`QueryOperation` and `Wait`: raises SdkError with the operation's error."""
        listener = self.websocket("/1.0/events")
        try:
            answer = self.call(method, path, gotypes.OPERATION, **arguments)
            operation = answer.metadata
            while operation["status_code"] < SUCCESS:
                event = gotypes.EVENT(json.loads(listener.recv()), "event")
                if event["type"] == "operation":
                    told = gotypes.OPERATION(event["metadata"], "event.metadata")
                    operation = told if told["id"] == operation["id"] else operation
        finally:
            listener.shutdown()  # the SDK doesn't say goodbye either
        if operation["err"]:
            raise SdkError(operation["err"])
        return operation

    def json(self, method: str, path: str, document: Any, **headers: str) -> dict[str, Any]:
        """An operation with a JSON body, which has no content type unless one is given."""
        return self.operation(method, path, headers=headers, body=json.dumps(document).encode())

    def upload(
        self, method: str, path: str, package: bytes, params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """`upload`: the body comes from a reader, so that its length isn't announced."""
        headers = {
            "Content-Type": "application/octet-stream",
            "X-AMS-Fingerprint": hashlib.sha256(package).hexdigest(),
            "X-AMS-Request": "",
        }
        pieces = (package[i : i + 4096] for i in range(0, len(package), 4096))
        return self.operation(method, path, params=params, headers=headers, body=pieces)

    def download(self, path: str) -> Answer:
        """`DownloadFile`: only an answer other than 200 is an envelope."""
        answer, status = self._perform("GET", path, None, None, None)
        if status != SUCCESS:
            raise SdkError(gotypes.RESPONSE(json.loads(answer.body), path)["error"])
        return answer

    def websocket(self, path: str) -> websocket.WebSocket:
        """`dialWebsocket`."""
        connection = websocket.WebSocket()
        connection.connect(
            f"wss://{self._address[0]}:{self._address[1]}{path}",
            socket=self._connect(),
            suppress_origin=True,
        )
        connection.settimeout(DEADLINE)
        return connection

    def filtered(self, filters: Sequence[str]) -> list[dict[str, Any]]:
        """`ListApplicationsWithFilters`."""
        params = {**dict(text.split("=", 1) for text in filters), "recursion": "1"}
        kind = gotypes.many(gotypes.APPLICATION)
        return self.call("GET", "/1.0/applications", kind, params=params).metadata

    def _connect(self) -> ssl.SSLSocket:
        raw = socket.create_connection(self._address, DEADLINE)
        return self._context.wrap_socket(raw, server_hostname=self._name)

    def _perform(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        body: bytes | Iterable[bytes] | None,
    ) -> tuple[Answer, int]:
        connection = http.client.HTTPConnection(*self._address)
        connection.sock = self._connect()
        query = f"?{urlencode(params)}" if params else ""
        try:
            connection.request(
                method,
                path + query,
                body=body,
                headers={"User-Agent": "Go-http-client/1.1", **(headers or {})},
                encode_chunked=not (body is None or isinstance(body, bytes)),
            )
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        self._contract.check(method, path, response.status, response.headers, content)
        return Answer(None, dict(response.headers), content), response.status

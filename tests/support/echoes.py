"""`support.echo_server` as its clients see it: started, ready, and how to talk to it."""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from aar_interface import Certificate
from regkit import pinned
from regkit.identity import Identity
from support.processes import DEADLINE, Process


class Server(Process):
    """The program, started and ready; `url` is its TLS address, `socket_path` its unix socket."""

    def __init__(
        self,
        home: Path,
        *options: str,
        environ: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> None:
        self.home = home
        self.socket_path = home / "socket"
        tests = Path(__file__).parents[1]
        paths = os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        command = [sys.executable, "-m", "support.echo_server", str(home), *options]
        super().__init__(command, {**(environ or {}), "PYTHONPATH": paths})
        if wait:
            self.await_ready()

    def await_ready(self) -> None:
        try:
            line = json.loads(self.expect('"ready"'))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        tcp = next(part for part in line["addresses"].split(",") if part.startswith("https://"))
        self.port = int(tcp.rpartition(":")[2])
        self.url = f"https://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        return self

    @property
    def certificate(self) -> Certificate:
        return Certificate.parse((self.home / "server.crt").read_bytes())

    def session(self, client: Identity | None = None) -> requests.Session:
        return pinned.session(self.certificate.fingerprint, client, (5.0, DEADLINE))

    def tcp(self) -> socket.socket:
        """Open a connection that speaks no TLS yet."""
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE)

    def tls(self, context: ssl.SSLContext | None = None, **options: Any) -> ssl.SSLSocket:
        """Open a TLS connection on which the test writes the bytes itself."""
        return (context or client_context()).wrap_socket(self.tcp(), **options)


def client_context(pair: tuple[str, str] | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if pair:
        context.load_cert_chain(*pair)
    return context


@dataclass(frozen=True)
class Answer:
    """A response as it came: `raw` is its head, `headers` have lower-case names."""

    raw: bytes
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(connection: socket.socket, line: str) -> Answer:
    """Send a request without a body, such as `GET /who`, and read its answer."""
    connection.sendall(f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return read_answer(connection)


def read_answer(connection: socket.socket) -> Answer:
    """Read one response with a Content-Length, and not a byte more."""
    raw = b""
    while not raw.endswith(b"\r\n\r\n"):
        raw += _some(connection, 1)
    first, *rest = raw.decode("latin-1").split("\r\n")
    headers = {}
    for line in filter(None, rest):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = b""
    while len(body) < int(headers["content-length"]):
        body += _some(connection, int(headers["content-length"]) - len(body))
    return Answer(raw, int(first.split()[1]), headers, body)


def unix_connection(server: Server) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(DEADLINE)
    connection.connect(str(server.socket_path))
    return connection


def _some(connection: socket.socket, size: int) -> bytes:
    if data := connection.recv(size):
        return data
    raise EOFError("the server closed the connection within an answer")

"""A network that fails: between one site and the registry, on the socket and within HTTP.

Without a fault it passes bytes on and TLS is from end to end. For faults within HTTP it takes the
registry's place, with the registry's own key, and asks the registry with the site's own key: both
belong to the test.
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

SOCKET_FAULTS = ("refuse", "cut", "slow", "stall")
HTTP_FAULTS = ("http-empty", "http-truncated", "http-short", "http-404", "http-500")
FAULTS = SOCKET_FAULTS + HTTP_FAULTS

PIECE = 16 * 1024
SLOW_PAUSE = 0.1
"""Seconds between two pieces of a slow network: some 160 KB/s."""


class FaultProxy:
    """Listens on a port of its own. `fault` is one of FAULTS or "", `hits` counts what it met.

    `only`: a fault within HTTP is for paths that begin so; everything else is answered as it is.
    """

    def __init__(self, server: tuple[Path, Path], site: tuple[Path, Path]) -> None:
        """`server`, `site`: certificate and key of the registry, and of the site."""
        self.target_port = 0
        self.fault = self.only = ""
        self.hits = 0
        self._server, self._site = server, site
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def begin(self, fault: str, only: str = "") -> None:
        """From now on the network has this fault; open connections end."""
        assert not only or fault in HTTP_FAULTS
        self.hits = 0
        self.only, self.fault = only, fault
        self._hang_up_all()

    def end(self) -> None:
        """The network is as it should be; open connections end, if they had the fault."""
        if self.fault:
            self.fault = ""
            self._hang_up_all()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()
        self._hang_up_all()

    def _hang_up_all(self) -> None:
        with self._lock:
            left = list(self._open)
        for connection in left:
            _hang_up(connection)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        fault = self.fault
        try:
            if fault == "refuse":
                self.hits += 1
            elif fault.startswith("http-"):
                self._speak_http(connection, fault)
            else:
                self._pass_bytes(connection, fault)
        except (OSError, ValueError):
            pass  # either side hung up
        finally:
            with self._lock:
                self._open.discard(connection)
            _hang_up(connection)

    # On the socket

    def _pass_bytes(self, client: socket.socket, fault: str) -> None:
        with socket.create_connection(("127.0.0.1", self.target_port), 10) as server:
            left = 6_000  # past the handshake, within the first answers
            self.hits += fault in ("slow", "stall")
            other = {client: server, server: client}
            while True:
                for source in select.select([client, server], [], [], 120)[0]:
                    data = source.recv(PIECE)
                    if not data:
                        return
                    if fault == "slow":
                        time.sleep(SLOW_PAUSE)
                    elif fault == "stall" and self.fault == "stall" and source is server:
                        time.sleep(0.5)
                    elif fault == "cut" and source is server:
                        left -= len(data)
                        if left < 0:
                            self.hits += 1
                            return
                    other[source].sendall(data)

    # Within HTTP

    def _speak_http(self, connection: socket.socket, fault: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._server)
        with context.wrap_socket(connection, server_side=True) as secured:
            _Handler(secured, ("", 0), self, fault)

    def ask(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, Any, bytes]:
        """Ask the registry as the site; returns status, headers and body."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(*self._site)
        upstream = http.client.HTTPSConnection(
            "127.0.0.1", self.target_port, context=context, timeout=60
        )
        try:
            upstream.request(method, path, body or None, dict(headers.items()))
            answer = upstream.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            upstream.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, connection: Any, address: Any, proxy: FaultProxy, fault: str) -> None:
        self._proxy, self._fault = proxy, fault
        super().__init__(connection, address, proxy)  # type: ignore[arg-type]

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        struck = self.path.startswith(self._proxy.only)
        self._proxy.hits += struck
        if struck and self._fault in ("http-404", "http-500"):
            self._send(int(self._fault[5:]), {}, b"")
            return
        status, headers, content = self._proxy.ask(self.command, self.path, self.headers, body)
        kept = {
            name: value
            for name, value in headers.items()
            if name.lower() not in ("content-length", "connection", "date", "server")
        }
        if not struck:
            self._send(status, kept, content, headers.get("Content-Length"))
        elif self.command == "HEAD":
            self._send(status, kept, b"", headers.get("Content-Length"))
        elif self._fault == "http-empty":
            self._send(200, kept, b"")
        elif self._fault == "http-short":
            self._send(status, kept, content[: len(content) // 2])
        else:
            self._send(status, kept, content[: len(content) // 2], str(len(content)))
            self.close_connection = True

    def _send(
        self, status: int, headers: dict[str, str], content: bytes, length: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()

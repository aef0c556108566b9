"""An HTTP server on loopback that answers exactly what a test wrote, over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

Script = Callable[[str, str, dict[str, str], bytes], bytes | None]
"""(method, target, headers in lower case, body) -> the raw bytes of the answer; None: hang up."""


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A well-formed answer. Header names are written with underscores."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"content-length": str(len(body)), **given}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body


class ScriptedServer:
    """`asked` holds (method, target, headers); `connections` counts those that asked something.

    A connection is kept alive for `per_connection` requests, then closed without a warning.
    """

    def __init__(self, script: Script, per_connection: int = 1000) -> None:
        self._script = script
        self._per_connection = per_connection
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        # Linux wakes a blocked accept on shutdown; closing first would leave it on a stale number.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(10)
        self._listener.close()
        for connection in self._open:
            _hang_up(connection)
        for thread in self._threads:
            thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._talk, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as reader:
                for count in range(self._per_connection):
                    if not self._answer(connection, reader, first=count == 0):
                        break
        except OSError:
            pass  # the client hung up, or the test is over
        finally:
            _hang_up(connection)

    def _answer(self, connection: socket.socket, reader: BinaryIO, *, first: bool) -> bool:
        request = reader.readline().decode().split()
        if len(request) < 2:
            return False
        self.connections += first
        headers: dict[str, str] = {}
        while line := reader.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = reader.read(int(headers.get("content-length", "0")))
        self.asked.append((request[0], request[1], headers))
        content = self._script(request[0], request[1], headers, body)
        if content is None:
            return False
        connection.sendall(content)
        # Only an answer that says where it ends leaves a connection that can be used again.
        length = content.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
        return length.isdigit() and int(length) == len(content.partition(b"\r\n\r\n")[2])


@contextmanager
def scripted(script: Script, per_connection: int = 1000) -> Iterator[ScriptedServer]:
    """Run a server that answers as `script` says."""
    server = ScriptedServer(script, per_connection)
    try:
        yield server
    finally:
        server.close()


class CuttingProxy:
    """Passes TCP on to `target`, and cuts connections after so many bytes from the server.

    `cuts`: one limit per connection that moves data, used up in order; later ones aren't cut.
    `upstream`: count what the client sends instead. `stall`: hold a connection back at so many
    bytes until `go` is set; `stalled` tells that one is held.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cuts: list[int] = []
        self.upstream = False
        self.stall: int | None = None
        self.stalled, self.go = threading.Event(), threading.Event()
        self.made = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.go.set()
        with suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()
        with self._lock:
            left = list(self._open)
        for connection in left:
            _hang_up(connection)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:  # nobody is there: so the client finds nobody
                _hang_up(client)
                continue
            with self._lock:
                self._open |= {client, server}
            left = [0, 0]
            for index, (source, sink) in enumerate([(server, client), (client, server)]):
                threading.Thread(
                    target=self._pass, args=(source, sink, index, left), daemon=True
                ).start()

    def _pass(self, source: socket.socket, sink: socket.socket, index: int, left: list) -> None:
        counted = index == int(self.upstream)
        try:
            while data := source.recv(65536):
                left[index] += len(data)
                if counted and self._cut(left[index]):
                    self.made += 1
                    break
                if counted and self.stall is not None and left[index] > self.stall:
                    self.stalled.set()
                    self.go.wait(60)
                sink.sendall(data)
        except OSError:
            pass  # the other direction hung up
        finally:
            for connection in (source, sink):
                _hang_up(connection)
            with self._lock:
                self._open -= {source, sink}

    def _cut(self, moved: int) -> bool:
        with self._lock:
            if self.cuts and moved > self.cuts[0]:
                self.cuts.pop(0)
                return True
        return False


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it may be gone already
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()

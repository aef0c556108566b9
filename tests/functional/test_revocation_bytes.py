"""Revoked in the midst of a download: how much is served after `aar trust revoke` returned.

A gigabyte is downloaded over several connections, each of which was used before (kept alive), from
each worker: as fast as it goes, slowly, and by clients that have stopped reading. What lies in a
client's own kernel when the revocation returns was served before; the rest counts. What is on the
wire at that moment can't be told apart from it, so the clients' windows are kept small.
"""

from __future__ import annotations

import fcntl
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aar import schema
from aar.registry import Registry
from aar_interface import Role
from support.registry import ClientIdentity, RunningRegistry, make_identity, running

SIZE = 1024**3
WORKERS = 2
LIMIT = 1_000_000
"""Bytes that a client may get after the revocation returned."""
WINDOW = 128 * 1024
DIGEST = "sha256:" + "5" * 64
REQUEST = f"GET /v2/big/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RunningRegistry]:
    home = tmp_path_factory.mktemp("bytes") / "state"
    with running(home, workers=WORKERS) as server:
        with Registry(home) as registry, registry.database.write() as connection:
            now, hexa = schema.now_text(), DIGEST.partition(":")[2]
            connection.execute(
                schema.blob.insert().values(
                    digest=DIGEST, size=SIZE, state=schema.PRESENT, touched=now
                )
            )
            connection.execute(
                schema.repository_blob.insert().values(
                    repository="big", digest=DIGEST, touched=now
                )
            )
            path = home / "data" / "blobs" / "sha256" / hexa[:2] / hexa
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.truncate(SIZE)  # takes no room
        yield server


class Download(threading.Thread):
    """Downloads on a connection that was used before; `pause` seconds after each read."""

    def __init__(self, server: RunningRegistry, identity: ClientIdentity, pause: float) -> None:
        super().__init__(daemon=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(identity.path)
        self.plain = socket.socket()
        self.plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        self.plain.settimeout(30)
        self.plain.connect(("127.0.0.1", server.port))
        self.port = self.plain.getsockname()[1]
        self.connection = context.wrap_socket(self.plain)
        self._pause = pause
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self.stop_after = SIZE
        self.received = 0
        self.ended = ""
        self._ask_small()

    def _ask_small(self) -> None:
        self.connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"{}\n"):
            answer += self.connection.recv(4096)

    def run(self) -> None:
        self.connection.sendall(REQUEST)
        try:
            while data := self.connection.recv(65536):
                self.received += len(data)
                if self.received >= self.stop_after and not self.go_on.is_set():
                    self.stalled.set()
                    self.go_on.wait(60)
                if self._pause:
                    time.sleep(self._pause)
            self.ended = "closed"
        except OSError as error:
            self.ended = type(error).__name__

    def waiting(self) -> int:
        """Bytes that this machine's kernel holds for the client: tcp(7), SIOCINQ."""
        raw = fcntl.ioctl(self.connection.fileno(), termios.FIONREAD, b"\0" * 4)
        return struct.unpack("i", raw)[0]


def worker_of(server: RunningRegistry, port: int) -> int:
    """The process that has the connection from `port`."""
    inode = ""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = fields[1].rpartition(":")[2], fields[2].rpartition(":")[2]
        if (int(local, 16), int(remote, 16)) == (server.port, port):
            inode = fields[9]
    master = server.process.pid
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    for child in children:
        for link in Path(f"/proc/{child}/fd").iterdir():
            try:
                if str(link.readlink()) == f"socket:[{inode}]":
                    return int(child)
            except FileNotFoundError:
                continue
    raise AssertionError(f"no worker has the connection from {port}")


def on_each_worker(
    server: RunningRegistry, identity: ClientIdentity, pause: float
) -> list[Download]:
    """Open one connection with each worker."""
    found: dict[int, Download] = {}
    for _ in range(200):
        download = Download(server, identity, pause)
        worker = worker_of(server, download.port)
        if worker in found:
            download.connection.close()
        else:
            found[worker] = download
        if len(found) == WORKERS:
            return list(found.values())
    raise AssertionError("one worker takes all connections")


def revoked_after(
    server: RunningRegistry, identity: ClientIdentity, downloads: list[Download], name: str
) -> list[int]:
    """Revoke, as a command does; return the bytes that each download got after that."""
    # From here it is too much: what comes while the command works is still the client's due.
    called = [download.received + download.waiting() for download in downloads]
    server.store.revoke(identity.certificate.fingerprint)
    before = [download.received + download.waiting() for download in downloads]
    for download in downloads:
        download.go_on.set()
    for download in downloads:
        download.join(60)
        assert not download.is_alive()
    after = [
        max(0, download.received - so_far)
        for download, so_far in zip(downloads, before, strict=True)
    ]
    ends = [download.ended for download in downloads]
    most = [download.received - so_far for download, so_far in zip(downloads, called, strict=True)]
    print(
        f"{name}: bytes served after the revocation returned: {after}; "
        f"after it was called: {most}; ends: {ends}"
    )
    for download in downloads:
        assert download.received < SIZE
        download.connection.close()
    return after


@pytest.fixture
def identity(server: RunningRegistry) -> ClientIdentity:
    made = make_identity(server.home / "test", "downloader")
    server.trust(made.certificate, Role.CLIENT)
    return made


def test_at_full_speed(server: RunningRegistry, identity: ClientIdentity):
    downloads = on_each_worker(server, identity, 0)
    for download in downloads:
        download.start()
    server.until(lambda: all(download.received > 1_000_000 for download in downloads))
    assert max(revoked_after(server, identity, downloads, "at full speed")) < LIMIT


def test_slowly(server: RunningRegistry, identity: ClientIdentity):
    downloads = on_each_worker(server, identity, 0.002)
    for download in downloads:
        download.start()
    server.until(lambda: all(download.received > 1_000_000 for download in downloads))
    assert max(revoked_after(server, identity, downloads, "slowly")) < LIMIT


def test_clients_that_have_stopped_reading(server: RunningRegistry, identity: ClientIdentity):
    """The server waits in the midst of a piece: it must notice without the client's doing."""
    downloads = on_each_worker(server, identity, 0)
    for download in downloads:
        download.stop_after = 100_000
        download.start()
    for download in downloads:
        assert download.stalled.wait(30)
    held = [-1]

    def settled() -> bool:
        former = held[:]
        held[:] = [download.waiting() for download in downloads]
        time.sleep(0.2)
        return held == former

    server.until(settled)
    assert max(revoked_after(server, identity, downloads, "stopped reading")) < LIMIT

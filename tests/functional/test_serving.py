"""The server under both services: readiness, stopping, reloading, hostile handshakes."""

from __future__ import annotations

import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.registry import RunningRegistry, running

PATIENCE = 15


@pytest.fixture
def server(tmp_path: Path):
    with running(tmp_path / "aar") as registry:
        yield registry


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def dial(server: RunningRegistry, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    return (context or client_context()).wrap_socket(plain)


def ask_status(connection: ssl.SSLSocket) -> bytes:
    connection.sendall(b"GET /1.0/status HTTP/1.1\r\nHost: registry\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}\n"):
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    return answer


def start(home: Path, **environ: str) -> subprocess.Popen[str]:
    (home / "conf").mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "aar", "serve"],
        env={**os.environ, "AAR_HOME": str(home), **environ},
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    with process.stderr:
        return process.wait(PATIENCE)


def test_sigterm_ends_idle_connections_at_once(server: RunningRegistry):
    with dial(server) as idle:
        assert b"200 OK" in ask_status(idle)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert (
            time.monotonic() - started < 4
        )  # without its own rule it would be the 30 s of idling
        assert idle.recv(1) == b""


def test_half_a_client_hello_hurts_nobody(server: RunningRegistry):
    stalled = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    try:
        for connection in stalled:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")
        with dial(server) as other:
            assert b"200 OK" in ask_status(other)
        for connection in stalled[:3]:
            connection.settimeout(PATIENCE)
            assert connection.recv(1) == b""  # dropped when its time is over
    finally:
        for connection in stalled:
            connection.close()


def test_tls_1_2_is_below_the_floor(server: RunningRegistry):
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        dial(server, context)


def test_a_resumed_session_keeps_its_certificate(server: RunningRegistry):
    identity = server.publisher.identity
    assert identity is not None
    context = client_context()
    context.load_cert_chain(identity.path)
    request = b"GET /v2/ HTTP/1.1\r\nHost: registry\r\n\r\n"
    with dial(server, context) as first:
        first.sendall(request)
        assert b"200 OK" in first.recv(65536)
        session = first.session
    plain = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    with context.wrap_socket(plain, session=session) as second:
        assert second.session_reused
        second.sendall(request)
        assert b"200 OK" in second.recv(65536)


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: +4\r\n",
    ],
)
def test_ambiguous_framing_is_refused(server: RunningRegistry, framing: str):
    """Request smuggling needs two readings of where a body ends (RFC 9112, section 6.3)."""
    with dial(server) as connection:
        head = f"POST /v2/app/blobs/uploads/ HTTP/1.1\r\nHost: registry\r\n{framing}\r\n"
        connection.sendall(head.encode() + b"0\r\n\r\nGET /1.0/status HTTP/1.1\r\nHost: r\r\n\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert b"200 OK" not in answer


def test_sighup_presents_the_new_certificate(server: RunningRegistry, tmp_path: Path):
    def presented() -> bytes | None:
        with dial(server) as connection:
            return connection.getpeercert(True)

    before = presented()
    certificates = server.home / "certs"
    (certificates / "server.crt").unlink()
    (certificates / "server.key").unlink()
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE
    while presented() == before:
        assert time.monotonic() < deadline, "the former certificate is still shown"
    wanted = ssl.PEM_cert_to_DER_cert((certificates / "server.crt").read_text())
    assert presented() == wanted


def test_a_port_in_use_is_one_clear_line(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (tmp_path / "conf").mkdir()
        (tmp_path / "conf/main.yaml").write_text(f"http: {{addr: '{address}'}}")
        done = subprocess.run(
            [sys.executable, "-m", "aar", "serve"],
            env={**os.environ, "AAR_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"Error: {address} is in use by another program: stop it, or set http.addr in "
        "conf/main.yaml to another port"
    ]


def test_readiness_is_told_when_it_answers(tmp_path: Path):
    home = tmp_path / "aar"
    (home / "conf").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (home / "conf/main.yaml").write_text(f"http: {{addr: '127.0.0.1:{port}', workers: 1}}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"{os.path.relpath(tmp_path)}/notify")
        process = start(home, NOTIFY_SOCKET=str(tmp_path / "notify"))
        try:
            assert select.select([systemd], [], [], PATIENCE)[0], "never ready"
            assert systemd.recv(4096).startswith(b"READY=1")
            plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
            with client_context().wrap_socket(plain) as connection:
                assert b"200 OK" in ask_status(connection)
        finally:
            assert end(process) == 0


def test_workers_leave_with_a_killed_master(server: RunningRegistry):
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    workers = children.read_text().split()
    assert workers
    server.process.kill()
    deadline = time.monotonic() + PATIENCE
    while any(Path("/proc", worker).exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlives its master"
        select.select([], [], [], 0.05)

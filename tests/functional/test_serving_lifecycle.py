"""Starting, stopping and reloading the server, as systemd and operators do it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import pairs
from support.echoes import Server, read_answer, request, unix_connection
from support.processes import until

STOPS_WITHIN = 3.0
"""Seconds; far below the grace of running requests."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_waits_for_nobody_who_is_idle(tmp_path: Path, number: signal.Signals):
    with (
        Server(tmp_path) as server,
        server.tls() as idle,
        server.tls() as polling,
        server.tcp() as silent,
        unix_connection(server) as local,
    ):
        assert request(idle, "GET /who").status == 200
        assert request(local, "GET /who").status == 200
        polling.sendall(b"GET /poll HTTP/1.1\r\nHost: a\r\n\r\n")
        server.expect("polling")
        start = time.monotonic()
        server.send(number)
        assert read_answer(polling).json() == {"stopping": True}
        assert idle.recv(1000) == b""
        assert local.recv(1000) == b""
        assert silent.recv(1000) == b""
        assert server.wait() == 0
        assert time.monotonic() - start < STOPS_WITHIN
        assert not server.socket_path.exists()
        assert not server.members()
    assert "Traceback" not in server.output
    assert [json.loads(line)["master"] for line in server.output.splitlines()[-1:]] == [True]
    assert server.output.count('"returned"') == 1  # never in a worker


def test_a_running_request_may_finish(tmp_path: Path):
    done = tmp_path / "done"
    with Server(tmp_path) as server, server.tls() as working:
        working.sendall(f"GET /work?{done} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        server.expect("working")
        server.send(signal.SIGTERM)
        until(lambda: refuses(server))
        done.touch()
        answer = read_answer(working)
        assert (answer.json(), answer.headers["connection"]) == ({"done": True}, "close")
        assert server.wait() == 0
    assert "Traceback" not in server.output


def test_a_request_that_never_ends_is_cut_after_its_grace(tmp_path: Path):
    with Server(tmp_path) as server, server.tls() as working:
        working.sendall(f"GET /work?{tmp_path / 'never'} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        server.expect("working")
        server.send(signal.SIGTERM)
        assert server.wait() == 0
        assert working.recv(1000) == b""
    assert "Traceback" not in server.output


def test_a_stop_during_the_start_is_clean(tmp_path: Path):
    with Server(tmp_path, "--slow-start", wait=False) as server:
        server.expect("making")
        server.send(signal.SIGTERM)
        assert server.wait() == 0
        assert "Traceback" not in server.output
        assert '"ready"' not in server.output


def test_reloading_takes_the_new_certificate_and_keeps_listening(tmp_path: Path):
    with Server(tmp_path) as server:
        before = server.certificate
        with server.session() as session:
            worker = session.get(f"{server.url}/who").json()["pid"]
        made = pairs.make(tmp_path / "new", "new", usage="server")
        made.key_path.rename(tmp_path / "server.key")
        made.cert_path.rename(tmp_path / "server.crt")
        server.send(signal.SIGHUP)
        until(lambda: presented(server) == made.certificate.pem)
        assert server.certificate != before
        with server.session() as session:
            until(lambda: worker not in server.members())
            assert session.get(f"{server.url}/who").json()["pid"] != worker
        # A pair that doesn't fit together changes nothing.
        pairs.make(tmp_path / "odd", "odd", usage="server").key_path.rename(
            tmp_path / "server.key"
        )
        server.send(signal.SIGHUP)
        server.expect("reload-failed")
        assert presented(server) == made.certificate.pem
        server.send(signal.SIGTERM)
        assert server.wait() == 0
    assert "Traceback" not in server.output, server.output


def test_every_connection_is_served_while_reloading(tmp_path: Path):
    with Server(tmp_path) as server, server.session() as session:
        first = session.get(f"{server.url}/who").json()["pid"]
        session.close()
        server.send(signal.SIGHUP)

        def pid() -> int:
            with server.session() as fresh:
                return fresh.get(f"{server.url}/who").json()["pid"]

        until(lambda: pid() != first and first not in server.members())
        assert pid() != first
    assert "Traceback" not in server.output


def test_a_port_in_use_is_one_clear_error(tmp_path: Path):
    with (
        Server(tmp_path / "a") as server,
        Server(tmp_path / "b", "--port", str(server.port), wait=False) as second,
    ):
        assert second.wait() == 1
        assert f"127.0.0.1:{server.port} is in use" in second.output
        assert "Traceback" not in second.output
        assert not (tmp_path / "b" / "socket").exists()
        with server.session() as session:
            assert session.get(f"{server.url}/who").status_code == 200


def test_the_unix_socket_is_local_and_for_owner_and_group(tmp_path: Path):
    with Server(tmp_path) as server:
        assert server.socket_path.stat().st_mode & 0o777 == 0o660
        with unix_connection(server) as connection:
            who = request(connection, "GET /who").json()
        assert (who["local"], who["fingerprint"], who["scheme"]) == (True, None, "http")
        with Server(tmp_path, wait=False) as second:
            assert second.wait() == 1
            assert "already runs" in second.output
        with unix_connection(server) as connection:
            assert request(connection, "GET /who").status == 200


def test_nothing_is_left_of_a_killed_server_and_its_socket_is_taken_over(tmp_path: Path):
    with Server(tmp_path, "--workers", "2") as server:
        until(lambda: len(server.members()) == 3)
        server.send(signal.SIGKILL)
        until(lambda: not server.members(), 5)
        assert server.socket_path.exists()
    with Server(tmp_path) as server, unix_connection(server) as connection:
        assert request(connection, "GET /who").json()["local"]


def test_a_worker_that_dies_is_replaced(tmp_path: Path):
    with Server(tmp_path) as server:
        with server.session() as session:
            first = session.get(f"{server.url}/who").json()["pid"]
        os.kill(first, signal.SIGKILL)
        with server.session() as session:
            until(lambda: session.get(f"{server.url}/who").json()["pid"] != first)


@pytest.mark.parametrize("workers", ["1", "3"])
def test_an_application_that_refuses_to_start_ends_the_server(tmp_path: Path, workers: str):
    with Server(tmp_path, "--broken", "refuses", "--workers", workers, wait=False) as server:
        assert server.wait() == 1
        assert not server.members()
    assert "the setting is wrong: mend it" in server.output
    assert "Traceback" not in server.output
    assert '"ready"' not in server.output
    assert server.output.count('"failed"') == 1
    assert server.output.count("start-failed") <= int(workers)


def test_a_fault_of_the_program_at_start_ends_the_server(tmp_path: Path):
    with Server(tmp_path, "--broken", "raises", wait=False) as server:
        assert server.wait() == 1
    assert "a fault of the program" in server.output
    assert '"ready"' not in server.output


def killed(server: Server) -> None:
    """kill -9 the one worker, and wait until another one is there."""
    (first,) = set(server.members()) - {server.pid}
    os.kill(first, signal.SIGKILL)
    until(lambda: set(server.members()) - {server.pid, first})


def test_a_worker_that_must_wait_answers_503_and_comes_back(tmp_path: Path):
    away = tmp_path / "away"
    with Server(tmp_path / "home", "--away", str(away)) as server:
        away.touch()
        killed(server)
        server.expect("start-waits")
        with server.session() as session:
            answer = session.get(f"{server.url}/who")
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.json()["error_code"] == 503
            # The answer comes before a body is read, which is no next request.
            assert session.post(f"{server.url}/sink", data=b"x" * 3_000_000).status_code == 503
            away.unlink()
            until(lambda: session.get(f"{server.url}/who").status_code == 200)
        server.expect("started-late")
        server.send(signal.SIGTERM)
        assert server.wait() == 0
    assert "Traceback" not in server.output
    assert server.output.count('"ready"') == 1


def test_a_worker_that_waits_stops_when_asked(tmp_path: Path):
    away = tmp_path / "away"
    with Server(tmp_path / "home", "--away", str(away)) as server:
        away.touch()
        killed(server)
        server.expect("start-waits")
        server.send(signal.SIGTERM)
        assert server.wait() == 0
    assert "Traceback" not in server.output


def test_a_worker_that_waits_in_vain_ends_the_server(tmp_path: Path):
    away = tmp_path / "away"
    with Server(tmp_path / "home", "--away", str(away)) as server:
        away.touch()
        killed(server)
        server.expect("start-waits")
        away.write_text("wrong")
        assert server.wait() == 1
    assert "the setting is wrong by now: mend it" in server.output
    assert "Traceback" not in server.output


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A socket as systemd's, and the variable that names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = tmp_path / "notify"
        listener.bind(str(path))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.settimeout(20)
        yield listener, {"NOTIFY_SOCKET": str(path)}


def test_systemd_learns_from_the_main_process_when_it_can_answer(
    tmp_path: Path, systemd: tuple[socket.socket, dict[str, str]]
):
    listener, environ = systemd
    with Server(tmp_path / "home", "--slow-start", environ=environ, wait=False) as server:
        server.expect("making")
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(1000)
        listener.settimeout(20)
        assert told(listener) == ("READY=1", server.pid)
        server.await_ready()
        with server.session() as session:
            assert session.get(f"{server.url}/who").status_code == 200
        server.send(signal.SIGHUP)
        state, pid = told(listener)
        first, second = state.split("\n")
        assert (first, pid) == ("RELOADING=1", server.pid)
        assert 0 < int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
        assert told(listener) == ("READY=1", server.pid)
        server.send(signal.SIGTERM)
        assert told(listener) == ("STOPPING=1", server.pid)
        assert server.wait() == 0
    assert server.output.count('"ready"') == 1


def test_a_systemd_that_does_not_listen_is_no_reason_to_fail(tmp_path: Path):
    environ = {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
    with Server(tmp_path, environ=environ) as server:
        server.expect("notify-failed")
        with server.session() as session:
            assert session.get(f"{server.url}/who").status_code == 200


def told(listener: socket.socket) -> tuple[str, int]:
    """Return what was told, and by which process."""
    data, ancillary, _, _ = listener.recvmsg(1000, socket.CMSG_SPACE(struct.calcsize("3i")))
    pid, _, _ = struct.unpack("3i", ancillary[0][2])
    return data.decode(), pid


def presented(server: Server) -> str:
    return ssl.get_server_certificate(("127.0.0.1", server.port))


def refuses(server: Server) -> bool:
    with contextlib.suppress(ConnectionRefusedError), server.tcp():
        return False
    return True

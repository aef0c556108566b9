"""The pinned client against servers that are right, wrong, odd or absent."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from aar_interface import Fingerprint
from regkit import pinned
from regkit.identity import Identity
from support import pairs
from support.echoes import Server
from support.processes import DEADLINE

QUICK = (5.0, 0.2)


class Recorder:
    """A TLS server that keeps what it gets and answers each request with `answer`, or not."""

    def __init__(self, pair: pairs.Pair, answer: bytes = b"") -> None:
        self.heads: list[bytes] = []
        self.handshakes = 0
        self._answer = answer
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*pair.files)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(DEADLINE)

    def _run(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            raw.settimeout(DEADLINE)
            with raw:
                self._serve(raw)

    def _serve(self, raw: socket.socket) -> None:
        try:
            with self._context.wrap_socket(raw, server_side=True) as connection:
                self.handshakes += 1
                while head := connection.recv(10_000):
                    self.heads.append(head)
                    if self._answer:
                        connection.sendall(self._answer)
                        return
        except OSError:
            return  # the client has left, as it should


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("echo")) as started:
        yield started


def test_the_pinned_server_is_talked_to_as_its_client(server: Server, tmp_path: Path):
    pair = pairs.make(tmp_path, "me")
    client = Identity(pair.certificate, pair.cert_path, pair.key_path)
    with pinned.session(server.certificate.fingerprint, client) as session:
        answer = session.get(f"{server.url}/who").json()
    assert answer["fingerprint"] == str(pair.certificate.fingerprint)


@pytest.mark.parametrize("verify", [None, True, False, "/nowhere"])
def test_another_certificate_gets_no_byte_of_a_request(tmp_path: Path, verify):
    right = pairs.make(tmp_path, "right", usage="server")
    wrong = pairs.make(tmp_path, "wrong", usage="server")
    with (
        Recorder(wrong) as server,
        pinned.session(right.certificate.fingerprint, None) as session,
    ):
        if verify is not None:
            session.verify = verify
        with pytest.raises(requests.exceptions.SSLError, match=r"(?i)fingerprint"):
            session.put(f"{server.url}/secret", data=b"secret", headers={"X-A": "secret"})
    assert (server.handshakes, server.heads) == (1, [])


def test_nothing_of_the_environment_counts(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "missing"))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with pinned.session(server.certificate.fingerprint, None) as session:
        session.proxies = {"https": "http://127.0.0.1:1"}
        answer = session.get(f"{server.url}/who")
    assert answer.status_code == 200
    assert "Authorization" not in answer.request.headers


def test_plain_http_reaches_nobody(server: Server):
    with (
        pinned.session(server.certificate.fingerprint, None) as session,
        pytest.raises(requests.exceptions.InvalidSchema),
    ):
        session.get(f"http://127.0.0.1:{server.port}/who")


def test_nobody_there_and_no_tls_there_are_told_apart(tmp_path: Path):
    pin = Fingerprint("0" * 64)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pinned.session(pin, None) as session:
        with pytest.raises(requests.ConnectionError) as absent:
            session.get(f"https://127.0.0.1:{port}/")
        assert not isinstance(absent.value, requests.exceptions.SSLError)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            plain = threading.Thread(target=answer_in_plain, args=(listener,), daemon=True)
            plain.start()
            with pytest.raises(requests.exceptions.SSLError):
                session.get(f"https://127.0.0.1:{listener.getsockname()[1]}/")
            plain.join(DEADLINE)


def test_a_request_is_sent_once_and_not_waited_for_for_ever(tmp_path: Path):
    pair = pairs.make(tmp_path, "mute", usage="server")
    with (
        Recorder(pair) as server,
        pinned.session(pair.certificate.fingerprint, None, QUICK) as session,
        pytest.raises(requests.exceptions.ReadTimeout),
    ):
        session.put(f"{server.url}/once")
    assert len(server.heads) == 1


def test_a_connection_that_breaks_off_is_not_tried_again(tmp_path: Path):
    pair = pairs.make(tmp_path, "curt", usage="server")
    with (
        Recorder(pair, b"HTT") as server,
        pinned.session(pair.certificate.fingerprint, None) as session,
        pytest.raises(requests.ConnectionError),
    ):
        session.get(f"{server.url}/once")
    assert len(server.heads) == 1


def test_a_redirection_is_an_answer_and_leads_nowhere(tmp_path: Path):
    first = pairs.make(tmp_path, "first", usage="server")
    with Recorder(first) as elsewhere:
        answer = f"HTTP/1.1 302 F\r\nLocation: {elsewhere.url}/\r\nContent-Length: 0\r\n\r\n"
        with (
            Recorder(first, answer.encode()) as server,
            pinned.session(first.certificate.fingerprint, None) as session,
        ):
            assert session.get(f"{server.url}/").status_code == 302
    assert elsewhere.heads == []


def answer_in_plain(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

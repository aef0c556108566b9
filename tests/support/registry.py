"""A real `aar serve` process over a temporary state root, and sessions of those who call it.

    with running(tmp_path) as server:
        server.publisher.get("/v2/")

Trust is set in the server's own database, as `aar trust` does it, so that a running server acts on
it. The sessions stand on urllib3 alone, not on the project's own client, which has its own tests.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import requests
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from requests.adapters import HTTPAdapter

from aar import schema
from aar_interface import Certificate, Fingerprint, Role
from regkit.database import Database
from regkit.trust import Entry, TrustStore

START_SECONDS = 30
STOP_SECONDS = 15
PATIENCE = 20
"""Seconds until a condition that must come true is given up."""

COMMAND = (sys.executable, "-m", "aar", "serve", "--log-format", "json")


@dataclass(frozen=True)
class ClientIdentity:
    """A self-signed certificate and its key, as a file that holds both."""

    certificate: Certificate
    path: Path
    key: ec.EllipticCurvePrivateKey


def make_identity(
    folder: Path,
    name: str,
    *,
    valid: tuple[timedelta, timedelta] = (timedelta(days=-1), timedelta(days=1)),
    key: ec.EllipticCurvePrivateKey | None = None,
) -> ClientIdentity:
    """Make a client certificate; `valid` is from when to when, counted from now."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + valid[0])
        .not_valid_after(now + valid[1])
        .sign(key, hashes.SHA256())
    )
    certificate = Certificate.from_der(made.public_bytes(serialization.Encoding.DER))
    path = folder / f"{certificate.fingerprint.short}.pem"
    folder.mkdir(parents=True, exist_ok=True)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + certificate.pem.encode())
    return ClientIdentity(certificate, path, key)


class _PinnedAdapter(HTTPAdapter):
    """Trusts one certificate by its fingerprint, and no other, whatever its names."""

    def __init__(self, server: RunningRegistry) -> None:
        self._server = server
        super().__init__()

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        pool |= {
            "cert_reqs": "CERT_NONE",
            "assert_hostname": False,
            "assert_fingerprint": str(self._server.certificate.fingerprint),
        }
        pool.pop("ca_certs", None)
        return host, pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        conn.cert_file = cert


class RegistrySession(requests.Session):
    """A requests session with a running registry: URLs may be given as paths."""

    def __init__(self, server: RunningRegistry, identity: ClientIdentity | None) -> None:
        super().__init__()
        self.identity = identity
        self._server = server
        self.trust_env = False
        self.cert = str(identity.path) if identity else None
        self.mount("https://", _PinnedAdapter(server))

    @property
    def certificate(self) -> Certificate:
        assert self.identity is not None
        return self.identity.certificate

    @property
    def fingerprint(self) -> Fingerprint | None:
        return self.identity.certificate.fingerprint if self.identity else None

    def request(self, method: Any, url: Any, *args: Any, **more: Any) -> requests.Response:
        if str(url).startswith("/"):
            url = self._server.url + url
        more.setdefault("timeout", 60)
        follow = more.pop("allow_redirects", True)
        answer = super().request(method, url, *args, allow_redirects=False, **more)
        if follow and answer.status_code == 307:
            return self._server.follow(answer, more.get("headers") or {})
        return answer


@dataclass(frozen=True)
class RawAnswer:
    """An answer to a request that was written byte by byte. `closed`: the server hung up."""

    status: int
    body: bytes
    closed: bool

    def codes(self) -> list[str]:
        return [error["code"] for error in json.loads(self.body)["errors"]]


class RunningRegistry:
    """An `aar serve` process. Start it with `running`."""

    def __init__(self, home: Path, settings: Mapping[str, Any]) -> None:
        self.home = home
        self.settings = settings
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._sessions: list[RegistrySession] = []
        self._process: subprocess.Popen[str] | None = None
        (home / "conf").mkdir(parents=True, exist_ok=True)
        configuration = home / "conf" / "main.yaml"
        configuration.touch(mode=0o600)  # it may hold a secret
        configuration.write_text(yaml.safe_dump(dict(settings)))
        self._start()
        embedded = f"sqlite:///{home / 'data' / 'aar.db'}"
        self._database = Database(settings.get("database", {}).get("url") or embedded)
        self.store = TrustStore(self._database, schema.trust)
        self.publisher = self.add_session("publisher")
        self.client = self.add_session("client")
        self.stranger = self.new_session(make_identity(home / "test", "stranger"))
        self.nobody = self.new_session(None)

    # -- the process ----------------------------------------------------------------------------

    @property
    def certificate(self) -> Certificate:
        return Certificate.parse((self.home / "certs" / "server.crt").read_bytes())

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    def _start(self) -> None:
        mark = self.log_mark()
        self._process = subprocess.Popen(
            COMMAND,
            env={**os.environ, "AAR_HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        try:
            ready = self.logged("ready", mark, START_SECONDS)
        except BaseException:
            self.kill()
            raise
        address = str(ready.get("addresses") or ready.get("address"))
        self.port = int(address.rstrip("]'\"/").rpartition(":")[2])
        self.url = f"https://127.0.0.1:{self.port}"

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def stop(self) -> int:
        """Ask the server to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> None:
        """kill -9 the whole server, as the kernel does when memory is short."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self._ended()

    def _ended(self) -> int:
        code = self.process.wait(STOP_SECONDS)
        self._reader.join(STOP_SECONDS)
        return code

    def restart(self) -> None:
        """Start it again on the same state root, after `stop` or `kill`."""
        self._start()

    def close(self) -> None:
        """End everything."""
        for session in self._sessions:
            session.close()
        self._database.close()
        if self.process.poll() is None:
            try:
                self.stop()
            finally:
                if self.process.poll() is None:
                    self.kill()

    # -- its log --------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def log_mark(self) -> int:
        """Where the log ends now; pass it to `logged`."""
        return len(self._lines)

    def logged(self, event: str, mark: int = 0, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait for the first `event` after `mark` and return its fields."""
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                for line in self._lines[mark:]:
                    fields = json.loads(line) if line.startswith("{") else {}
                    if fields.get("event") == event:
                        return fields
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    raise AssertionError(
                        f"no {event!r} in the log:\n{''.join(self._lines[mark:])}"
                    )
                self._news.wait(min(left, 0.2))

    @staticmethod
    def until(condition: Callable[[], bool]) -> None:
        """Ask until `condition` is true, or fail."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "the condition didn't come true"
            time.sleep(0.01)

    # -- trust ----------------------------------------------------------------------------------

    def trust(self, certificate: Certificate, role: Role, **more: Any) -> Entry:
        return self.store.add(certificate, role, **more)

    def revoke(self, session: RegistrySession) -> None:
        self.store.revoke(session.certificate.fingerprint)

    def remove(self, session: RegistrySession) -> None:
        self.store.remove(session.certificate.fingerprint)

    def entry(self, session: RegistrySession) -> Entry:
        entry = self.store.get(session.certificate.fingerprint)
        assert entry is not None
        return entry

    # -- callers --------------------------------------------------------------------------------

    def follow(self, answer: requests.Response, headers: Mapping[str, str]) -> requests.Response:
        """Fetch what a redirect to the bucket leads to, as any client does: as a stranger.

        `headers` are those of the first request. The redirect is the answer's `history`.
        """
        with requests.Session() as session:
            session.trust_env = False
            session.verify = self.settings["storage"]["s3"]["ca-file"]
            found = session.get(answer.headers["Location"], headers=headers, timeout=60)
        found.history = [answer]
        return found

    def new_session(self, identity: ClientIdentity | None) -> RegistrySession:
        """A session, with connections of its own, of whoever has `identity`."""
        session = RegistrySession(self, identity)
        self._sessions.append(session)
        return session

    def add_session(self, role: str, architectures: Sequence[str] = ()) -> RegistrySession:
        """A session of a new identity that is trusted as `role`."""
        identity = make_identity(self.home / "test", role)
        self.trust(identity.certificate, Role(role), architectures=architectures)
        return self.new_session(identity)

    def add_out_of_time_session(self, kind: str) -> RegistrySession:
        """A session of a certificate that was trusted but is `expired` or `not_yet_valid` now."""
        day = timedelta(days=1)
        valid = {"expired": (-2 * day, -day), "not_yet_valid": (day, 2 * day)}[kind]
        identity = make_identity(self.home / "test", kind, valid=valid)
        issued = identity.certificate.issued
        self.trust(identity.certificate, Role.PUBLISHER, now=issued + timedelta(hours=1))
        return self.new_session(identity)

    def reissue(self, session: RegistrySession) -> RegistrySession:
        """A session with a new certificate on the same key."""
        assert session.identity is not None
        return self.new_session(
            make_identity(self.home / "test", "reissued", key=session.identity.key)
        )

    def raw(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        identity: ClientIdentity | None = None,
        give_up: bool = False,
    ) -> RawAnswer:
        """Send a request byte by byte, as the publisher unless `identity` says who.

        With `give_up` hang up after sending, and give an empty answer.
        """
        identity = identity or self.publisher.identity
        assert identity is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(identity.path)
        fields = {"Host": "registry", "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        request = f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
        with (
            socket.create_connection(("127.0.0.1", self.port), PATIENCE) as plain,
            context.wrap_socket(plain) as connection,
        ):
            connection.sendall(request)
            if give_up:
                return RawAnswer(0, b"", True)
            answer = http.client.HTTPResponse(connection, method=method)
            answer.begin()
            with answer:
                return RawAnswer(answer.status, answer.read(), answer.will_close)


@contextmanager
def running(
    home: Path, *, workers: int = 1, settings: Mapping[str, Any] | None = None
) -> Iterator[RunningRegistry]:
    """Run `aar serve` on `home` with `workers` processes on a free port of 127.0.0.1."""
    content = {
        "http": {"addr": "127.0.0.1:0", "workers": workers},
        "log": {"level": "info"},
        **(settings or {}),
    }
    server = RunningRegistry(home, content)
    try:
        yield server
    finally:
        server.close()

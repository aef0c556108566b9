"""A server under test, and the one of this project; those it is compared with are in `peers`.

All of them: mutual TLS 1.3 with one server certificate, HTTP/1.1, as many processes or threads as
there are cores, loopback, no access log. The peers' settings are those that favour them. Clients
offer one cipher suite (`driver.CIPHER`); `cipher` says what was agreed upon.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urljoin

import requests
import yaml
from OpenSSL import SSL

from aar import schema
from aar.registry import Registry
from aar.settings import Settings
from aar_interface import Role
from benchmarks.content import Application, Blob
from benchmarks.driver import CIPHER
from benchmarks.identities import Client
from benchmarks.processes import Group, NotReady, await_port, free_port
from regkit import pinned
from regkit.identity import Identity
from regkit.oci.digest import Digest
from regkit.oci.manifests import MANIFEST
from regkit.settings import load
from regkit.trust import Wanted

TRIES = 5
"""Times that a peer is started anew when its port was taken in between."""


class Server:
    """A server under test: running from `start` to `stop`, with its state in `folder`."""

    name = ""

    def __init__(self, folder: Path, identity: Identity, clients: Iterable[Client]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.identity = identity
        self.clients = tuple(clients)
        self.url = ""
        self._group: Group | None = None

    @property
    def group(self) -> Group:
        assert self._group is not None, f"{self.name} is not started"
        return self._group

    def start(self) -> None:
        """Start it; on return it answers."""
        for attempt in range(TRIES):
            port = free_port()
            self.url = f"https://127.0.0.1:{port}"
            self._group = self._launch(port)
            try:
                self._await(port)
            except NotReady:
                self.stop()
                if attempt == TRIES - 1:
                    raise
            else:
                return

    def stop(self) -> None:
        """End it."""
        if self._group is not None:
            self._group.stop()
            self._group = None

    def session(self, client: Client) -> requests.Session:
        """Return a session with the server as `client`."""
        return pinned.session(self.identity.certificate.fingerprint, client.identity)

    def put(self, made: Application, publisher: Client) -> float:
        """Bring an application there, by HTTP; return when its manifest was sent."""
        with self.session(publisher) as session:
            for blob in (*made.blobs, made.config):
                self._push(session, made.repository, blob)
            begun = time.monotonic()
            answer = session.put(
                f"{self.url}/v2/{made.repository}/manifests/{made.key.tag}",
                data=made.manifest,
                headers={"Content-Type": MANIFEST},
            )
            _expect(answer, 201)
        return begun

    def forget(self, digests: Iterable[str]) -> None:
        """Remove the content of blobs from the disk, behind the server's back: room is short."""
        for digest in digests:
            path = self._stored(Digest.parse(digest))
            if path is not None:
                path.unlink(missing_ok=True)

    def metric(self, client: Client, name: str) -> float:
        """Return one of the numbers that the server tells Prometheus: the sum over its labels."""
        with self.session(client) as session:
            text = session.get(f"{self.url}/metrics").text
        lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith(name)]
        return sum(float(value) for key, _, value in lines if key.partition("{")[0] == name)

    def cipher(self, client: Client) -> str:
        """Shake hands as the drivers do; return protocol and cipher suite."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_tls13_ciphersuites(CIPHER.encode())
        context.use_certificate_file(str(client.pair))
        context.use_privatekey_file(str(client.pair))
        port = int(self.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 10) as raw:
            raw.settimeout(None)
            connection = SSL.Connection(context, raw)
            connection.set_connect_state()
            connection.do_handshake()
            return f"{connection.get_protocol_version_name()} {connection.get_cipher_name()}"

    def _launch(self, port: int) -> Group:
        raise NotImplementedError

    def _await(self, port: int) -> None:
        """Wait until it listens. Raises NotReady."""
        await_port(self.group, port)

    def _stored(self, digest: Digest) -> Path | None:
        """Return the file that holds a blob."""
        raise NotImplementedError

    def _push(self, session: requests.Session, repository: str, blob: Blob) -> None:
        opened = session.post(f"{self.url}/v2/{repository}/blobs/uploads/")
        _expect(opened, 202)
        location = urljoin(self.url, opened.headers["Location"])
        joint = "&" if "?" in location else "?"
        with blob.path.open("rb") as content:
            answer = session.put(
                f"{location}{joint}digest={blob.digest}",
                data=content,
                headers={"Content-Type": "application/octet-stream"},
            )
        _expect(answer, 201)


class Aar(Server):
    """The registry of this project, by default but without limits: few stand for many here."""

    name = "aar"

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        clients: Iterable[Client],
        publishers: Iterable[Client] = (),
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """`settings` are those that differ from the embedded engines'."""
        super().__init__(folder, identity, clients)
        certs = folder / "certs"
        certs.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(identity.cert_path, certs / "server.crt")
        shutil.copy(identity.key_path, certs / "server.key")
        (folder / "conf").mkdir(exist_ok=True)
        limits = {"requests-per-second": 0, "connections-per-client": 0}
        whole = {"http": {"addr": "127.0.0.1:0"}, "limits": limits, **(settings or {})}
        configuration = folder / "conf" / "main.yaml"
        configuration.write_text(yaml.safe_dump(whole), encoding="utf-8")
        configuration.chmod(0o600)
        wanted = [Wanted(client.certificate, Role.CLIENT) for client in self.clients]
        wanted += [Wanted(client.certificate, Role.PUBLISHER) for client in publishers]
        with Registry(folder, load(configuration, Settings)) as registry:
            registry.trust.apply("benchmark", wanted)
            # Written at first use otherwise, in the midst of what is measured.
            with registry.database.write() as connection:
                now = schema.now_text()
                connection.execute(schema.trust.update().values(last_used=now))

    def start(self) -> None:
        """Start it; on return it answers."""
        self._group = self._launch(0)
        line = self._group.expect(lambda text: '"ready"' in text)
        self.url = json.loads(line.text)["address"]

    def _launch(self, port: int) -> Group:
        command = [sys.executable, "-m", "aar", "serve", "--log-format", "json"]
        return Group(command, self.folder / "aar.log", {"AAR_HOME": str(self.folder)})

    def _stored(self, digest: Digest) -> Path:
        return self.folder / "data" / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex


def _expect(answer: requests.Response, status: int) -> None:
    if answer.status_code != status:
        raise RuntimeError(
            f"{answer.request.method} {answer.url}: {answer.status_code}: {answer.text[:300]}"
        )

"""The servers that are compared: the registry, docker-registry (the peer), nginx (the ceiling).

All of them: mutual TLS 1.3 with one server certificate, HTTP/1.1, as many processes or threads as
there are cores, loopback, no access log. The peers' settings are those that favour them. Clients
offer one cipher suite (`driver.handles.CIPHER`); `cipher` says what was agreed upon.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urljoin

import requests
import yaml
from OpenSSL import SSL

from aar import schema
from aar.registry import Registry
from aar_interface import Role
from benchmarks.content import Application, Blob
from benchmarks.driver import CIPHER
from benchmarks.environment import program
from benchmarks.identities import Client
from benchmarks.processes import Group, NotReady, await_port, free_port
from regkit import pinned
from regkit.identity import Identity
from regkit.oci.digest import Digest
from regkit.oci.manifests import MANIFEST
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
    """The registry of this project, with its default settings."""

    name = "aar"

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        clients: Iterable[Client],
        publishers: Iterable[Client] = (),
    ) -> None:
        super().__init__(folder, identity, clients)
        certs = folder / "certs"
        certs.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(identity.cert_path, certs / "server.crt")
        shutil.copy(identity.key_path, certs / "server.key")
        (folder / "conf").mkdir(exist_ok=True)
        settings = {"http": {"addr": "127.0.0.1:0"}}
        (folder / "conf" / "main.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        wanted = [Wanted(client.certificate, Role.CLIENT) for client in self.clients]
        wanted += [Wanted(client.certificate, Role.PUBLISHER) for client in publishers]
        with Registry(folder) as registry:
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


class DockerRegistry(Server):
    """Debian's docker-registry over files. It refuses a TLS below 1.3 as told, but takes no list
    of cipher suites: it chooses among what the client offers."""

    name = "docker-registry"

    def _launch(self, port: int) -> Group:
        authorities = self.folder / "clients.crt"
        authorities.write_text("".join(client.certificate.pem for client in self.clients))
        settings = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {
                "cache": {"blobdescriptor": "inmemory"},
                "filesystem": {"rootdirectory": str(self.folder / "data"), "maxthreads": 1000},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": {
                "addr": f"127.0.0.1:{port}",
                "tls": {
                    "certificate": str(self.identity.cert_path),
                    "key": str(self.identity.key_path),
                    "clientcas": [str(authorities)],
                    "minimumtls": "tls1.3",
                },
            },
        }
        path = self.folder / "config.yml"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        command = [program("docker-registry"), "serve", path]
        return Group(command, self.folder / "docker-registry.log")

    def _stored(self, digest: Digest) -> Path:
        blobs = self.folder / "data" / "docker" / "registry" / "v2" / "blobs"
        return blobs / digest.algorithm / digest.hex[:2] / digest.hex / "data"


class Nginx(Server):
    """nginx serving the same bytes at the same paths, as files: no look-up, no trust store."""

    name = "nginx"

    def put(self, made: Application, publisher: Client) -> float:
        """Link the application's parts to the paths where registries have them."""
        base = self.folder / "www" / "v2" / made.repository
        for folder in (base / "blobs", base / "manifests"):
            folder.mkdir(parents=True, exist_ok=True)
        for blob in (*made.blobs, made.config):
            target = base / "blobs" / str(blob.digest)
            if not target.exists():
                os.link(blob.path, target)
        for name in (str(made.digest), made.key.tag):
            (base / "manifests" / name).write_bytes(made.manifest)
        return time.monotonic()

    def _launch(self, port: int) -> Group:
        authorities = self.folder / "clients.crt"
        authorities.write_text("".join(client.certificate.pem for client in self.clients))
        temporary = "".join(
            f"  {name}_temp_path {self.folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "www").mkdir(exist_ok=True)
        path = self.folder / "nginx.conf"
        path.write_text(
            NGINX.format(
                folder=self.folder,
                port=port,
                workers=len(os.sched_getaffinity(0)),
                temporary=temporary,
                certificate=self.identity.cert_path,
                key=self.identity.key_path,
                authorities=authorities,
                cipher=CIPHER,
                # Its workers would be somebody who can't read the files.
                user="user root;" if os.geteuid() == 0 else "",
            ),
            encoding="utf-8",
        )
        command = [program("nginx"), "-p", self.folder, "-c", path, "-e", "stderr"]
        return Group(command, self.folder / "nginx.log")

    def _stored(self, digest: Digest) -> None:
        return None


NGINX = """\
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr error;
worker_processes {workers};
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off;
{temporary}\
  sendfile on;
  keepalive_timeout 300s;
  keepalive_requests 100000000;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port} ssl reuseport backlog=4096;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites {cipher};
    ssl_verify_client on;
    ssl_client_certificate {authorities};
    ssl_session_tickets off;
    root {folder}/www;
  }}
}}
"""


def _expect(answer: requests.Response, status: int) -> None:
    if answer.status_code != status:
        raise RuntimeError(
            f"{answer.request.method} {answer.url}: {answer.status_code}: {answer.text[:300]}"
        )

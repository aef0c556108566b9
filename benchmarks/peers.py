"""What the registry is compared with: docker-registry (the peer), nginx (the ceiling for reads).

Both from packages, with the settings that favour them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import yaml

from benchmarks.content import Application
from benchmarks.driver import CIPHER
from benchmarks.environment import program
from benchmarks.identities import Client
from benchmarks.processes import Group
from benchmarks.servers import Server
from regkit.oci.digest import Digest


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

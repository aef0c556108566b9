"""A real S3 server for tests: Ceph's radosgw over HTTPS, certified by a private authority.

One monitor, one OSD that keeps its objects in memory, and gateways, on loopback and below one
folder; ready in about two seconds. It is installed by `tests/setup-engines.sh`; where it isn't,
`missing()` says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOOLS = ("radosgw", "ceph-mon", "ceph-osd", "ceph", "radosgw-admin", "monmaptool")
START_SECONDS = 60
ACCESS_KEY, SECRET_KEY = "testaccess", "test/secret+key"  # what a URL or a log must not show
BUCKET = "blobs"

_CONFIGURATION = """
[global]
fsid={fsid}
mon_host=[v2:127.0.0.1:{port},v1:127.0.0.1:{port1}]
public_network=127.0.0.0/8
ms_bind_port_min={osd_min}
ms_bind_port_max={osd_max}
auth_cluster_required=none
auth_service_required=none
auth_client_required=none
ms_mon_client_mode=crc
run_dir={folder}
admin_socket={folder}/$name.$pid.asok
log_file={folder}/$name.log
crash_dir={folder}
keyring={folder}/keyring
osd_pool_default_size=1
osd_pool_default_pg_num=8
osd_pool_default_pg_autoscale_mode=off
osd_crush_chooseleaf_type=0
mon_allow_pool_size_one=true
mon_data_avail_crit=1
paxos_propose_interval=0.05
mon_data={folder}/mon
osd_data={folder}/osd
osd_objectstore=memstore
memstore_device_bytes=4294967296
osd_class_load_list=*
osd_class_default_list=*
rgw_thread_pool_size=64
rgw_gc_obj_min_wait=2
rgw_gc_processor_period=2
"""


def missing() -> str:
    """Why a radosgw can't run here, in one line; empty when it can."""
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"no {', '.join(lacking)}: tests/setup-engines.sh installs them" if lacking else ""


@dataclass(frozen=True)
class Authority:
    """A private authority: its certificate, and a server's certificate and key, as files."""

    certificate: Path
    server_certificate: Path
    server_key: Path


def make_authority(folder: Path) -> Authority:
    """Make an authority and a certificate of it for 127.0.0.1 and localhost."""
    now = datetime.now(timezone.utc)

    def build(name: str, key: Any, issuer: str, signer: Any, extension: Any) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
            )
            .sign(signer, hashes.SHA256())
        )

    keys = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName(
        [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]
    )
    root = build("tests", keys[0], "tests", keys[0], x509.BasicConstraints(True, None))
    server = build("127.0.0.1", keys[1], "tests", keys[0], names)
    made = Authority(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    made.certificate.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    made.server_certificate.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    made.server_key.write_bytes(
        keys[1].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return made


class RadosGateway:
    """The cluster and its first gateway. Start it with `running`.

    Attributes: folder, authority, endpoint (of the first gateway).
    """

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        """`options` are more lines of its configuration, by name."""
        self.folder = folder
        self._options = dict(options or {})
        self.authority = make_authority(folder)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = {**os.environ, "CEPH_CONF": str(folder / "ceph.conf")}
        self._ports = _free_ports(23)  # the gateway's, the monitor's two, the OSD's
        self.port = self._ports
        self.endpoint = f"https://127.0.0.1:{self.port}"
        self._gateway: subprocess.Popen[bytes] | None = None
        try:
            self._make_cluster()
            self.start()
            self._run("radosgw-admin", "user", "create", "--uid=t", "--display-name=t",
                      f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")  # fmt: skip
            self.client().create_bucket(Bucket=BUCKET)
        except BaseException:
            self.close()
            raise

    def _make_cluster(self) -> None:
        folder, port = self.folder, self._ports + 1
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        (folder / "mon").mkdir()
        (folder / "osd").mkdir()
        osd_min = self._ports + 3
        (folder / "ceph.conf").write_text(
            _CONFIGURATION.format(fsid=fsid, port=port, port1=port + 1, folder=folder,
                                  osd_min=osd_min, osd_max=osd_min + 19)
            + "".join(f"{name}={value}\n" for name, value in self._options.items())
        )  # fmt: skip
        keyring = str(folder / "keyring")
        self._run("ceph-authtool", "-C", keyring, "--gen-key", "-n", "mon.", "--cap", "mon",
                  "allow *")  # fmt: skip
        monmap = str(folder / "monmap")
        self._run("monmaptool", "--create", "--addv", "a",
                  f"[v2:127.0.0.1:{port},v1:127.0.0.1:{port + 1}]", "--fsid", fsid,
                  monmap)  # fmt: skip
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
        self._start("mon", "ceph-mon", "-i", "a", "-f")
        self._run("ceph", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._start("osd", "ceph-osd", "-i", "0", "-f")

    def start(self) -> None:
        """Start the gateway, on the port that it had before."""
        certificate = f"ssl_certificate={self.authority.server_certificate}"
        # Without it every answer with a body takes 40 ms more, as long as TCP delays a receipt.
        frontend = f"beast tcp_nodelay=1 ssl_endpoint=127.0.0.1:{self.port} {certificate}"
        self._gateway = self._start(
            "rgw", "radosgw", "-n", "client.rgw", "-f",
            f"--rgw_frontends={frontend} ssl_private_key={self.authority.server_key}",
        )  # fmt: skip
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        deadline = time.monotonic() + START_SECONDS
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 5) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
            ):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: s3\r\nConnection: close\r\n\r\n")
                if connection.recv(4):
                    return
            if self._gateway.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "rgw.out").read_text()[-2000:])
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9 the gateway; what it had acknowledged stays in the cluster."""
        assert self._gateway is not None
        self._gateway.kill()
        self._gateway.wait()
        self._processes.remove(self._gateway)
        self._gateway = None

    def client(self, **more: Any) -> Any:
        """Return a plain boto3 client, with which tests look at what is really there."""
        import boto3  # noqa: PLC0415 - an optional engine
        from botocore.config import Config  # noqa: PLC0415

        options: dict[str, Any] = {
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET_KEY,
            "endpoint_url": self.endpoint,
            "region_name": "us-east-1",
            "verify": str(self.authority.certificate),
            "config": Config(
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        }
        return boto3.client("s3", **{**options, **more})

    def settings(self, prefix: str, **more: Any) -> dict[str, Any]:
        """Return `storage.s3` of a conf/main.yaml for this server, below `prefix`."""
        return {
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "bucket": BUCKET,
            "access-key": ACCESS_KEY,
            "secret-access-key": SECRET_KEY,
            "prefix": prefix,
            "ca-file": str(self.authority.certificate),
            "addressing-style": "path",
            **more,
        }

    def new_prefix(self) -> str:
        """Return a prefix that nobody else uses."""
        return f"{uuid.uuid4().hex[:12]}/"

    def keys(self, prefix: str) -> list[str]:
        """Return the names of all objects below `prefix`, without it."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        found = [item["Key"] for page in pages for item in page.get("Contents", [])]
        client.close()
        return [key.removeprefix(prefix) for key in found]

    def close(self) -> None:
        """End everything at once: nothing of it is to outlive the tests."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        self._processes.clear()

    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.out").open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
            )
        self._processes.append(process)
        return process

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, env=self._environment, capture_output=True, timeout=START_SECONDS, check=False
        )
        assert done.returncode == 0, (command[0], done.stderr.decode()[-2000:])


@contextmanager
def running(options: Mapping[str, str] | None = None) -> Iterator[RadosGateway]:
    """Run one until the context ends; `options` are more lines of its configuration."""
    # Not pytest's folder: unix sockets have short names, and the server isn't a test's.
    with tempfile.TemporaryDirectory(prefix="rgw-") as folder:
        gateway = RadosGateway(Path(folder), options)
        try:
            yield gateway
        finally:
            gateway.close()


def _free_ports(count: int) -> int:
    """Return the first of `count` ports in a row that nobody listens on at this moment."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                for following in range(port + 1, port + count):
                    stack.enter_context(socket.create_server(("127.0.0.1", following)))
                return port

"""The client of the management service's REST API, which `amc` stands on.

It speaks over the unix socket of this machine's service, or over mutual TLS to a pinned one. It
turns answers into values and errors into the kinds of `regkit.errors`, and prints nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ams.client.channel import Channel, WrongCertificate, chunks, filename, metadata
from ams.client.results import (
    CANCELLED,
    SUCCESS,
    Application,
    BadAnswer,
    Operation,
    TrustedCertificate,
    mapping,
)
from ams.client.transport import BASE_URL, unix_session
from regkit.errors import Invalid, ServiceError

if TYPE_CHECKING:
    import requests

    from aar_interface import Fingerprint
    from regkit.identity import Identity

__all__ = [
    "Application",
    "BadAnswer",
    "Cancelled",
    "Client",
    "Download",
    "Operation",
    "StillRunning",
    "TrustedCertificate",
    "WrongCertificate",
]

WAIT_STEP = 20
"""Seconds that one request waits for an operation, well below the answer's time-out."""


class StillRunning(ServiceError):  # noqa: N818 - the name states the outcome
    """An operation didn't end in the time that the caller gave it; it goes on."""


class Cancelled(ServiceError):  # noqa: N818 - the name states the outcome
    """The operation was cancelled."""


@dataclass(frozen=True)
class Download:
    """A file on its way. `size` is None when the service doesn't know it beforehand."""

    filename: str
    sha256: str
    size: int | None
    chunks: Iterator[bytes]


class Client:
    """The operations of the REST API as methods. Use it as a context manager, or `close()` it.

    Every method raises a kind of ServiceError: what the service refused, or Unavailable when it
    can't be reached.
    """

    def __init__(
        self, session: requests.Session, base_url: str = BASE_URL, *, is_local: bool = True
    ) -> None:
        self._channel = Channel(session, base_url, is_local=is_local)

    @classmethod
    def local(cls, socket: Path) -> Client:
        """Return a client of the service whose unix socket is at `socket`."""
        return cls(unix_session(socket))

    @classmethod
    def remote(cls, url: str, pin: Fingerprint, identity: Identity) -> Client:
        """Return a client of the service at `url`, whose certificate has the fingerprint `pin`.

        `identity` is the certificate and key that the service trusts.
        """
        from regkit import pinned  # noqa: PLC0415 - the unix socket needs no TLS

        return cls(pinned.session(pin, identity), url, is_local=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._channel.close()

    # Service

    def info(self) -> dict[str, Any]:
        """Return what `GET /1.0` says about the service and the caller."""
        return mapping(self._channel.get("/1.0"), "description of the service")

    def version(self) -> str:
        """Return the service's version."""
        return str(mapping(self._channel.get("/1.0/version"), "version").get("version", ""))

    # Applications

    def applications(self, filters: Mapping[str, str] | None = None) -> list[Application]:
        """List the applications that fit all `filters` (REST names, such as instance_type)."""
        documents = self._channel.get(
            "/1.0/applications", params={**(filters or {}), "recursion": "1"}
        )
        return [Application.parse(item) for item in _items(documents)]

    def application(self, id_or_name: str) -> Application:
        """Return one application."""
        return Application.parse(self._channel.get(f"/1.0/applications/{_segment(id_or_name)}"))

    def create_application(
        self, body: Iterable[bytes], size: int, sha256: str, *, vm: bool = False
    ) -> Operation:
        """Upload a package as a new application; `sha256` is that of the whole body, in hex."""
        params = {"vm": _flag(vm)}
        return self._channel.upload(
            "POST", "/1.0/applications", body, size, sha256=sha256, params=params
        )

    def update_application(
        self, id_or_name: str, body: Iterable[bytes], size: int, sha256: str
    ) -> Operation:
        """Upload a package as the next version of an application."""
        path = f"/1.0/applications/{_segment(id_or_name)}"
        return self._channel.upload("PATCH", path, body, size, sha256=sha256)

    def change_application(self, id_or_name: str, fields: Mapping[str, Any]) -> Operation:
        """Change single fields (REST names); without any, ask for the application's renewal."""
        path = f"/1.0/applications/{_segment(id_or_name)}"
        return self._channel.start("PATCH", path, json=dict(fields))

    def publish(self, id_or_name: str, number: int, *, published: bool) -> Operation:
        """Publish version `number`, or revoke it."""
        return self._channel.start(
            "PATCH", _version_path(id_or_name, number), json={"published": published}
        )

    def delete_application(self, id_or_name: str, *, force: bool = False) -> Operation:
        """Delete an application; `force` also deletes one that the registry owns."""
        path = f"/1.0/applications/{_segment(id_or_name)}"
        return self._channel.start("DELETE", path, json={"force": force})

    def delete_applications(self, ids: Sequence[str], *, force: bool = False) -> Operation:
        """Delete several applications."""
        return self._channel.start(
            "DELETE", "/1.0/applications", json={"ids": list(ids), "force": force}
        )

    def delete_version(self, id_or_name: str, number: int, *, force: bool = False) -> Operation:
        """Delete one version of an application."""
        return self._channel.start(
            "DELETE", _version_path(id_or_name, number), json={"force": force}
        )

    @contextmanager
    def export(self, id_or_name: str, number: int) -> Iterator[Download]:
        """Download version `number` as a package archive."""
        response = self._channel.send("GET", _version_path(id_or_name, number), stream=True)
        with response:
            length = response.headers.get("Content-Length", "")
            yield Download(
                filename=filename(response.headers.get("Content-Disposition", "")),
                sha256=response.headers.get("X-AMS-Fingerprint", ""),
                size=int(length) if length.isdecimal() and len(length) < 19 else None,
                chunks=chunks(response),
            )

    # Trust and configuration

    def certificates(self) -> list[TrustedCertificate]:
        """List the trusted certificates."""
        documents = self._channel.get("/1.0/certificates", params={"recursion": "1"})
        return [TrustedCertificate.parse(item) for item in _items(documents)]

    def add_certificate(self, pem: str, *, trust_password: str = "") -> str:
        """Trust a certificate (PEM text) and return its fingerprint."""
        body = {"certificate": pem}
        if trust_password:
            body["trust-password"] = trust_password
        answer = metadata(self._channel.send("POST", "/1.0/certificates", json=body))
        return str(mapping(answer, "certificate").get("fingerprint", ""))

    def certificate(self, prefix: str) -> TrustedCertificate:
        """Return the one trusted certificate whose fingerprint begins with `prefix`."""
        return TrustedCertificate.parse(
            self._channel.get(f"/1.0/certificates/{_segment(prefix, 'amc config trust list')}")
        )

    def remove_certificate(self, fingerprint: str) -> Operation:
        """Stop trusting a certificate."""
        return self._channel.start(
            "DELETE", f"/1.0/certificates/{_segment(fingerprint, 'amc config trust list')}"
        )

    def config(self) -> dict[str, Any]:
        """Return all options with their values."""
        body = mapping(self._channel.get("/1.0/config"), "configuration")
        return mapping(body.get("config"), "configuration")

    def set_config(self, name: str, value: str) -> Operation:
        """Set one option; an empty value restores its default."""
        return self._channel.start("PATCH", "/1.0/config", json={"name": name, "value": value})

    def config_origins(self) -> dict[str, Any]:
        """Return for every option who set it: `default`, `manual` or the name of its owner."""
        body = mapping(self._channel.get("/1.0/config/origins"), "origins of the configuration")
        return mapping(body.get("origins"), "origins of the configuration")

    def managed_config(self, owner: str) -> dict[str, Any]:
        """Return what `owner` manages: `config` and `certificates` (PEM)."""
        return mapping(self._channel.get(_managed_path(owner)), "managed configuration")

    def apply_config(self, owner: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Make what `owner` manages exactly `document`: `config` and `certificates` (PEM).

        Returns `changed`, the names of options, and `certificates`, what became of them.
        """
        answer = metadata(self._channel.send("PUT", _managed_path(owner), json=document))
        return mapping(answer, "answer to the managed configuration")

    # Registry

    def registry_status(self) -> dict[str, Any]:
        """Return how the synchronisation with the registry stands."""
        return mapping(self._channel.get("/1.0/registry"), "status of the registry")

    def registry_applications(self) -> list[dict[str, Any]]:
        """List what the registry holds."""
        documents = self._channel.get("/1.0/registry/applications")
        return [mapping(item, "application of the registry") for item in _items(documents)]

    def registry_sync(self, *, dry_run: bool = False, allow_deletions: bool = False) -> Operation:
        """Synchronise now; the operation's metadata tells what was, or would be, done."""
        body = {"dry_run": dry_run, "allow_deletions": allow_deletions}
        return self._channel.start("POST", "/1.0/registry/sync", json=body)

    def registry_push(self, id_or_name: str) -> Operation:
        """Push an application's published versions to the registry."""
        path = f"/1.0/registry/applications/{_segment(id_or_name)}/push"
        return self._channel.start("POST", path)

    def registry_pull(self, name: str) -> Operation:
        """Pull an application's versions from the registry."""
        return self._channel.start("POST", f"/1.0/registry/applications/{_segment(name)}/pull")

    def registry_delete(self, name: str) -> Operation:
        """Delete an application from the registry."""
        return self._channel.start("DELETE", f"/1.0/registry/applications/{_segment(name)}")

    # Operations

    def operation(self, operation_id: str) -> Operation:
        """Return an operation as it stands."""
        return Operation.parse(self._channel.get(_operation(operation_id)))

    def operations(self) -> list[Operation]:
        """List the operations that the service remembers, the newest first."""
        by_status = mapping(
            self._channel.get("/1.0/operations", params={"recursion": "1"}), "list of operations"
        )
        found = [Operation.parse(item) for items in by_status.values() for item in _items(items)]
        return sorted(found, key=lambda item: item.created, reverse=True)

    def cancel(self, operation_id: str) -> None:
        """Ask a running operation to stop."""
        metadata(self._channel.send("DELETE", _operation(operation_id)))

    def wait(
        self,
        operation: Operation,
        timeout: float | None = None,
        progress: Callable[[Operation], None] | None = None,
        step: float = WAIT_STEP,
    ) -> Operation:
        """Wait until `operation` has succeeded and return it as it ended.

        `progress` is called with each state seen, at least every `step` seconds. Raises
        StillRunning after `timeout` seconds, Cancelled, or ServiceError with the operation's own
        message when it failed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if progress is not None:
                progress(operation)
            if operation.finished:
                break
            pause = step if deadline is None else min(step, deadline - time.monotonic())
            if pause <= 0:
                raise StillRunning(
                    f"{operation.description or 'the operation'} still goes on in the service "
                    f"(operation {operation.id}); wait longer with --timeout"
                )
            path = f"{_operation(operation.id)}/wait"
            operation = Operation.parse(
                self._channel.get(path, params={"timeout": f"{pause:.3f}s"})
            )
        if operation.status_code == CANCELLED:
            raise Cancelled(f"{operation.description or 'the operation'} was cancelled")
        if operation.status_code != SUCCESS:
            raise ServiceError(operation.err or f"{operation.description} failed")
        return operation


def _items(documents: Any) -> list[Any]:
    if not isinstance(documents, list):
        raise BadAnswer("the service's answer holds no list: are amc and ams of one version?")
    return documents


def _segment(text: str, see: str = "amc application list") -> str:
    """One path segment. `.` and `..` would be taken for steps in the path."""
    if text in ("", ".", ".."):
        raise Invalid(f"{text!r} is not an id or a name: see '{see}'")
    return quote(text, safe="")


def _managed_path(owner: str) -> str:
    if owner in ("", ".", "..") or "/" in owner:
        raise Invalid(f"{owner[:80]!r} is not an owner's name: write it like juju")
    return f"/1.0/config/managed/{quote(owner, safe='')}"


def _operation(operation_id: str) -> str:
    return f"/1.0/operations/{_segment(operation_id, 'amc operation list')}"


def _version_path(id_or_name: str, number: int) -> str:
    return f"/1.0/applications/{_segment(id_or_name)}/{number}"


def _flag(value: bool) -> str:
    return "true" if value else "false"

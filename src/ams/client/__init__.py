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

import requests

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
from regkit.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NoSpace,
    NotFound,
    ServiceError,
    TooLarge,
    Unavailable,
)

if TYPE_CHECKING:
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
]

CONNECT_TIMEOUT = 10
ANSWER_TIMEOUT = 60
"""Seconds. Every call is answered quickly: long work is an operation."""
UPLOAD_TIMEOUT = 300
"""Seconds for one send, or for the answer after a body was sent (the reference's own value)."""
WAIT_STEP = 20
"""Seconds that one request waits for an operation, well below ANSWER_TIMEOUT."""
CHUNK = 1024 * 1024

_KINDS: dict[int, type[ServiceError]] = {
    kind.status: kind
    for kind in (
        Invalid,
        Forbidden,
        NotFound,
        Conflict,
        TooLarge,
        NoSpace,
        Unavailable,
    )
}


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

    def __init__(self, session: requests.Session, base_url: str = BASE_URL) -> None:
        self._session = session
        self._base = base_url.rstrip("/")

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

        return cls(pinned.session(pin, identity), url)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    # Service

    def info(self) -> dict[str, Any]:
        """Return what `GET /1.0` says about the service and the caller."""
        return mapping(self._get("/1.0"), "description of the service")

    # Applications

    def applications(self, filters: Mapping[str, str] | None = None) -> list[Application]:
        """List the applications that fit all `filters` (REST names, such as instance_type)."""
        documents = self._get("/1.0/applications", params={**(filters or {}), "recursion": "1"})
        return [Application.parse(item) for item in _items(documents)]

    def application(self, id_or_name: str) -> Application:
        """Return one application."""
        return Application.parse(self._get(f"/1.0/applications/{_segment(id_or_name)}"))

    def create_application(
        self, body: Iterable[bytes], size: int, sha256: str, *, vm: bool = False
    ) -> Operation:
        """Upload a package as a new application; `sha256` is that of the whole body, in hex."""
        params = {"vm": _flag(vm)}
        return self._upload("POST", "/1.0/applications", _Sized(body, size), sha256, params)

    def update_application(
        self, id_or_name: str, body: Iterable[bytes], size: int, sha256: str
    ) -> Operation:
        """Upload a package as the next version of an application."""
        path = f"/1.0/applications/{_segment(id_or_name)}"
        return self._upload("PATCH", path, _Sized(body, size), sha256)

    def publish(self, id_or_name: str, number: int, *, published: bool) -> Operation:
        """Publish version `number`, or revoke it."""
        return self._start(
            "PATCH", _version_path(id_or_name, number), json={"published": published}
        )

    def delete_application(self, id_or_name: str, *, force: bool = False) -> Operation:
        """Delete an application; `force` also deletes one that the registry owns."""
        path = f"/1.0/applications/{_segment(id_or_name)}"
        return self._start("DELETE", path, json={"force": force})

    def delete_applications(self, ids: Sequence[str], *, force: bool = False) -> Operation:
        """Delete several applications."""
        return self._start("DELETE", "/1.0/applications", json={"ids": list(ids), "force": force})

    def delete_version(self, id_or_name: str, number: int, *, force: bool = False) -> Operation:
        """Delete one version of an application."""
        return self._start("DELETE", _version_path(id_or_name, number), json={"force": force})

    @contextmanager
    def export(self, id_or_name: str, number: int) -> Iterator[Download]:
        """Download version `number` as a package archive."""
        response = self._send("GET", _version_path(id_or_name, number), stream=True)
        with response:
            length = response.headers.get("Content-Length", "")
            yield Download(
                filename=_filename(response.headers.get("Content-Disposition", "")),
                sha256=response.headers.get("X-AMS-Fingerprint", ""),
                size=int(length) if length.isdecimal() else None,
                chunks=_chunks(response),
            )

    # Trust and configuration

    def certificates(self) -> list[TrustedCertificate]:
        """List the trusted certificates."""
        documents = self._get("/1.0/certificates", params={"recursion": "1"})
        return [TrustedCertificate.parse(item) for item in _items(documents)]

    def add_certificate(self, pem: str, *, trust_password: str = "") -> str:
        """Trust a certificate (PEM text) and return its fingerprint."""
        body = {"certificate": pem}
        if trust_password:
            body["trust-password"] = trust_password
        metadata = self._json(self._send("POST", "/1.0/certificates", json=body))
        return str(mapping(metadata, "certificate").get("fingerprint", ""))

    def certificate(self, prefix: str) -> TrustedCertificate:
        """Return the one trusted certificate whose fingerprint begins with `prefix`."""
        return TrustedCertificate.parse(self._get(f"/1.0/certificates/{_segment(prefix)}"))

    def remove_certificate(self, fingerprint: str) -> Operation:
        """Stop trusting a certificate."""
        return self._start("DELETE", f"/1.0/certificates/{_segment(fingerprint)}")

    def config(self) -> dict[str, Any]:
        """Return all options with their values."""
        body = mapping(self._get("/1.0/config"), "configuration")
        return mapping(body.get("config"), "configuration")

    def set_config(self, name: str, value: str) -> Operation:
        """Set one option; an empty value restores its default."""
        return self._start("PATCH", "/1.0/config", json={"name": name, "value": value})

    # Registry

    def registry_status(self) -> dict[str, Any]:
        """Return how the synchronisation with the registry stands."""
        return mapping(self._get("/1.0/registry"), "status of the registry")

    def registry_applications(self) -> list[dict[str, Any]]:
        """List what the registry holds."""
        documents = self._get("/1.0/registry/applications")
        return [mapping(item, "application of the registry") for item in _items(documents)]

    def registry_sync(self, *, dry_run: bool = False, allow_deletions: bool = False) -> Operation:
        """Synchronise now; the operation's metadata tells what was, or would be, done."""
        body = {"dry_run": dry_run, "allow_deletions": allow_deletions}
        return self._start("POST", "/1.0/registry/sync", json=body)

    def registry_push(self, id_or_name: str) -> Operation:
        """Push an application's published versions to the registry."""
        path = f"/1.0/registry/applications/{_segment(id_or_name)}/push"
        return self._start("POST", path)

    def registry_pull(self, name: str) -> Operation:
        """Pull an application's versions from the registry."""
        return self._start("POST", f"/1.0/registry/applications/{_segment(name)}/pull")

    def registry_delete(self, name: str) -> Operation:
        """Delete an application from the registry."""
        return self._start("DELETE", f"/1.0/registry/applications/{_segment(name)}")

    # Operations

    def operation(self, operation_id: str) -> Operation:
        """Return an operation as it stands."""
        return Operation.parse(self._get(f"/1.0/operations/{_segment(operation_id)}"))

    def cancel(self, operation_id: str) -> None:
        """Ask a running operation to stop."""
        self._json(self._send("DELETE", f"/1.0/operations/{_segment(operation_id)}"))

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
            path = f"/1.0/operations/{_segment(operation.id)}/wait"
            operation = Operation.parse(self._get(path, params={"timeout": f"{pause:.3f}s"}))
        if operation.status_code == CANCELLED:
            raise Cancelled(f"{operation.description or 'the operation'} was cancelled")
        if operation.status_code != SUCCESS:
            raise ServiceError(operation.err or f"{operation.description} failed")
        return operation

    # Transport

    def _get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return self._json(self._send("GET", path, params=params))

    def _start(self, method: str, path: str, **arguments: Any) -> Operation:
        return Operation.parse(self._json(self._send(method, path, **arguments)))

    def _upload(
        self,
        method: str,
        path: str,
        body: _Sized,
        sha256: str,
        params: Mapping[str, str] | None = None,
    ) -> Operation:
        headers = {
            "Content-Type": "application/octet-stream",
            "X-AMS-Fingerprint": sha256,
            "X-AMS-Request": "{}",
        }
        return self._start(
            method, path, data=body, headers=headers, params=params, wait=UPLOAD_TIMEOUT
        )

    def _send(
        self, method: str, path: str, *, wait: float = ANSWER_TIMEOUT, **arguments: Any
    ) -> requests.Response:
        try:
            response = self._session.request(
                method,
                self._base + path,
                timeout=(CONNECT_TIMEOUT, wait),
                allow_redirects=False,
                **arguments,
            )
        except requests.Timeout:
            raise Unavailable(
                f"the management service did not answer within {wait:g} s: look at its log"
            ) from None
        except requests.RequestException as error:
            raise Unavailable(
                f"the connection to the management service broke ({_reason(error)}): "
                "look at its log and try again"
            ) from None
        if not response.ok:
            with response:
                raise _refusal(response)
        return response

    def _json(self, response: requests.Response) -> Any:
        try:
            body = response.json()
        except (requests.RequestException, ValueError):
            raise BadAnswer("what answers is not a management service: check its URL") from None
        if not isinstance(body, dict) or body.get("type") not in ("sync", "async"):
            raise BadAnswer("what answers is not a management service: check its URL")
        return body.get("metadata")


class _Sized:
    """A body of known length, so that `requests` sends Content-Length and not chunks."""

    def __init__(self, body: Iterable[bytes], size: int) -> None:
        self._body = body
        self._size = size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __len__(self) -> int:
        return self._size


def _refusal(response: requests.Response) -> ServiceError:
    message = ""
    try:
        body = response.json()
        message = str(body["error"]) if isinstance(body, dict) and body.get("error") else ""
    except (requests.RequestException, ValueError):
        message = ""
    kind = _KINDS.get(response.status_code, ServiceError)
    return kind(" ".join(message.split()) or f"the service answered {response.status_code}")


def _reason(error: BaseException) -> str:
    """The innermost cause's own words."""
    text = str(error)
    while error.__context__ is not None:
        error = error.__context__
        text = getattr(error, "strerror", None) or str(error) or text
    return text[:200]


def _chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_content(CHUNK)
    except requests.RequestException as error:
        raise Unavailable(f"the download broke off ({_reason(error)}): try again") from None


def _items(documents: Any) -> list[Any]:
    if not isinstance(documents, list):
        raise BadAnswer("the service's answer holds no list: are amc and ams of one version?")
    return documents


def _segment(text: str) -> str:
    """One path segment. `.` and `..` would be taken for steps in the path."""
    if text in ("", ".", ".."):
        raise Invalid(f"{text!r} is not an id or a name: see 'amc application list'")
    return quote(text, safe="")


def _version_path(id_or_name: str, number: int) -> str:
    return f"/1.0/applications/{_segment(id_or_name)}/{number}"


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _filename(disposition: str) -> str:
    """The file name that the service proposes, stripped of any folder."""
    _, _, name = disposition.partition("filename=")
    return Path(name.split(";")[0].strip().strip('"')).name

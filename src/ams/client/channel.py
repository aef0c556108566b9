"""Requests to the management service and their answers: the one door between client and network.

It knows the envelope, sizes and time-outs, and turns refusals and broken connections into the
kinds of `regkit.errors`. What may be asked is `ams.client`'s business, the sockets are
`ams.client.transport`'s and `regkit.pinned`'s.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests
from urllib3.exceptions import NewConnectionError

from ams.client.results import BadAnswer, Operation
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

CONNECT_TIMEOUT = 10
ANSWER_TIMEOUT = 60
"""Seconds. Every call is answered quickly: long work is an operation."""
UPLOAD_TIMEOUT = 300
"""Seconds for one send, or for the answer after a body was sent (the reference's own value)."""
CHUNK = 1024 * 1024
MAX_ANSWER = 256 * CHUNK
"""The most that an answer may hold, but for a download: a list of 100,000 applications fits."""
MAX_REFUSAL = CHUNK
ANSWER_SECONDS = 600
"""Seconds for the whole body of an answer, but for a download."""
_IDENTITY = {"Accept-Encoding": "identity"}

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


class WrongCertificate(ServiceError):  # noqa: N818 - the name states the fault
    """The service showed another certificate than the pinned one; nothing was sent to it."""


class Channel:
    """One service: where it is, and the session that reaches it."""

    def __init__(self, session: requests.Session, base_url: str, *, is_local: bool) -> None:
        self._session = session
        self._base = base_url.rstrip("/")
        self._is_local = is_local
        self._at = "" if is_local else f" at {self._base}"

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """Send GET and return the answer's metadata."""
        return metadata(self.send("GET", path, params=params))

    def start(self, method: str, path: str, **arguments: Any) -> Operation:
        """Send what is answered by an operation, and return that."""
        return Operation.parse(metadata(self.send(method, path, **arguments)))

    def upload(
        self,
        method: str,
        path: str,
        body: Iterable[bytes],
        size: int,
        *,
        sha256: str,
        params: Mapping[str, str] | None = None,
    ) -> Operation:
        """Send `size` bytes whose SHA-256 is `sha256`, in hex; returns the operation started."""
        if not self._is_local:
            # Over TLS a refusal in the middle of a body can't be read: hear it before.
            self.send("GET", "/1.0/config")
        headers = {
            "Content-Type": "application/octet-stream",
            "X-AMS-Fingerprint": sha256,
            "X-AMS-Request": "{}",
        }
        return self.start(
            method,
            path,
            data=_Sized(body, size),
            headers=headers,
            params=params,
            wait=UPLOAD_TIMEOUT,
        )

    def send(
        self,
        method: str,
        path: str,
        *,
        wait: float = ANSWER_TIMEOUT,
        stream: bool = False,
        **arguments: Any,
    ) -> requests.Response:
        """Send a request and return the answer, which is no refusal.

        Its body has been read unless `stream`; then the caller reads and closes it.

        Raises the kind of ServiceError that the service refused with, WrongCertificate, or
        Unavailable when it can't be reached or doesn't answer within `wait` seconds.
        """
        try:
            response = self._session.request(
                method,
                self._base + path,
                timeout=(CONNECT_TIMEOUT, wait),
                allow_redirects=False,
                stream=True,
                **{**arguments, "headers": {**_IDENTITY, **(arguments.get("headers") or {})}},
            )
            fine = response.status_code < HTTPStatus.MULTIPLE_CHOICES
            if not (stream and fine):
                with contextlib.closing(response):
                    _load(response, MAX_ANSWER if fine else MAX_REFUSAL)
        except requests.ConnectTimeout:
            raise self._unreachable(f"no answer within {CONNECT_TIMEOUT} s") from None
        except requests.Timeout:
            raise Unavailable(
                f"the management service{self._at} did not answer within {wait:g} s: "
                "look at its log"
            ) from None
        except requests.exceptions.SSLError as error:
            raise self._tls_fault(error) from None
        except requests.ConnectionError as error:
            if _caused_by(error, NewConnectionError):
                raise self._unreachable(reason(error)) from None
            raise self._broken(error) from None
        except requests.RequestException as error:
            raise self._broken(error) from None
        if not fine:
            raise _refusal(response)
        return response

    def _unreachable(self, why: str) -> Unavailable:
        return Unavailable(
            f"the management service{self._at} can't be reached ({why}): check that it runs, "
            "that nothing blocks the way, and its URL in 'amc remote list'"
        )

    def _broken(self, error: BaseException) -> Unavailable:
        return Unavailable(
            f"the connection to the management service{self._at} broke ({reason(error)}): "
            "look at its log and try again"
        )

    def _tls_fault(self, error: BaseException) -> ServiceError:
        if "ingerprint" in str(error):  # urllib3's assert_fingerprint
            return WrongCertificate(
                f"what answers{self._at} shows another certificate than the one you accepted: if "
                "it was renewed on purpose, accept the new one with 'amc remote set-url', which "
                "shows it first"
            )
        if _caused_by(error, ssl.SSLEOFError):
            return self._broken(error)
        return Unavailable(f"no TLS connection{self._at} ({reason(error)}): check the URL")


def _load(response: requests.Response, limit: int) -> None:
    """Read the body as far as `limit`. Raises BadAnswer, and what requests raises.

    The other side is whoever holds the pinned certificate's key: it may send what it likes.
    """
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise BadAnswer("what answers is not a management service: check its URL")
    deadline = time.monotonic() + ANSWER_SECONDS
    body = bytearray()
    for chunk in response.iter_content(64 * 1024):
        body += chunk
        if len(body) > limit:
            raise BadAnswer(f"the answer is too large: over {limit} bytes")
        if time.monotonic() > deadline:
            raise Unavailable("the management service answers too slowly: try again")
    response._content = bytes(body)  # what requests itself keeps a read body in


def metadata(response: requests.Response) -> Any:
    """Return what an answer carries. Raises BadAnswer when it isn't the service's envelope."""
    try:
        body = response.json()
    except (requests.RequestException, ValueError, RecursionError):
        raise BadAnswer("what answers is not a management service: check its URL") from None
    if not isinstance(body, dict) or body.get("type") not in ("sync", "async"):
        raise BadAnswer("what answers is not a management service: check its URL")
    return body.get("metadata")


def chunks(response: requests.Response) -> Iterator[bytes]:
    """Read a streamed answer. Raises Unavailable when it breaks off."""
    try:
        yield from response.iter_content(CHUNK)
    except requests.RequestException as error:
        raise Unavailable(f"the download broke off ({reason(error)}): try again") from None


def filename(disposition: str) -> str:
    """Return the file name that a Content-Disposition proposes, stripped of any folder.

    Empty for a hidden one, which programs may read as their settings, and for control characters.
    """
    _, _, proposed = disposition.partition("filename=")
    name = Path(proposed.split(";")[0].strip().strip('"')).name
    return "" if name.startswith(".") or not name.isprintable() else name


def reason(error: BaseException) -> str:
    """Return the innermost cause's own words."""
    text = getattr(error, "strerror", None) or str(error)
    while error.__context__ is not None:
        error = error.__context__
        text = getattr(error, "strerror", None) or str(error) or text
    return text[:200]


class _Sized:
    """A body of known length, so that `requests` sends Content-Length and not chunks."""

    def __init__(self, body: Iterable[bytes], size: int) -> None:
        self._body = body
        self._size = size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __len__(self) -> int:
        return self._size


def _caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, kind):
        cause = cause.__context__
    return cause is not None


def _refusal(response: requests.Response) -> ServiceError:
    message = ""
    try:
        body = response.json()
        message = str(body["error"]) if isinstance(body, dict) and body.get("error") else ""
    except (requests.RequestException, ValueError, RecursionError):
        message = ""
    if response.status_code < HTTPStatus.BAD_REQUEST:
        return BadAnswer("what answers sends elsewhere, which the service doesn't: check its URL")
    kind = _KINDS.get(response.status_code, ServiceError)
    return kind(" ".join(message.split()) or f"the service answered {response.status_code}")

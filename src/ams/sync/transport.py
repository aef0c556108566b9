"""HTTP towards one registry at one or several URLs: every foreign fault becomes an error of ours.

The registry proved that it holds the pinned certificate; what it answers is still hostile until
parsed: every answer has a limit on size and time, and redirects aren't followed. What the paths
mean is the business of `ams.sync.registry`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from ams.sync.door import Silent
from ams.sync.endpoints import Endpoints
from regkit.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ServiceError,
    TooLarge,
    Unavailable,
)
from regkit.pinned import reason

MAX_JSON = 8 * 1024 * 1024
"""A page of 1000 changes with every limit reached stays below."""
MAX_FAULT = 64 * 1024
CONNECT_TIMEOUT = 10.0
CONNECT_TIMEOUT_OF_SEVERAL = 3.0
"""Seconds for a connection, and for one while there is another URL to try."""
READ_TIMEOUT = 60.0
"""Seconds without a single byte; a registry that seals a large upload is silent for a while."""
ANSWER_TIMEOUT = 120.0
"""Seconds for a whole small answer, so that one drop per minute doesn't count as alive."""

SLOWER_TRIES, SLOWER_SECONDS = 5, 15.0
"""How often, and for how long, to wait when a registry says that it is asked too often."""

_RETRY_ELSEWHERE = {502, 503, 504}


class WrongCertificate(Unavailable):
    """Whoever answers at the URL isn't the registry that is pinned."""


class NotARegistry(Unavailable):
    """Something answers, but it doesn't speak the registry's API."""


class Transport:
    """Sends requests to the first of several URLs that answers, in the order of `endpoints`."""

    def __init__(
        self,
        endpoints: Endpoints | Sequence[str],
        open_session: Callable[[], requests.Session],
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        if not len(endpoints):
            raise Invalid("no registry is set: 'amc config set registry.url https://<host>:3000'")
        self._endpoints = (
            endpoints if isinstance(endpoints, Endpoints) else Endpoints(list(endpoints))
        )
        self._open_session = open_session
        self._session: requests.Session | None = None
        self._lock = threading.Lock()
        several = len(self._endpoints) > 1
        connect = min(connect_timeout, CONNECT_TIMEOUT_OF_SEVERAL) if several else connect_timeout
        self._timeouts = (connect, read_timeout)

    @property
    def url(self) -> str:
        """The URL that is tried first."""
        return self._endpoints.order()[0]

    @contextmanager
    def send(
        self,
        method: str,
        path: str,
        *,
        base: str | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        patience: float = 0,
        allow: Sequence[int] = (),
    ) -> Iterator[Answer]:
        """Send a request and give its answer, whose body is still to be read.

        `base` keeps it to one URL, as a body that can't be sent twice needs. `patience`: seconds
        that the registry may take longer than usual. Statuses from 400 raise the error of their
        kind unless in `allow`. Raises Unavailable when no URL answers.
        """
        faults: list[ServiceError] = []
        urls = [base] if base else self._endpoints.order()
        for url in urls:
            try:
                response = self._request(method, url, path, params, headers, data, patience)
            except Unavailable as fault:
                self._endpoints.failed(url)
                faults.append(fault)
                continue
            with response:
                if response.status_code in _RETRY_ELSEWHERE:
                    self._endpoints.failed(url)
                    if url != urls[-1]:
                        faults.append(_fault(response, url))
                        continue
                else:
                    self._endpoints.worked(url)
                if response.status_code >= 300 and response.status_code not in (304, *allow):
                    raise _fault(response, url)
                yield Answer(response, url, partial(self._endpoints.failed, url))
                _drain(response)
                return
        raise _summary(faults)

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _request(  # noqa: PLR0917 - private, and in the order of `send`
        self,
        method: str,
        url: str,
        path: str,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        data: Any,
        patience: float,
    ) -> requests.Response:
        with self._lock:
            if self._session is None:
                self._session = self._open_session()
            session = self._session
        connect, read = self._timeouts

        def send() -> requests.Response:
            return session.request(
                method,
                url + path,
                params=params,
                headers={"Accept-Encoding": "identity", **(headers or {})},
                data=data,
                timeout=(connect, read + patience),
                allow_redirects=False,
                stream=True,
            )

        again = data is None or isinstance(data, bytes)
        with foreign_faults(url):
            for _ in range(SLOWER_TRIES):
                try:
                    response = send()
                except requests.exceptions.ConnectionError as fault:
                    # A kept-alive connection may have been closed by the other side just now.
                    if not _hung_up(fault) or not again:
                        raise
                    response = send()
                pause = _asked_to_wait(response)
                if pause is None or not again:
                    return response
                response.close()
                time.sleep(pause)
            return send()


class Answer:
    """An answer of the registry: status, headers, a body that is read with limits."""

    def __init__(
        self, response: requests.Response, base: str, cut: Callable[[], None] = lambda: None
    ) -> None:
        """Take what requests gives. `cut` is told when the body doesn't arrive as a whole."""
        self._response = response
        self.base = base
        self._cut = cut

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return self._response.status_code

    def header(self, name: str) -> str:
        """Return a header, or an empty text."""
        return str(self._response.headers.get(name, ""))

    def content(self, limit: int) -> bytes:
        """Read the whole body. Raises TooLarge, Unavailable when it is cut or too slow."""
        with self._noticing_cuts():
            return _read(self._response, limit)

    def stream(self, chunk: int) -> Iterator[bytes]:
        """Read the body in pieces, as it is. Raises Unavailable when it is cut."""
        with self._noticing_cuts():
            yield from self._response.raw.stream(chunk, decode_content=False)

    @contextmanager
    def _noticing_cuts(self) -> Iterator[None]:
        try:
            with foreign_faults(self.base):
                yield
        except Unavailable:
            self._cut()
            raise

    def metadata(self) -> Any:
        """Return the metadata of the `/1.0` envelope. Raises NotARegistry."""
        body = _parsed(self.content(MAX_JSON))
        if not isinstance(body, dict) or body.get("type") not in ("sync", "error"):
            raise NotARegistry(
                f"{self.base} answers, but not as an application registry: check registry.url"
            )
        return body.get("metadata")


def path_of(location: str) -> str:
    """Return path and query of a `Location`: an upload goes on where it began, nowhere else."""
    try:
        parts = urlsplit(location)
    except ValueError:
        parts = None
    if parts is None or not parts.path.startswith("/"):
        raise Invalid("the registry named no usable location for an upload")
    return parts.path + (f"?{parts.query}" if parts.query else "")


@contextmanager
def foreign_faults(url: str) -> Iterator[None]:
    """Turn the faults of requests, urllib3 and sockets into Unavailable or WrongCertificate."""
    try:
        yield
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as fault:
        if "ingerprint" in str(fault):
            raise WrongCertificate(
                f"{url} presents another certificate than registry.fingerprint names: check the "
                "URL; if the registry's certificate was renewed, import the new one with 'amc "
                "config trust add' and set registry.fingerprint"
            ) from fault
        raise Unavailable(f"no TLS connection to {url}: {reason(fault)}") from fault
    except requests.exceptions.ConnectTimeout as fault:
        raise Unavailable(f"{url} doesn't answer in time: is it reachable from here?") from fault
    except (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as fault:
        raise Silent(f"{url} doesn't answer in time: is it reachable from here?") from fault
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as fault:
        raise Unavailable(f"{url} can't be reached: {reason(fault)}") from fault
    except OSError as fault:
        # A file of ours raises kinds of its own (NoSpace); what is left is the socket.
        raise Unavailable(f"{url} can't be reached: {reason(fault)}") from fault


def _read(response: requests.Response, limit: int) -> bytes:
    # Identity was asked for, and what is packed could be a thousand times as large.
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise NotARegistry("what answers packs its answers, which a registry doesn't")
    deadline = time.monotonic() + ANSWER_TIMEOUT
    parts: list[bytes] = []
    size = 0
    for part in response.raw.stream(64 * 1024, decode_content=False):
        size += len(part)
        if size > limit:
            raise TooLarge(f"an answer of the registry has more than {limit} bytes")
        if time.monotonic() > deadline:
            raise Unavailable("the registry answers too slowly")
        parts.append(part)
    return b"".join(parts)


def _asked_to_wait(response: requests.Response) -> float | None:
    """Return the seconds after which a registry with a limit wants to be asked again, if few."""
    text = response.headers.get("Retry-After", "")
    if response.status_code != 429 or not text.isdecimal() or len(text) > 3:
        return None
    return float(text) if float(text) <= SLOWER_SECONDS else None


def _hung_up(fault: requests.exceptions.ConnectionError) -> bool:
    """Whether the connection was there, and ended before an answer began."""
    inner = fault.args[0] if fault.args else None
    return isinstance(inner, urllib3.exceptions.ProtocolError) and any(
        isinstance(arg, (ConnectionError, http.client.RemoteDisconnected)) for arg in inner.args
    )


def _drain(response: requests.Response) -> None:
    """Read what is left of a small answer, so that its connection can be used again."""
    with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
        if response.raw.length_remaining is not None:
            response.raw.read(MAX_FAULT)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _fault(response: requests.Response, url: str) -> ServiceError:
    status = response.status_code
    if 300 <= status < 400:
        return NotARegistry(f"{url} redirects, which a registry doesn't: check registry.url")
    try:
        body = _parsed(_read(response, MAX_FAULT))
    except (ServiceError, requests.RequestException, urllib3.exceptions.HTTPError, OSError):
        body = None
    message, metadata = _told(body)
    text = f"the registry at {url} answers {status}" + (f": {message}" if message else "")
    kinds: dict[int, type[ServiceError]] = {
        401: Forbidden,
        403: Forbidden,
        404: NotFound,
        409: Conflict,
        413: TooLarge,
    }
    kind = Unavailable if status >= 500 or status in (408, 429) else kinds.get(status, Invalid)
    fault = kind(text)
    fault.status_of_answer = status  # type: ignore[attr-defined] - read by `answered`
    fault.metadata_of_answer = metadata  # type: ignore[attr-defined]
    return fault


def answered(fault: ServiceError) -> tuple[int | None, Any]:
    """Return status and metadata of the answer behind an error; None when there was no answer."""
    return getattr(fault, "status_of_answer", None), getattr(fault, "metadata_of_answer", None)


def _told(body: Any) -> tuple[str, Any]:
    """Return the message of a `/1.0` error or of an OCI error list, and the metadata."""
    if not isinstance(body, dict):
        return "", None
    message, errors = body.get("error"), body.get("errors")
    if not isinstance(message, str) and isinstance(errors, list) and errors:
        first = errors[0]
        message = first.get("message") if isinstance(first, dict) else ""
    return _plain(message) if isinstance(message, str) else "", body.get("metadata")


def _summary(faults: Sequence[ServiceError]) -> ServiceError:
    if len(faults) == 1:
        return faults[0]
    kind = WrongCertificate if isinstance(faults[-1], WrongCertificate) else Unavailable
    return kind("no registry answers: " + "; ".join(str(fault) for fault in faults))


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()[:300]

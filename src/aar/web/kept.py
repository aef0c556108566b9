"""Answers that still hold, for requests that come again byte for byte.

A fleet asks the same over and over: what is new, this manifest, that small blob. Such an answer is
the same for all who may read, until something is committed to the database; so it is kept with the
database's version, and given again without parsing, routing or reading anything, as long as that
version is the present one. Whether the asker may read is asked every time (`access`). A view
decides that its answer may be kept, by `offer`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from flask import Response, request

from aar.web.metrics import Metrics
from regkit import logs
from regkit.serving import whole_request

LIFETIME = 10.0
"""Seconds that an answer is kept at most: looking for an unused blob keeps it from the janitor."""
LARGEST = 64 * 1024
"""Bytes of the largest body that is kept."""
ROOM = 16 * 1024 * 1024
"""Bytes of all that is kept in one process, the requests included."""

_OFFERED, _VERSION = "aar.kept.response", "aar.kept.version"
_SERVER = b"Server: gunicorn\r\n"

log = logs.get("aar.web")


@dataclass(frozen=True)
class _Answer:
    status: bytes
    rest: bytes
    version: int
    until: float
    told: Callable[[], None]


class Kept:
    """The kept answers of one worker.

    Args:
        version: gives a number that differs after every commit, sooner or later; `now` gives it
            as it is at the call (`Database.version`, `fresh_version`).
        may_read: whether whoever is at the other end of a connection may have the answer without
            more ado; anything else takes the long way, where a refusal is told and logged.
        metrics: where answers are counted.
    """

    def __init__(
        self,
        version: Callable[[], int],
        now: Callable[[], int],
        may_read: Callable[[Any], bool],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._version = version
        self._version_now = now
        self._may_read = may_read
        self._metrics = metrics
        self._clock = clock
        self._answers: dict[bytes, _Answer] = {}
        self._size = 0
        self._date = (0, b"")

    def answer(self, asked: bytes, connection: Any) -> bytes | None:
        """Return the answer to a request whose bytes are `asked`, or None when none holds."""
        found = self._answers.get(asked)
        if found is None:
            return None
        if found.version != self._version_now():
            if self._answers.get(asked) is found:  # nobody has done it meanwhile
                self._answers.clear()
                self._size = 0
            return None
        if self._clock() > found.until:
            self._forget(asked)
            return None
        if not self._may_read(connection):
            return None
        found.told()
        return found.status + self._now() + found.rest

    def begin(self, environ: dict[str, Any]) -> None:
        """Note the database's version, before anything is read for this request."""
        environ[_VERSION] = self._version()

    def keep(
        self, environ: dict[str, Any], status: str, headers: Sequence[tuple[str, str]]
    ) -> None:
        """Keep the answer that was just made, if its view has offered it."""
        offered = environ.get(_OFFERED)
        asked = whole_request(environ)
        if offered is None or asked is None or log.debugging:
            return
        response, route = offered
        method = environ["REQUEST_METHOD"]
        with_body = method == "GET" and response.status_code == 200
        if response.is_streamed or (with_body and (response.content_length or 0) > LARGEST):
            return
        body = response.get_data() if with_body else b""
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        rest = b"Connection: keep-alive\r\n" + head.encode("latin-1") + b"\r\n" + body
        told = self._teller(method, route, response.status_code, len(body))
        first = f"HTTP/1.1 {status}\r\n".encode("latin-1") + _SERVER
        until = self._clock() + LIFETIME
        self._forget(asked)
        self._size += len(asked) + len(rest)
        self._answers[asked] = _Answer(first, rest, environ[_VERSION], until, told)
        while self._size > ROOM:
            self._forget(next(iter(self._answers)))

    def _forget(self, asked: bytes) -> None:
        found = self._answers.pop(asked, None)
        if found is not None:
            self._size -= len(asked) + len(found.rest)

    def _teller(self, method: str, route: str, status: int, sent: int) -> Callable[[], None]:
        """Return what counts one more of an answer as `app` does."""
        requests = self._metrics.requests.labels(method, route, status)
        seconds = self._metrics.seconds.labels(route)
        bytes_sent = self._metrics.sent

        def told() -> None:
            requests.inc()
            seconds.observe(0.0)
            if sent:
                bytes_sent.inc(sent)

        return told

    def _now(self) -> bytes:
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode())
        return self._date[1]


def offer(response: Response) -> Response:
    """Say that an answer is the same for all who may read, until the next commit."""
    if response.status_code not in (200, 304):
        return response  # a part: whoever resumes asks once
    rule = request.url_rule
    request.environ[_OFFERED] = (response, rule.rule if rule else "unmatched")
    return response

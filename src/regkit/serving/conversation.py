"""One connection's requests, one after the other: gunicorn's loop for HTTP/1.1, and a short cut.

An application may have an attribute `shortcut`, a function from the bytes of a request and the
connection to the whole answer, or None. It is asked first about everything that arrives between
two requests. gunicorn's parser and the WSGI call only get to see what it has no answer to. The
meaning of bytes that come again is known: they were parsed when they came first (`whole`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gunicorn.http import get_parser

Shortcut = Callable[[bytes, Any], "bytes | None"]

END_OF_HEAD = b"\r\n\r\n"
FIRST_READ = 8192
"""Bytes that are read at once where a request begins, as by gunicorn."""


def requests_of(
    connection: Any,
    address: Any,
    config: Any,
    patience: Callable[[], Any],
    shortcut: Shortcut | None,
) -> Iterator[Any]:
    """Give the requests of a TLS connection that have to be answered, until it is over.

    `patience` makes a context that ends what takes too long (gunicorn's `timeout_ctx`). Raises
    what gunicorn's parser raises for broken requests, and OSError.
    """
    parser = get_parser(config, connection, address)
    while True:
        connection.request = None
        if shortcut is not None and _is_between(parser):
            data = _first_bytes(connection, config.keepalive, shortcut)
            if data is None:
                return
            parser.unreader.unread(data)
            connection.request = data
        request = None
        with patience():
            request = next(parser, None)
        if not request:
            return
        if connection.request is not None and not whole(request, connection.request):
            connection.request = None
        yield request


def whole(request: Any, data: bytes) -> bool:
    """Whether `data` is this request, all of it and nothing else, and it has no body."""
    reader = request.body.reader
    return (
        data.find(END_OF_HEAD) == len(data) - len(END_OF_HEAD)
        and request.method in ("GET", "HEAD")
        and request.version == (1, 1)
        and getattr(reader, "length", None) == 0
        and not request._expected_100_continue
        and not request.should_close()
        and not request.unreader.buf.getbuffer().nbytes
    )


def _is_between(parser: Any) -> bool:
    """Whether the next byte that arrives begins a request."""
    if parser.mesg is not None and (parser.mesg.should_close() or not parser.finish_body()):
        return False
    return not parser.unreader.buf.getbuffer().nbytes


def _first_bytes(connection: Any, seconds: float, shortcut: Shortcut) -> bytes | None:
    """Return the first bytes of a request that has no short answer; None when none comes."""
    while True:
        data = connection.receive(FIRST_READ, seconds)
        if not data:
            return None
        answer = shortcut(data, connection)
        if answer is None:
            return data
        connection.sendall(answer)

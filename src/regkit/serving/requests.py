"""What an application may ask of the connection that its request came on."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from aar_interface import Certificate
from regkit.serving.state import stopping

CHUNK = 1024 * 1024
"""The most that is read from the socket at once."""


class ClientGone(ConnectionError):  # noqa: N818 - the name states the outcome
    """The other side went away before its request was complete."""


def peer_certificate(environ: dict[str, Any]) -> Certificate | None:
    """Return the certificate whose key the caller proved to hold; None without one.

    None too for bytes that are no certificate: such a caller has no identity.
    """
    connection = environ["gunicorn.socket"]
    return getattr(connection, "peer", None)


def is_local(environ: dict[str, Any]) -> bool:
    """Return whether the request came over the unix socket."""
    return environ["gunicorn.socket"].family == socket.AF_UNIX


def reset(connection: Any) -> None:
    """Let a TLS connection (`gunicorn.socket`) end by a reset when it is closed.

    What the kernel has taken and not sent is dropped then, rather than sent after all; the client
    sees an error, never an end.
    """
    with contextlib.suppress(OSError):  # it may be closed already
        connection.reset()


def read_body(environ: dict[str, Any], size: int = CHUNK) -> Iterator[bytes]:
    """Give the request's body as it arrives, in pieces of at most `size` bytes.

    Raises ClientGone when it ends too early or its framing is broken, so that a cut upload is
    never taken for a whole one. A piece is what one read of the socket gave: an upload that
    stalls has everything before the stall already passed on.
    """
    reader = environ["wsgi.input"].reader
    if hasattr(reader, "parser"):
        yield from _chunked(environ["wsgi.input"], reader)
        return
    while getattr(reader, "length", 0) > 0:
        try:
            data = reader.unreader.read(read_ahead=min(reader.length, size))
        except OSError as error:
            raise ClientGone(f"the client went away: {error}") from error
        if not data:
            environ["wsgi.input"].failed = True
            raise ClientGone(f"the client went away with {reader.length} bytes missing")
        if len(data) > reader.length:  # pipelined bytes belong to the next request
            reader.unreader.unread(data[reader.length :])
            data = data[: reader.length]
        reader.length -= len(data)
        yield data


def whole_request(environ: dict[str, Any]) -> bytes | None:
    """Return the bytes of the request where they mean the same whenever they come again.

    None for a request with a body, or one that came in several pieces or with others.
    """
    return getattr(environ["gunicorn.socket"], "request", None)


def unread(body: Any) -> bool:
    """Return whether more of a body (gunicorn's `Body`) is left than is worth reading."""
    reader = getattr(body, "reader", None)
    if reader is None:
        return False
    if getattr(body, "failed", False):
        return True
    if hasattr(reader, "parser"):
        return reader.parser is not None
    return getattr(reader, "length", 0) > CHUNK


def announcing_close(app: Any) -> Any:
    """Wrap a WSGI application so that an answer to a half-read request closes the connection.

    Otherwise gigabytes of a refused upload would be read to reach the next request. An answer
    given while the server stops is the connection's last one, too.
    """

    def wrapped(environ: dict[str, Any], start_response: Any) -> Any:
        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            if stopping() or unread(environ["wsgi.input"]):
                start_response.__self__.force_close()
            return start_response(status, headers, exc_info)

        return app(environ, start)

    wrapped.shortcut = getattr(app, "shortcut", None)  # type: ignore[attr-defined]
    return wrapped


def drain(body: Any, limit: int) -> None:
    """Read up to `limit` bytes of what is left, so that the client gets to see its answer."""
    for data in read_body({"wsgi.input": body}):
        limit -= len(data)
        if limit <= 0:
            return


def _chunked(body: Any, reader: Any) -> Iterator[bytes]:
    from gunicorn.http.errors import NoMoreData, ParseException  # noqa: PLC0415 - after patch()

    if reader.parser is None:
        return
    try:
        for data in reader.parser:
            if data:
                yield data
    except (NoMoreData, ParseException, OSError) as error:
        body.failed = True
        raise ClientGone(f"the client went away or sent a broken body: {error}") from error
    reader.parser = None

"""Serving a WSGI application: gunicorn with gevent, TLS in the same process.

What an application needs of the connection under a request (who is at the other end, the body as
it arrives) and the one call that serves. It knows no route and decides nothing about trust. TLS
itself is `regkit.tls`'s business.

This module imports neither gevent nor gunicorn, so that `patch()` can come first.
"""

from __future__ import annotations

from regkit.serving.listeners import Listener, TcpListener, UnixListener
from regkit.serving.requests import ClientGone, is_local, peer_certificate, read_body
from regkit.serving.state import patch, stopping

__all__ = [
    "ClientGone",
    "Listener",
    "TcpListener",
    "UnixListener",
    "is_local",
    "patch",
    "peer_certificate",
    "read_body",
    "serve",
    "stopping",
]


def serve(*args: object, **options: object) -> None:
    """Serve in the foreground; see `regkit.serving.server.serve` for the arguments."""
    from regkit.serving import server  # noqa: PLC0415 - gunicorn must come after patch()

    server.serve(*args, **options)  # type: ignore[arg-type] - passed on as it is

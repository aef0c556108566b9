"""Serving a WSGI application: gunicorn with gevent, TLS in the same process.

What an application needs of the connection under a request (who is at the other end, the body as
it arrives); the one call that serves is `regkit.serving.server.serve`. It knows no route and
decides nothing about trust. TLS itself is `regkit.tls`'s business.

This module imports neither gevent nor gunicorn, so that `patch()` can come before `server`.
"""

from __future__ import annotations

from regkit.serving.listeners import Listener, TcpListener, UnixListener
from regkit.serving.requests import (
    ClientGone,
    is_local,
    peer_certificate,
    read_body,
    reset,
    whole_request,
)
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
    "reset",
    "stopping",
    "whole_request",
]

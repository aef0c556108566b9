"""Requests over the service's unix socket.

One adapter for `requests`, which the `Client` mounts when it isn't given a session of its own. It
knows nothing of the API. The socket's file permissions decide who may connect.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from regkit.errors import Forbidden, Unavailable
from regkit.pinned import Session

BASE_URL = "http://unix.socket"
"""A name that is never resolved; the adapter connects to the socket whatever it is."""


def unix_session(path: Path) -> requests.Session:
    """Return a session that sends everything to the socket at `path`, and nothing elsewhere.

    A request raises Unavailable when no service answers there, Forbidden when the caller may not
    open the socket.
    """
    session = Session()
    session.trust_env = False
    session.adapters.clear()
    session.mount(BASE_URL, _UnixAdapter(path))
    return session


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, timeout: Any) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        timeout = self.timeout
        connection.settimeout(timeout if isinstance(timeout, (int, float)) else None)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise _unreachable(self._path, error) from None
        self.sock = connection


class _UnixPool(HTTPConnectionPool):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", maxsize=4)
        self._path = path

    def _new_conn(self) -> Any:
        return _UnixConnection(self._path, self.timeout.connect_timeout)


class _UnixAdapter(HTTPAdapter):
    def __init__(self, path: Path) -> None:
        self._pool = _UnixPool(path)
        super().__init__()

    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        return self._pool

    def request_url(self, request: Any, proxies: Any) -> str:
        return request.path_url

    def close(self) -> None:
        self._pool.close()


def _unreachable(path: Path, error: OSError) -> Unavailable | Forbidden:
    if isinstance(error, PermissionError):
        return Forbidden(
            f"you may not use {path}: run this as root, or as the user that runs the service"
        )
    if "too long" in str(error):
        return Unavailable(
            f"the path of the socket is too long for the system ({path}): "
            "choose a shorter $AMS_HOME"
        )
    return Unavailable(
        f"the management service is not running (nothing answers at {path}): start it with "
        "'ams serve', or set $AMS_HOME to where it keeps its state"
    )

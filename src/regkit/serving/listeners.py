"""Sockets to listen on, bound before any worker starts, so that a fault is one clear line."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from regkit.errors import Invalid, Unavailable

BACKLOG = 2048


@dataclass(frozen=True)
class TcpListener:
    """A TCP address that speaks TLS. Port 0 takes any free one."""

    host: str
    port: int

    def bind(self) -> socket.socket:
        """Return the bound socket. Raises Unavailable, Invalid."""
        where = f"{self.host}:{self.port}"
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except socket.gaierror as error:
            raise Invalid(
                f"http.addr: {where}: {error.strerror}: use an address of this machine"
            ) from None
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                raise Unavailable(
                    f"{where} is in use by another program: stop it, or set http.addr in "
                    "conf/main.yaml to another port"
                ) from None
            raise Invalid(
                f"can't listen on {where} ({error.strerror}): set http.addr in conf/main.yaml "
                "to an address of this machine"
            ) from None
        listener.listen(BACKLOG)
        return listener


@dataclass(frozen=True)
class UnixListener:
    """A unix socket that speaks plain HTTP: its file mode says who may come in."""

    path: Path
    mode: int = 0o660

    def bind(self) -> socket.socket:
        """Return the bound socket, in place of one that a killed server left.

        Raises Unavailable when a server listens there, Invalid when it can't be made.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if self.path.is_socket():
                if self._is_live():
                    raise Unavailable(f"a service already runs on {self.path}: stop it first")
                self.path.unlink()
            before = os.umask(0o777 & ~self.mode)
            try:
                listener.bind(str(self.path))
            finally:
                os.umask(before)
        except OSError as error:
            listener.close()
            reason = error.strerror or str(error)
            raise Invalid(f"can't make the socket {self.path}: {reason}") from None
        except Unavailable:
            listener.close()
            raise
        listener.listen(BACKLOG)
        return listener

    def _is_live(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            except OSError:  # a full backlog, another owner: somebody's socket
                return True
        return True


Listener = TcpListener | UnixListener


def describe(listener: socket.socket) -> str:
    """Return a listening socket's address as a URL."""
    address = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{address}"
    host = f"[{address[0]}]" if listener.family == socket.AF_INET6 else address[0]
    return f"https://{host}:{address[1]}"

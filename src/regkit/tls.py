"""The server side of TLS: any client certificate is taken, its key's possession is proven.

Python's `ssl` can't accept unknown self-signed client certificates; pyOpenSSL's verify callback
can. Who is trusted is decided later, per request, by `regkit.trust`. Clients are
`regkit.pinned`'s business.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from functools import cached_property, lru_cache
from typing import Any

import gevent
from gevent.socket import wait_read, wait_write
from OpenSSL import SSL, crypto

from aar_interface import Certificate, InvalidCertificate
from regkit import logs
from regkit.identity import Identity

log = logs.get("regkit.tls")

HANDSHAKE_SECONDS = 10
"""A client that takes longer, or sends half a ClientHello, is dropped."""

IDLE_SECONDS = 75
"""How long a read or write may wait for the other side."""

BULK = 64 * 1024
"""Writes at least this large let other connections go first."""

LOOK_SECONDS = 0.001
"""How long bulk may go on without a look at the other sockets: a look costs a twentieth of a
piece, and a small answer takes a tenth of a millisecond."""

USUAL_CERTIFICATE = 4096
"""Bytes of the largest client certificate that is worth remembering."""

UNSENT = 192 * 1024
"""Bytes that the kernel takes beyond what it may send at once (tcp(7), TCP_NOTSENT_LOWAT).

It would take megabytes for a client that has stopped reading, and deliver them all when that goes
on, whatever became of the client's trust. What is on its way to a distant client isn't limited.
On loopback it costs four bulk transfers a tenth of their speed, and one next to nothing.
"""

MAX_RECORD = 16 * 1024
"""The most that a TLS record carries (RFC 8446, section 5.1), and OpenSSL gives at once."""

PARTIAL_WRITE = 0x1
"""SSL_MODE_ENABLE_PARTIAL_WRITE (ssl.h), which pyOpenSSL sets: a call would send one record."""

RECORD = 512 * 1024
"""The most that is handed to OpenSSL at once."""

_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


def server_context(identity: Identity, minimum: str = "1.3") -> SSL.Context:
    """Return a context that presents `identity` and asks for, but never judges, a certificate."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(_VERSIONS[minimum])
    context.use_certificate_chain_file(str(identity.cert_path))
    context.use_privatekey_file(str(identity.key_path))
    context.check_privatekey()
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    # Idle connections are many here: their 32 KiB of buffers go back while nothing moves.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.clear_mode(PARTIAL_WRITE)
    context.set_session_id(b"aar")
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    return context


class TlsSocket:
    """A connection as gunicorn's gevent worker uses a socket; it waits in the hub.

    `peer` is the certificate that the client proved to hold, or None. `request` are the bytes of
    the present request, where those are known to be all of it (`regkit.serving.conversation`).
    """

    def __init__(self, raw: Any, context: SSL.Context) -> None:
        self._raw = raw
        self._cut = False
        self.family = raw.family
        self.request: bytes | None = None
        raw.setblocking(False)
        with contextlib.suppress(OSError):  # the client may be gone already
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        self._connection = SSL.Connection(context, raw)
        self._connection.set_accept_state()

    def handshake(self) -> None:
        """Complete the handshake in bounded time. Raises ConnectionAbortedError."""
        try:
            with gevent.Timeout(HANDSHAKE_SECONDS, ConnectionAbortedError("took too long")):
                self._until_done(self._connection.do_handshake)
        except _EndOfStream:
            raise ConnectionAbortedError("the client left") from None

    @cached_property
    def peer(self) -> Certificate | None:
        """The certificate that the client proved to hold; None without a usable one."""
        der = self.getpeercert(True)
        if der is None:
            return None
        return _known(der) if len(der) <= USUAL_CERTIFICATE else _parsed(der)

    def getpeercert(self, binary_form: bool = False) -> bytes | None:
        """Return the DER of the client's certificate, as `ssl.SSLSocket.getpeercert(True)`."""
        found = self._connection.get_peer_certificate()
        if found is None or not binary_form:
            return None
        return crypto.dump_certificate(crypto.FILETYPE_ASN1, found)

    def recv(self, size: int, _flags: int = 0) -> bytes:
        """Return at most `size` bytes; empty at the end of the stream.

        A record has 16 KiB at most. For bulk, what has arrived is given together, and everything
        else that is ready goes first.
        """
        try:
            if size >= BULK and not self._connection.pending():
                self._wait_read()
            data = self._until_done(self._connection.recv, min(size, MAX_RECORD))
        except _EndOfStream:
            return b""
        if size < BULK or len(data) < MAX_RECORD // 2:
            return data
        pieces, total = [data], len(data)
        with contextlib.suppress(SSL.Error):  # nothing more now; a fault shows itself next time
            while total < size:
                data = self._connection.recv(min(size - total, MAX_RECORD))
                pieces.append(data)
                total += len(data)
        return b"".join(pieces)

    def receive(self, size: int, seconds: float) -> bytes:
        """Return at most `size` bytes that come within `seconds`; empty when none does."""
        if not self._connection.pending():
            try:
                wait_read(self._raw.fileno(), seconds, _Silence())
            except _Silence:
                return b""
        return self.recv(size)

    def recv_into(self, buffer: Any, size: int = 0, _flags: int = 0) -> int:
        """Fill `buffer`; return the number of bytes, 0 at the end of the stream."""
        try:
            return self._until_done(self._connection.recv_into, buffer, size or len(buffer))
        except _EndOfStream:
            return 0

    def send(self, data: Any, _flags: int = 0) -> int:
        """Write some of `data`; return how much."""
        try:
            return self._until_done(self._connection.send, memoryview(data)[:RECORD])
        except _EndOfStream:
            raise BrokenPipeError(errno.EPIPE, "the client closed the connection") from None

    def sendall(self, data: Any, _flags: int = 0) -> None:
        """Write all of `data`; in bulk, everything else that is ready goes first now and then.

        By a look at the sockets: `gevent.sleep(0)` would let bulk transfers take turns among
        themselves for 50 pieces before the next request is noticed.
        """
        view = memoryview(data)
        if len(view) >= BULK and time.monotonic() - TlsSocket._looked >= LOOK_SECONDS:
            self._wait_write()
        while view:
            view = view[self.send(view) :]

    def fileno(self) -> int:
        """Return the descriptor of the TCP connection."""
        return self._raw.fileno()

    def getsockname(self) -> Any:
        """Return our address."""
        return self._raw.getsockname()

    def getpeername(self) -> Any:
        """Return the client's address."""
        return self._raw.getpeername()

    def setblocking(self, _flag: bool) -> None:
        """Nothing to do: the raw socket never blocks, callers always wait in the hub."""

    def settimeout(self, _seconds: float | None) -> None:
        """Nothing to do: the limits are this class's own."""

    def gettimeout(self) -> float:
        """Return the idle limit, in seconds."""
        return IDLE_SECONDS

    def setsockopt(self, *args: Any) -> None:
        """Set an option of the TCP connection."""
        self._raw.setsockopt(*args)

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """End the TLS session as far as that goes without waiting, then the connection."""
        if self._cut:
            return  # closing does it
        try:
            self._connection.shutdown()
        except (SSL.Error, OSError) as error:
            log.debug("tls-shutdown", reason=str(error))
        self._raw.shutdown(how)

    def reset(self) -> None:
        """Let the connection end by a reset, without a goodbye, when it is closed.

        What the kernel has taken and not sent is dropped then (socket(7), SO_LINGER).
        """
        self._cut = True
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        """Say goodbye when that needs no waiting, and close."""
        if not self._cut:
            with contextlib.suppress(SSL.Error, OSError):  # the other side may have gone first
                self._connection.shutdown()
        self._raw.close()

    def _wait_read(self) -> None:
        wait_read(self._raw.fileno(), IDLE_SECONDS, _hung_up("the client is idle"))
        TlsSocket._looked = time.monotonic()

    def _wait_write(self) -> None:
        wait_write(self._raw.fileno(), IDLE_SECONDS, _hung_up("the client is idle"))
        TlsSocket._looked = time.monotonic()

    def _until_done(self, call: Any, *args: Any) -> Any:
        while True:
            try:
                return call(*args)
            except SSL.WantReadError:
                self._wait_read()
            except SSL.WantWriteError:
                self._wait_write()
            except SSL.ZeroReturnError:
                raise _EndOfStream from None
            except SSL.SysCallError as error:
                if error.args[0] in (-1, errno.ECONNRESET, errno.EPIPE):
                    raise _EndOfStream from None
                raise OSError(*error.args) from None
            except SSL.Error as error:
                raise _hung_up(f"TLS: {_why(error)}") from None


def _parsed(der: bytes) -> Certificate | None:
    try:
        return Certificate.from_der(der)
    except InvalidCertificate:
        return None


_known = lru_cache(maxsize=1024)(_parsed)
"""The same, remembered: parsing would be a fifth of the cost of a new connection."""


class _Silence(Exception):  # noqa: N818 - the name states the outcome
    """Nothing came in time."""


class _EndOfStream(Exception):  # noqa: N818 - the name states the outcome
    """The other side has ended the stream, politely or not."""


def _hung_up(reason: str) -> ConnectionResetError:
    """Return what gunicorn takes for a client's leaving rather than for a fault to report."""
    return ConnectionResetError(errno.ECONNRESET, reason)


def _why(error: SSL.Error) -> str:
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(reason[-1] for reason in reasons) or "broken"

"""HTTPS to exactly one server: the one whose certificate has the pinned fingerprint.

No certificate authority, host name, proxy or variable of the environment has a say. What the
server answers, and how its faults are told to people, is the callers' business: a session raises
what requests raises (SSLError for another certificate, before any byte of a request is sent).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from aar_interface import Fingerprint
from regkit.errors import Invalid
from regkit.identity import Identity

Timeout = tuple[float, float]
TIMEOUT: Timeout = (10.0, 60.0)
"""Seconds for the connection and handshake, and without a single byte, unless a request says."""

SILENT_SECONDS = 15
_SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),  # urllib3's default
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_SECONDS * 1000),
)
"""tcp(7): a machine that is gone or cut off is noticed after SILENT_SECONDS, not only when a read
has waited in vain: a server that takes its time, as in a long-poll, still answers the kernel."""


def session(
    pin: Fingerprint, identity: Identity | None, timeout: Timeout = TIMEOUT
) -> requests.Session:
    """Return a session that talks to the holder of the certificate `pin` and to nobody else.

    It presents `identity`, if any, as the client certificate. Only https URLs can be used.
    Nothing is sent twice: whether a request may be repeated, only the caller knows. Raises
    Invalid when the identity's files can't be used.
    """
    made = Session()
    made.trust_env = False
    made.adapters.clear()  # plain http would reach anybody
    made.mount("https://", PinnedAdapter(pin, _context(identity), timeout))
    return made


class Session(requests.Session):
    """A session that goes nowhere but where it is told, whatever an answer says.

    requests reads the whole body of a redirection, however large, even when it isn't to follow.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Take no answer for a redirection."""
        return None


class PinnedAdapter(HTTPAdapter):
    """Compares the server's certificate with `pin` right after each handshake (urllib3 does).

    `context` must not verify by itself; it holds the client certificate, if any.
    """

    def __init__(self, pin: Fingerprint, context: ssl.SSLContext, timeout: Timeout) -> None:
        self._pin = pin
        self._context = context
        self._timeout = timeout
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> Any:
        """Make connections that notice when the other machine is gone."""
        return super().init_poolmanager(*args, socket_options=[*_SOCKET_OPTIONS], **kwargs)

    def build_connection_pool_key_attributes(
        self,
        request: requests.PreparedRequest,
        verify: bool | str,
        cert: str | tuple[str, str] | None = None,
    ) -> tuple[Any, Any]:
        """Choose connections by pin; whatever `verify` and `cert` say can't weaken it."""
        host, _ = super().build_connection_pool_key_attributes(request, False, None)
        return host, {
            "assert_fingerprint": self._pin.hex,
            "assert_hostname": False,
            "cert_reqs": "CERT_NONE",
            "ssl_context": self._context,
        }

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave the connection pool as it was made: the pin takes the place of authorities."""

    def send(  # noqa: PLR0917 - requests gives the order
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request, directly, and not for ever."""
        return super().send(
            request,
            stream=stream,
            timeout=self._timeout if timeout is None else timeout,
            verify=verify,
            cert=cert,
            proxies=None,
        )


def reason(fault: BaseException) -> str:
    """Return the innermost reason of a fault, as the operating system words it, in one line.

    What requests itself says repeats the whole URL, which may let in whoever reads it.
    """
    inner: BaseException | None = fault
    for _ in range(10):
        if inner is None:
            break
        fault = inner
        first = inner.args[0] if inner.args else None
        further = (getattr(inner, "reason", None), first, inner.__cause__)
        inner = next((each for each in further if isinstance(each, BaseException)), None)
    text = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
    return "".join(c if c.isprintable() else " " for c in str(text)).strip()[:300]


def _context(identity: Identity | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        try:
            # An empty passphrase: OpenSSL would ask for one on the terminal.
            context.load_cert_chain(identity.cert_path, identity.key_path, password="")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise Invalid(
                f"{identity.cert_path} and {identity.key_path} can't be used as a client "
                "certificate and its key: check that both are there, readable and a pair"
            ) from error
    return context

"""Fetching what a trusted registry keeps elsewhere: a redirect, followed once and with care.

The URL that the registry gave is all that the other server learns: no client certificate, no
cookie, no header but the range. Its own certificate must be in order for its name, by a public
authority, one of this machine's, or one that the registry named. What it sends is worth nothing
until its digest was compared, which is the callers' business.
"""

from __future__ import annotations

import ssl
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util import SKIP_HEADER

from regkit.errors import Unavailable
from regkit.pinned import TIMEOUT, Session, Timeout

MAX_URL = 8 * 1024
MAX_AUTHORITIES = 256 * 1024
"""Characters of PEM; a bundle of every public authority has as many."""


class Elsewhere:
    """Other servers, certified by public authorities or by `authorities`, in PEM.

    Raises Unavailable when those can't be read.
    """

    def __init__(self, authorities: str = "", timeout: Timeout = TIMEOUT) -> None:
        self.authorities = authorities
        self._session = Session()
        self._session.trust_env = False  # no proxy, no password of ~/.netrc
        self._session.headers.clear()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self._session.adapters.clear()
        self._session.mount("https://", _Adapter(_context(authorities)))
        self._timeout = timeout

    def get(self, location: str, span: str = "") -> requests.Response:
        """Ask for what is at `location`, from a registry's redirect; `span` is a Range.

        The body is still to be read. Raises Unavailable unless the answer is 200 or 206, and what
        requests raises when there is none.
        """
        host = host_of(location)
        headers = {"Accept-Encoding": "identity", "User-Agent": SKIP_HEADER}
        if span:
            headers["Range"] = span
        response = self._session.get(
            location, headers=headers, timeout=self._timeout, allow_redirects=False, stream=True
        )
        if response.status_code not in (200, 206):
            status = response.status_code
            response.close()
            raise Unavailable(f"{host}, where the registry keeps its files, answers {status}")
        return response

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()


def host_of(location: str) -> str:
    """Return `https://<host>[:<port>]` of a redirect's target. Raises Unavailable.

    Messages name that and no more: the rest of the URL lets in whoever reads it.
    """
    try:
        parts = urlsplit(location)
        port = parts.port
    except ValueError:
        parts, port = None, None
    if (
        parts is None
        or parts.scheme != "https"
        or not parts.hostname
        or "@" in parts.netloc
        or len(location) > MAX_URL
        or not (location.isascii() and location.isprintable())
    ):
        raise Unavailable("the registry redirects to what is no https URL: check its storage.s3")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"https://{host}" + (f":{port}" if port else "")


class _Adapter(HTTPAdapter):
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        more["ssl_context"] = self._context
        super().init_poolmanager(*args, **more)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: bool | str, cert: Any = None
    ) -> tuple[Any, Any]:
        """Leave everything to the context, which verifies; nothing else may weaken it."""
        host, _ = super().build_connection_pool_key_attributes(request, True, None)
        return host, {"ssl_context": self._context, "cert_reqs": "CERT_REQUIRED"}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave the connection pool as it was made."""


def _context(authorities: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    if authorities:
        try:
            context.load_verify_locations(cadata=authorities[:MAX_AUTHORITIES])
        except (ssl.SSLError, ValueError):
            raise Unavailable(
                "the registry names authorities of its storage that can't be read: check its "
                "storage.s3.ca-file"
            ) from None
    return context

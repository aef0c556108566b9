"""A look at the certificate that a server shows, before anybody trusts it.

Nothing is sent but the handshake, and nothing that comes back is believed: the caller shows the
certificate to a person, or compares it with what it expects.
"""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

from aar_interface import Certificate, InvalidCertificate
from ams.client.channel import CONNECT_TIMEOUT, reason
from ams.client.results import BadAnswer
from regkit.errors import Unavailable


def server_certificate(url: str, timeout: float = CONNECT_TIMEOUT) -> Certificate:
    """Return the certificate of the server at the https URL `url`, which has a port.

    Raises Unavailable when it can't be reached or speaks no TLS within `timeout` seconds,
    BadAnswer when its certificate can't be read.
    """
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host = parts.hostname or ""
    try:
        with (
            socket.create_connection((host, parts.port or 443), timeout) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            der = connection.getpeercert(binary_form=True)
    except ssl.SSLError as error:
        raise Unavailable(
            f"what answers at {url} speaks no TLS that can be used ({error.reason or error}): "
            "check the URL"
        ) from None
    except (OSError, UnicodeError) as error:
        raise Unavailable(
            f"the management service at {url} can't be reached ({reason(error)}): check the URL, "
            "and that 'ams serve' runs there"
        ) from None
    try:
        return Certificate.from_der(der or b"")
    except InvalidCertificate as error:
        raise BadAnswer(f"the certificate of {url} can't be read: {error}") from None

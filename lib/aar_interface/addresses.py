"""Where a service is reached: a host and a port, as operators and databags write them.

Nothing here resolves a name or connects.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_HOST_NAME = re.compile(r"(?=.{1,253}$)(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*")


@dataclass(frozen=True)
class Address:
    """A host name or IP address (IPv6 without brackets), and a TCP port if one was given."""

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `host`, `host:port`, `1.2.3.4`, `[::1]:port` or `::1`. Raises ValueError."""
        text = text.strip()
        alone = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        if (address := _ip(alone)) and (":" in address or alone == text):
            return cls(address)
        host, colon, digits = text.rpartition(":")
        if not colon:
            host, digits = text, ""
        elif not re.fullmatch(r"[0-9]{1,5}", digits) or not 0 < int(digits) < 65536:
            raise ValueError(f"{text[:80]!r} has no port from 1 to 65535 after its colon")
        bracketed = host.startswith("[") and host.endswith("]")
        address = _ip(host[1:-1] if bracketed else host)
        fitting = address is not None and (":" in address) == bracketed
        # What ends in a number is an IP address, or some resolvers make a surprising one of it
        # (inet_aton(3): 127.1).
        numeric = host.rpartition(".")[2].isdigit()
        name = not (bracketed or address or numeric) and _HOST_NAME.fullmatch(host)
        if not (fitting or name):
            raise ValueError(f"{text[:80]!r} is neither a host name nor an IP address")
        return cls(address or host, int(digits) if digits else None)

    def url(self, default_port: int) -> str:
        """Return `https://host:port`, with `default_port` where the address has none."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port or default_port}"


def _ip(text: str) -> str | None:
    try:
        address = str(ipaddress.ip_address(text))
    except ValueError:
        return None
    # A zone names an interface of the machine that wrote it: no other can use it.
    return None if "%" in address else address

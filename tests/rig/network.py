"""The rig's network: one bridge, and a veth pair into a network namespace for each machine.

All of it is inside the rig's own network namespace; there is no way out of it.
"""

from __future__ import annotations

import ipaddress
import subprocess
import threading
from collections.abc import Iterator

BRIDGE = "br0"
SUBNET = ipaddress.IPv4Network("10.77.0.0/16")
GATEWAY = SUBNET[1]
FIRST_MACHINE = 10


def ip(*arguments: str, namespace: str = "") -> None:
    """Run `ip`; raises CalledProcessError with its output."""
    where = ["-n", namespace] if namespace else []
    subprocess.run(["ip", *where, *arguments], check=True, capture_output=True, text=True)


class Network:
    """The bridge; `up` must run once, in a fresh network namespace."""

    def __init__(self) -> None:
        self._free = iter(range(FIRST_MACHINE, SUBNET.num_addresses - 1))
        self._links: Iterator[int] = iter(range(1 << 20))
        self._lock = threading.Lock()

    def up(self) -> None:
        """Make the bridge and loopback."""
        ip("link", "set", "lo", "up")
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{GATEWAY}/{SUBNET.prefixlen}", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")

    def free_address(self) -> str:
        """An address that no machine has had before."""
        with self._lock:
            return str(SUBNET[next(self._free)])

    def attach(self, namespace: str, address: str) -> str:
        """Make a network namespace with `eth0` on the bridge; return the link's name here."""
        with self._lock:
            link = f"veth{next(self._links)}"
        ip("netns", "add", namespace)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("link", "set", link, "master", BRIDGE, "up")
        ip("link", "set", "lo", "up", namespace=namespace)
        ip("link", "set", "eth0", "up", namespace=namespace)
        self.set_address(namespace, address)
        return link

    def set_address(self, namespace: str, address: str) -> None:
        """Give `eth0` this address and no other."""
        ip("addr", "flush", "dev", "eth0", namespace=namespace)
        ip("addr", "add", f"{address}/{SUBNET.prefixlen}", "dev", "eth0", namespace=namespace)
        ip("route", "replace", "default", "via", str(GATEWAY), namespace=namespace)

    def connect(self, link: str, connected: bool) -> None:
        """Plug the cable in or out."""
        ip("link", "set", link, "up" if connected else "down")

    def detach(self, namespace: str) -> None:
        """Remove a network namespace and its link."""
        ip("netns", "del", namespace)

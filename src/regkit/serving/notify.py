"""Telling systemd about readiness (sd_notify(3)), when it asked to be told."""

from __future__ import annotations

import socket


def notify(address: str | None, state: str) -> None:
    """Send `state`, such as `READY=1`, to the socket `address` (`$NOTIFY_SOCKET`), if any."""
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto(state.encode(), target)

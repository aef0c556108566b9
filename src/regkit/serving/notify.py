"""Telling systemd about readiness (sd_notify(3)), when it asked to be told."""

from __future__ import annotations

import socket
import time

from regkit import logs

log = logs.get("regkit.serving")


def notify(address: str | None, state: str) -> None:
    """Send `state`, such as `READY=1`, to the socket `address` (`$NOTIFY_SOCKET`), if any.

    To be called in the main process: systemd's default, `NotifyAccess=main`, ignores others.
    """
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(state.encode(), target)
    except OSError as error:
        log.warning("notify-failed", state=state, reason=str(error))


def reloading() -> str:
    """Return the state that announces a reload (sd_notify(3): systemd compares the time)."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"

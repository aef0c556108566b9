"""open-port, close-port, opened-ports."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rig.errors import UsageError
from rig.hooktools.command import Call, Tool

if TYPE_CHECKING:
    from rig.hookcontext import HookContext

FORM = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp))?")


def parse(text: str) -> str:
    """`N[-M][/protocol]` or `icmp` in Juju's canonical form."""
    if text == "icmp":
        return text
    match = FORM.fullmatch(text)
    if not match:
        raise UsageError(f'expected <port>[/<protocol>] or icmp, got "{text}"')
    first, last, protocol = match.groups()
    if not 1 <= int(first) <= int(last or first) <= 65535:
        raise UsageError(f'invalid port range "{text}"')
    return f"{first}{f'-{last}' if last and last != first else ''}/{protocol or 'tcp'}"


def _check_endpoints(context: HookContext, call: Call) -> None:
    for endpoint in filter(None, call.text("endpoints").split(",")):
        if endpoint not in context.unit.app.charm.endpoints:
            raise UsageError(f'endpoint "{endpoint}" not found')


def open_port(context: HookContext, call: Call) -> None:
    """Open a port when the hook succeeds."""
    _check_endpoints(context, call)
    port = parse(call.word(0))
    context.opened.add(port)
    context.closed.discard(port)


def close_port(context: HookContext, call: Call) -> None:
    """Close a port when the hook succeeds."""
    _check_endpoints(context, call)
    port = parse(call.word(0))
    context.closed.add(port)
    context.opened.discard(port)


def opened_ports(context: HookContext, call: Call) -> list[str]:
    """Ports that are open now, without this hook's own changes."""
    return [f"{p} (*)" if call.on("endpoints") else p for p in sorted(context.unit.ports)]


ENDPOINTS = {"--endpoints": "endpoints"}
TOOLS = (
    Tool("open-port", open_port, options=ENDPOINTS, words=(1, 1)),
    Tool("close-port", close_port, options=ENDPOINTS, words=(1, 1)),
    Tool("opened-ports", opened_ports, switches=ENDPOINTS, prints=True),
)

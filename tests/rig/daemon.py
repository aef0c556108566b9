"""The rig's one long-lived process: PID 1 of its own namespaces, ends with its standard input.

usage: python -m rig.daemon BASE SEED SERIES GROUP
"""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rig import hooktools, juju
from rig.controller import Controller
from rig.errors import JujuError
from rig.faultverbs import FaultVerbs
from rig.hookcontext import SOCKET
from rig.machine import NspawnMachine
from rig.network import Network

CLIENT_SOCKET = "\0anbox-registry-rig"
RUN = Path("/run/rig")
SIZE = "8g"  # of the machines' disks altogether; memory, used only when written

Answer = tuple[int, str, str]


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers one JSON line with another, in a thread for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, answer: Callable[[dict[str, Any]], Answer]):
        super().__init__(address, Handler)
        self.answer = answer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away before its answer is nothing to report."""


class Handler(socketserver.StreamRequestHandler):
    """One request."""

    def handle(self) -> None:
        """Read, answer, write."""
        assert isinstance(self.server, Server)
        line = self.rfile.readline()
        try:
            code, out, err = self.server.answer(json.loads(line))
        except JujuError as error:
            code, out, err = error.code, "", f"ERROR {error}\n"
        except Exception:
            code, out, err = 70, "", f"ERROR fault of the rig itself:\n{traceback.format_exc()}"
        self.wfile.write(json.dumps({"code": code, "out": out, "err": err}).encode() + b"\n")


def client_answer(controller: Controller, faults: FaultVerbs, request: dict[str, Any]) -> Answer:
    """Answer `juju` or a fault."""
    if "fault" in request:
        return 0, json.dumps(faults.call(request["fault"], request["arguments"])), ""
    reply = juju.run(controller, request["juju"], request["cwd"], request["environment"])
    return reply.code, reply.stdout, reply.stderr


def agent_answer(controller: Controller, request: dict[str, Any]) -> Answer:
    """Answer a hook tool."""
    return hooktools.call(
        controller,
        request["context"],
        request["tool"],
        request["arguments"],
        request["stdin"],
        request["files"],
    )


def main() -> None:
    """Set up, say so on standard output, and serve until standard input ends."""
    base, seed, series, group = sys.argv[1:]
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"mode=755,size={SIZE}", "tmpfs", "/run"], check=True
    )
    sockets = RUN / "sockets"
    sockets.mkdir(parents=True)
    Path("/run/netns").mkdir()
    Path("/run/lock").mkdir()
    network = Network()
    network.up()

    def machine(name: str) -> NspawnMachine:
        return NspawnMachine(name, RUN / "machines" / name, Path(base), sockets, network, group)

    controller = Controller(machine, seed=int(seed), series=series)
    faults = FaultVerbs(controller, network.free_address)
    agents = Server(
        str(sockets / Path(SOCKET).name), lambda request: agent_answer(controller, request)
    )
    clients = Server(CLIENT_SOCKET, lambda request: client_answer(controller, faults, request))
    for server in (agents, clients):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
    # The kernel ends every process here with this one, and removes mounts and networks.
    os._exit(0)


if __name__ == "__main__":
    main()

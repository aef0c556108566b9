#!/usr/bin/env python3
"""A charm that exercises the rig: a systemd service, peers, a relation, a secret, actions."""

from __future__ import annotations

import json
import pathlib
import subprocess

import ops

STATE = pathlib.Path("/opt/toy/state.json")
SERVER = pathlib.Path("/opt/toy/server.py")
UNIT = pathlib.Path("/etc/systemd/system/toy.service")

SERVER_TEXT = """\
import http.server
import pathlib
import sys


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(pathlib.Path("/opt/toy/state.json").read_bytes())

    def log_message(self, *words):
        pass


http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Page).serve_forever()
"""
UNIT_TEXT = """\
[Unit]
Description=Toy page
[Service]
ExecStart=/usr/bin/python3 /opt/toy/server.py {port}
DynamicUser=yes
ProtectSystem=strict
NoNewPrivileges=yes
Restart=always
RestartSec=100ms
[Install]
WantedBy=multi-user.target
"""


def write(path: pathlib.Path, text: str) -> bool:
    """Write a file if it differs; return whether it did."""
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return True


def systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl."""
    return subprocess.run(
        ["/usr/bin/systemctl", *words], capture_output=True, text=True, check=False
    )


class Toy(ops.CharmBase):
    """Reads the model, writes one page."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        for name, event in self.on.events().items():
            if name.endswith("_action") or name in ("collect_unit_status", "collect_app_status"):
                continue
            framework.observe(event, self._on_stop if name == "stop" else self._reconcile)
        framework.observe(self.on.echo_action, self._on_echo)
        framework.observe(self.on.fail_action, self._on_fail)
        framework.observe(self.on.collect_unit_status, self._on_collect_status)

    def _address(self) -> str:
        return str(self.model.get_binding("ring").network.bind_address)

    def _reconcile(self, event: ops.EventBase) -> None:
        port = int(self.config["port"])
        self._publish(port)
        write(STATE, json.dumps(self._state(event), sort_keys=True))
        write(SERVER, SERVER_TEXT)
        if write(UNIT, UNIT_TEXT.format(port=port)):
            systemctl("daemon-reload")
            systemctl("enable", "--quiet", "toy")
            systemctl("restart", "toy")
        self.unit.set_ports(port)
        if isinstance(event, ops.InstallEvent | ops.UpgradeCharmEvent):
            self.unit.set_workload_version("1.0")

    def _publish(self, port: int) -> None:
        for relation in self.model.relations["web"]:
            if not relation.active:
                continue
            relation.data[self.unit]["url"] = f"http://{self._address()}:{port}/"
            if self.unit.is_leader() and "token" not in relation.data[self.app]:
                secret = self.app.add_secret({"token": "s3cret"}, label=f"token-{relation.id}")
                secret.grant(relation)
                relation.data[self.app]["token"] = secret.id or ""
        for relation in self.model.relations["ring"]:
            relation.data[self.unit]["address"] = self._address()

    def _state(self, event: ops.EventBase) -> dict[str, object]:
        departing = event.departing_unit if isinstance(event, ops.RelationDepartedEvent) else None
        peers, urls, token = [], [], ""
        for relation in self.model.relations["ring"]:
            units = [u for u in relation.units if u is not departing]
            peers += [relation.data[u].get("address", "") for u in units]
        for relation in self.model.relations["upstream"]:
            if not relation.active:
                continue
            urls += [relation.data[u].get("url", "") for u in relation.units]
            uri = relation.data[relation.app].get("token")
            if uri:
                content = self.model.get_secret(id=uri, label="token").get_content(refresh=True)
                token = content["token"]
        return {
            "greeting": self.config["greeting"],
            "peers": sorted(filter(None, peers)),
            "urls": sorted(filter(None, urls)),
            "token": token,
        }

    def _on_stop(self, _: ops.EventBase) -> None:
        systemctl("disable", "--quiet", "--now", "toy")

    def _on_echo(self, event: ops.ActionEvent) -> None:
        event.log("echoing")
        event.set_results({"said": event.params["text"]})

    def _on_fail(self, event: ops.ActionEvent) -> None:
        event.fail("as you wished")

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        state = systemctl("is-active", "toy").stdout.strip()
        ready = ops.ActiveStatus() if state == "active" else ops.WaitingStatus(f"page is {state}")
        event.add_status(ready)


if __name__ == "__main__":
    ops.main(Toy)

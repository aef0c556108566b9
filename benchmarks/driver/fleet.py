"""The job `fleet`: light clients that follow the registry as AMS does, without keeping anything.

Each holds a long-poll; when it ends, the client says hello, reads the changes, the manifest, the
config and the blobs that it hasn't had yet, checks every digest, and tells when the version is
complete, in the clock that all processes share (CLOCK_MONOTONIC).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from benchmarks.driver.handles import Answer, Handle, Identity, Target, WrongAnswer
from benchmarks.driver.load import Tally
from benchmarks.driver.loop import Loop

WAIT = 50
"""Seconds of a long-poll, as in `ams.sync.door`."""


class Fleet:
    """`clients` of them, with an identity each, from the cursor `since` on, until `stop`."""

    def __init__(self, job: dict[str, Any], identities: list[Identity]) -> None:
        self._base: str = job["base"]
        self._loop = Loop(job["clients"])
        self._tally = Tally()
        self._waiting = 0
        self._clients = [
            _Client(index, Handle(identities[index % len(identities)], keep=True), job["since"])
            for index in range(job["clients"])
        ]

    def prepare(self) -> None:
        """Connect, and begin to wait."""
        left = len(self._clients)

        def done(_answer: Answer) -> None:
            nonlocal left
            left -= 1

        for client in self._clients:
            client.handle.new_connection(True)
            self._get(client, "/1.0", done)
        self._loop.run(lambda: left == 0)
        for client in self._clients:
            client.handle.new_connection(False)
            self._wait(client)

    def run(self) -> Tally:
        """Follow until told to stop."""
        self._loop.listen()
        self._loop.run(lambda: self._loop.stopped)
        self._loop.cancel_all()
        self._tally.moved = sum(client.handle.moved for client in self._clients)
        return self._tally

    def _get(
        self,
        client: _Client,
        path: str,
        done: Callable[[Answer], None],
        digest: str | None = None,
    ) -> None:
        sha256 = digest.removeprefix("sha256:") if digest else None
        self._loop.start(client.handle.ask(Target(self._base + path, sha256=sha256), done))

    def _wait(self, client: _Client) -> None:
        def woken(answer: Answer) -> None:
            if _page(answer)["changes"]:
                self._get(client, "/1.0", lambda _answer: self._read(client))
            else:
                self._wait(client)

        path = f"/1.0/changes?limit=1000&since={client.since}&wait={WAIT}"
        self._get(client, path, woken)

    def _read(self, client: _Client) -> None:
        def read(answer: Answer) -> None:
            page = _page(answer)
            client.since = page["cursor"]
            client.todo = [change for change in page["changes"] if change["kind"] == "published"]
            self._import_next(client)

        self._get(client, f"/1.0/changes?limit=1000&since={client.since}", read)

    def _import_next(self, client: _Client) -> None:
        if not client.todo:
            self._wait(client)
            return
        change = client.todo.pop(0)
        repository = change["name"]

        def described(answer: Answer) -> None:
            manifest = json.loads(answer.body)
            parts = [manifest["config"], *manifest["layers"]]
            wanted = [part["digest"] for part in parts if part["digest"] not in client.had]
            fetch(wanted)

        def fetch(wanted: list[str]) -> None:
            if not wanted:
                self._tally.done += 1
                told = {"client": client.index, "seq": change["seq"], "at": time.monotonic()}
                print(json.dumps({"event": "imported", **told}), flush=True)
                self._import_next(client)
                return
            digest, rest = wanted[0], wanted[1:]

            def got(_answer: Answer) -> None:
                client.had.add(digest)
                fetch(rest)

            self._get(client, f"/v2/{repository}/blobs/{digest}", got, digest)

        path = f"/v2/{repository}/manifests/{change['digest']}"
        self._get(client, path, described, change["digest"])


class _Client:
    def __init__(self, index: int, handle: Handle, since: str) -> None:
        self.index = index
        self.handle = handle
        self.since = since
        self.todo: list[dict[str, Any]] = []
        self.had: set[str] = set()


def _page(answer: Answer) -> dict[str, Any]:
    page = json.loads(answer.body).get("metadata")
    if not isinstance(page, dict) or "changes" not in page:
        raise WrongAnswer("an answer of the change feed holds no changes")
    return page

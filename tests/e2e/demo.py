"""The main job from end to end: one registry, two publishers, two clients, a real application.

`Scenario` drives the command lines alone, set up with the documentation's own commands in its own
order. Its steps say what they expect and raise AssertionError when it isn't so: the demo narrates
them to a terminal (`./dev demo`), `test_demo` runs the same steps as tests.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import signal
import ssl
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from . import apk
from .site import Machine, Result, Site, short_folder, until

NAME = "appium-settings"
EXTRA = "extra-data/settings.bin"
EXTRA_SIZE = 200_000
SLACK = 16 * 1024
"""Bytes that a version may need besides its files: its config."""
MANIFEST = f"""\
name: {NAME}
version: "{{version}}"
instance-type: a4.3
tags: [automation]
extra-data:
  {Path(EXTRA).name}:
    target: /data/local/tmp/{Path(EXTRA).name}
"""


class Narrator:
    """Tells what goes on. This one says nothing."""

    def title(self, text: str) -> None:
        """A step begins."""

    def say(self, text: str) -> None:
        """A remark."""

    def ran(self, result: Result) -> None:
        """A command has ended."""

    def holds(self, text: str) -> None:
        """Something was checked, and is so."""


class Terminal(Narrator):
    """Tells it to people; colours only on a terminal."""

    def __init__(self) -> None:
        self._colours = sys.stdout.isatty()

    def _print(self, code: str, text: str) -> None:
        print(f"\033[{code}m{text}\033[0m" if self._colours else text, flush=True)

    def title(self, text: str) -> None:
        self._print("1", f"\n=== {text}")

    def say(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def ran(self, result: Result) -> None:
        self._print("36", f"[{result.machine}]$ {result.line}")
        for line in (result.out + result.err).splitlines():
            print(f"    {line}", flush=True)

    def holds(self, text: str) -> None:
        self._print("32", f"  ✓ {text}")


class Scenario:
    """The steps, in `STEPS`' order, over a running site. Files of packages go below `folder`."""

    def __init__(self, site: Site, application: apk.Apk, folder: Path, tell: Narrator) -> None:
        self.site = site
        self.tell = tell
        self._apk = application
        self._folder = folder
        self._done = 0

    def run_through(self, wanted: str) -> None:
        """Run the steps that weren't run yet, up to and including `wanted`."""
        for name in STEPS[self._done : STEPS.index(wanted) + 1]:
            step: Callable[[], None] = getattr(self, name)
            self.tell.title((step.__doc__ or name).splitlines()[0].rstrip("."))
            step()
            self._done += 1

    # Steps

    def register_publishers(self) -> None:
        """Register the publishers: exchange certificates, point AMS at the registry, push."""
        for machine in self.site.publishers.values():
            self._configure(machine, "push")
            self._ok(machine, "amc", "config", "set", "application.auto_publish", "false")
            self.site.registry.receive(self._certificate_of(machine), "client.crt")
            self._ok(self.site.registry, "aar", "trust", "add", "-p", "client.crt")
        self._expect_roles(publishers=2, clients=0)
        self._expect_connected(self.site.publishers)

    def register_clients(self) -> None:
        """Register the clients: the same, but they pull."""
        for machine in self.site.clients.values():
            self._configure(machine, "pull")
            self.site.registry.receive(self._certificate_of(machine), "client.crt")
            self._ok(self.site.registry, "aar", "trust", "add", stdin="client.crt")
        self._ok(self.site.registry, "aar", "trust", "list")
        self._expect_roles(publishers=2, clients=2)
        self._expect_connected(self.site.clients)

    def show_configuration(self) -> None:
        """See the configuration that came of it: amc config show."""
        for role, mode in (("publishers", "push"), ("clients", "pull")):
            machine = getattr(self.site, role)["amd64"]
            self._ok(machine, "amc", "config", "show")
            items = machine.ask("amc", "config", "show")["config"]
            expected = {
                "registry.url": self.site.url,
                "registry.mode": mode,
                "registry.update_interval": "5m",
            }
            self._expect(
                f"{machine.name} has the registry's URL, the interval of 5m and mode {mode}",
                {name: items[name] for name in expected} == expected,
            )
            (certificate,) = machine.ask("amc", "config", "trust", "list")
            self._expect(
                "registry.fingerprint names the certificate in the trust store",
                certificate["fingerprint"].startswith(items["registry.fingerprint"] or "-"),
            )

    def push_only_published(self) -> None:
        """Create the application; only what is published goes to the registry."""
        self.tell.say(f"The application: {len(self._apk.content):,} bytes, {self._apk.origin}")
        for arch, machine in self.site.publishers.items():
            self._package(arch, "1.0")
            self._ok(machine, "amc", "application", "create", str(self._package_of(machine)))
            # Asked for by name, so that what is not there is not just late.
            report = self._ok(machine, "amc", "registry", "sync")
            self._expect("nothing to push yet", report.out.strip() == "Nothing to do")
        self._expect("the registry holds no application", self._in_registry() == set())
        for machine in self.site.publishers.values():
            self._ok(machine, "amc", "application", "publish", NAME, "0")
        self._await_registry({(0, "amd64"), (0, "arm64")})
        self._ok(self.site.registry, "aar", "application", "list")
        stored, size = self.site.stored(), len(self._apk.content)
        self.tell.say(f"stored in the registry: {stored:,} bytes")
        self._expect(
            "the same APK for both architectures is stored once",
            0 <= stored - size - 2 * EXTRA_SIZE < 4 * SLACK,
        )

    def arrive_on_right_client(self) -> None:
        """The application arrives on each client, in the client's architecture."""
        for arch, machine in self.site.clients.items():
            self._await_versions(machine, {0: arch})
            self._ok(machine, "amc", "application", "list")
            self._expect_content(machine, 0, arch, "1.0")
            shown = machine.ask("amc", "application", "show", NAME)
            self._expect(
                "it is immutable and published", shown["immutable"] and shown["published"]
            )

    def move_only_changes(self) -> None:
        """A second version moves only the blobs that changed."""
        publisher, client = self.site.publishers["amd64"], self.site.clients["amd64"]
        stored = self.site.stored()
        sent, received = _moved(publisher), _moved(client)
        self._package("amd64", "2.0")
        self._ok(publisher, "amc", "application", "update", NAME, str(self._package_of(publisher)))
        self._ok(publisher, "amc", "registry", "sync")
        self._expect(
            "the new version is not published, so it is not there",
            self._in_registry() == {(0, "amd64"), (0, "arm64")},
        )
        self._ok(publisher, "amc", "application", "publish", NAME, "1")
        self._await_registry({(0, "amd64"), (0, "arm64"), (1, "amd64")})
        self._await_versions(client, {0: "amd64", 1: "amd64"})
        self._expect_content(client, 1, "amd64", "2.0")
        until("both have told what they moved", lambda: _moved(publisher) > sent)
        until("both have told what they moved", lambda: _moved(client) > received)
        total = len(self._apk.content) + EXTRA_SIZE
        for what, count in (
            ("sent by the publisher", _moved(publisher) - sent),
            ("added to the registry", self.site.stored() - stored),
            ("received by the client", _moved(client) - received),
        ):
            self._expect(
                f"{count:,} bytes {what}, of a version of {total:,}",
                EXTRA_SIZE <= count <= EXTRA_SIZE + SLACK,
            )
        other = self.site.clients["arm64"]
        self._expect("nothing new for arm64", _versions(other) == {0: "arm64"})

    def refuse_local_edits(self) -> None:
        """An imported application can't be changed locally: the registry owns it."""
        client = self.site.clients["amd64"]
        before = client.ask("amc", "application", "show", NAME)
        package = str(self._package_of(self.site.publishers["amd64"]))
        for command in (
            ("update", NAME, package),
            ("revoke", NAME, "0"),
            ("delete", NAME, "--version", "0", "--yes"),
            ("delete", NAME, "--yes"),
        ):
            self._refused(client, "immutable", "amc", "application", *command)
        self._expect(
            "nothing has changed", client.ask("amc", "application", "show", NAME) == before
        )

    def remove_everywhere(self) -> None:
        """What is removed in the registry is removed from the clients."""
        self._ok(self.site.registry, "aar", "application", "delete", NAME, "--yes")
        self._expect("the registry holds no application", self._in_registry() == set())
        for machine in self.site.clients.values():
            until(f"{machine.name} has removed it", lambda m=machine: _versions(m) == {})
            self._ok(machine, "amc", "application", "list")
            self.tell.holds(f"{machine.name} has it no more")
        for machine in self.site.publishers.values():
            self._expect(f"{machine.name} still owns it", 0 in _versions(machine))

    def block_revoked(self) -> None:
        """Revoking a client blocks it at once."""
        registry, client = self.site.registry, self.site.clients["amd64"]
        publisher = self.site.publishers["amd64"]
        registry.receive(self._certificate_of(client), "client.crt")
        fingerprint = _fingerprint(registry.desk / "client.crt")
        self._ok(client, "amc", "registry", "sync")
        self._ok(registry, "aar", "trust", "revoke", fingerprint, answer="y\n")
        self._refused(client, fingerprint[:12], "amc", "registry", "sync")
        self._package("amd64", "3.0")
        self._ok(publisher, "amc", "application", "update", NAME, str(self._package_of(publisher)))
        self._ok(publisher, "amc", "application", "publish", NAME, "2")
        until("the new version is in the registry", lambda: (2, "amd64") in self._in_registry())
        self._refused(client, fingerprint[:12], "amc", "registry", "pull", NAME)
        self._expect("the next version doesn't reach it", _versions(client) == {})
        other = self.site.clients["arm64"]
        self._ok(other, "amc", "registry", "sync")
        denied = [e for e in registry.events("refused") if fingerprint in str(e)]
        self._expect("the registry's log names who was denied", bool(denied))

    def keep_revoked(self) -> None:
        """A revocation can't be undone."""
        registry, client = self.site.registry, self.site.clients["amd64"]
        fingerprint = _fingerprint(registry.desk / "client.crt")
        self._refused(registry, "revoked", "aar", "trust", "add", "client.crt")
        self._refused(registry, "revoked", "aar", "trust", "add", "-p", "client.crt")
        self._refused(registry, "revoked", "aar", "trust", "remove", fingerprint)
        self._refused(client, fingerprint[:12], "amc", "registry", "sync")
        self._ok(registry, "aar", "trust", "list")
        self._ok(registry, "aar", "trust", "list", "--revoked")
        self._expect_roles(publishers=2, clients=1)

    # What steps share

    def _configure(self, machine: Machine, mode: str) -> None:
        """Follow the page's part about AMS, command by command."""
        machine.receive(self.site.registry.home / "certs" / "server.crt", "server.crt")
        self._ok(machine, "amc", "config", "trust", "add", "server.crt")
        listed = self._ok(machine, "amc", "config", "trust", "list").out
        self._ok(machine, "amc", "config", "set", "registry.url", self.site.url)
        found = re.findall(r"\b[0-9a-f]{12,64}\b", listed)
        self._expect("the certificate is in the trust store", len(found) == 1)
        self._ok(machine, "amc", "config", "set", "registry.fingerprint", found[0])
        self._ok(machine, "amc", "config", "set", "registry.update_interval", "5m")
        self._ok(machine, "amc", "config", "set", "registry.mode", mode)

    def _certificate_of(self, machine: Machine) -> Path:
        return machine.home / "registry" / "client.crt"

    def _package_of(self, machine: Machine) -> Path:
        return self._folder / machine.name.rpartition("-")[2]

    def _package(self, arch: str, version: str) -> None:
        """Write a package; from version to version only manifest and extra data differ."""
        folder = self._folder / arch
        (folder / "extra-data").mkdir(parents=True, exist_ok=True)
        (folder / "manifest.yaml").write_text(MANIFEST.format(version=version))
        (folder / "app.apk").write_bytes(self._apk.content)
        (folder / EXTRA).write_bytes(_extra(arch, version))

    def _ok(self, machine: Machine, *command: str, stdin: str = "", answer: str = "") -> Result:
        result = machine.run(*command, stdin=stdin, answer=answer)
        self.tell.ran(result)
        if result.code != 0:
            raise AssertionError(f"{result}\n{machine.log_tail()}")
        return result

    def _refused(self, machine: Machine, because: str, *command: str) -> None:
        result = machine.run(*command)
        self.tell.ran(result)
        if result.code != 1 or because not in result.err:
            raise AssertionError(f"wanted a refusal that says {because!r}: {result}")
        self.tell.holds("refused")

    def _expect(self, what: str, condition: object) -> None:
        if not condition:
            raise AssertionError(f"not so: {what}")
        self.tell.holds(what)

    def _expect_roles(self, **counts: int) -> None:
        rows = self.site.registry.ask("aar", "trust", "list")
        roles = [row["Role"] for row in rows]
        self._expect(
            f"the registry trusts {counts['publishers']} publishers, {counts['clients']} clients",
            (roles.count("publisher"), roles.count("client"), len(roles))
            == (counts["publishers"], counts["clients"], sum(counts.values())),
        )

    def _expect_connected(self, machines: dict[str, Machine]) -> None:
        for machine in machines.values():
            until(
                f"{machine.name} is connected",
                lambda m=machine: m.ask("amc", "registry", "status")["connected"],
            )
            self.tell.holds(f"{machine.name} is connected, and nothing was restarted")

    def _in_registry(self) -> set[tuple[int, str]]:
        rows = self.site.registry.ask("aar", "application", "list")
        return {(row["version"], arch) for row in rows for arch in row["architectures"]}

    def _await_registry(self, versions: set[tuple[int, str]]) -> None:
        until(f"the registry holds {versions}", lambda: self._in_registry() == versions)
        listed = ", ".join(f"{number}-{arch}" for number, arch in sorted(versions))
        self.tell.holds(f"the registry holds {NAME} {listed}")

    def _await_versions(self, machine: Machine, versions: dict[int, str]) -> None:
        until(f"{machine.name} has {versions}", lambda: _versions(machine) == versions)
        listed = ", ".join(f"{number}-{arch}" for number, arch in versions.items())
        self.tell.holds(f"{machine.name} has {NAME} {listed}")

    def _expect_content(self, machine: Machine, number: int, arch: str, version: str) -> None:
        archive = self._ok(machine, "amc", "application", "export", NAME, str(number)).out.strip()
        with tarfile.open(machine.desk / archive) as package:
            found = {
                member.name.removeprefix("./"): _digest(content.read())
                for member in package
                if (content := package.extractfile(member)) is not None
            }
        wanted = {"app.apk": self._apk.content, EXTRA: _extra(arch, version)}
        self._expect(
            f"it holds the publisher's files, byte for byte, of {arch}",
            all(found.get(path) == _digest(content) for path, content in wanted.items()),
        )


STEPS = (
    "register_publishers",
    "register_clients",
    "show_configuration",
    "push_only_published",
    "arrive_on_right_client",
    "move_only_changes",
    "refuse_local_edits",
    "remove_everywhere",
    "block_revoked",
    "keep_revoked",
)


def _extra(arch: str, version: str) -> bytes:
    return random.Random(f"{arch} {version}").randbytes(EXTRA_SIZE)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _fingerprint(certificate: Path) -> str:
    """Compute it by other means than the project's own."""
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    return hashlib.sha256(der).hexdigest()


def _versions(machine: Machine) -> dict[int, str]:
    """Return the versions of the application on a machine, by number, with their architecture."""
    result = machine.run("amc", "application", "show", NAME, "--format", "json")
    if result.code == 1 and "no application has the id or name" in result.err:
        return {}
    if result.code != 0:
        raise AssertionError(result)
    shown = json.loads(result.out)
    return {int(number): v["architecture"] for number, v in shown["versions"].items()}


def _moved(machine: Machine) -> int:
    """Return how many bytes of blobs a service has moved by itself, as its log tells."""
    return sum(int(entry["bytes"]) for entry in machine.events("synced"))


def main() -> int:
    """Run the demo; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tell, began = Terminal(), time.monotonic()
    tell.say("A registry, two publishers and two clients, each a process of its own on loopback.")
    try:
        application = apk.find()
        with (
            short_folder() as folder,
            Site(folder / "machines") as site,
        ):
            tell.say(f"They are ready after {time.monotonic() - began:.0f} s: {site.url}")
            scenario = Scenario(site, application, folder / "packages", tell)
            for step in STEPS:
                scenario.run_through(step)
    except AssertionError as fault:
        print(f"demo: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; everything was ended", file=sys.stderr)
        return 130
    tell.title(f"All of it is so; {time.monotonic() - began:.0f} s, no process or file is left.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

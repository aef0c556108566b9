"""`ams certificate`: as operators and the charm type it, beside a service that serves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from aar_interface import Certificate, Role
from support.ams import Result, environment, running
from support.registry import running as running_registry


def ams(home: Path, *arguments: str, stdin: str = "") -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "ams", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(home),
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def on_disk(home: Path) -> Certificate:
    return Certificate.parse((home / "registry" / "client.crt").read_bytes())


def test_without_one_it_says_so(tmp_path: Path) -> None:
    result = ams(tmp_path / "state", "certificate", "show")
    assert result.code == 1
    assert "there is no certificate at" in result.err


def test_rotating_wants_a_yes_and_replaces_both_files(tmp_path: Path) -> None:
    home = tmp_path / "state"
    made = json.loads(ams(home, "certificate", "rotate", "--yes", "--format", "json").out)
    assert made["fingerprint"] == str(on_disk(home).fingerprint)
    key = (home / "registry" / "client.key").read_bytes()
    assert (home / "registry" / "client.key").stat().st_mode & 0o777 == 0o600
    refused = ams(home, "certificate", "rotate", stdin="\n")
    assert (refused.code, "not confirmed" in refused.err) == (1, True)
    assert (home / "registry" / "client.key").read_bytes() == key
    again = json.loads(ams(home, "certificate", "rotate", "-y", "--format", "json").out)
    assert again["fingerprint"] == str(on_disk(home).fingerprint) != made["fingerprint"]
    assert (home / "registry" / "client.key").read_bytes() != key
    shown = json.loads(ams(home, "certificate", "show", "--format", "json").out)
    assert shown == again


def test_a_running_service_shows_the_new_one_with_its_next_connection(tmp_path: Path) -> None:
    with running_registry(tmp_path / "aar") as registry, running(tmp_path / "ams") as service:
        file = tmp_path / "registry.crt"
        file.write_text(registry.certificate.pem)
        service.ok("config", "trust", "add", file)
        registry.trust(on_disk(service.home), Role.CLIENT)
        service.ok("config", "set", "registry.url", registry.url)
        pin = str(registry.certificate.fingerprint)
        service.ok("config", "set", "registry.fingerprint", pin)
        service.ok("registry", "sync")
        former = on_disk(service.home)
        assert ams(service.home, "certificate", "rotate", "--yes").code == 0
        made = on_disk(service.home)
        assert made != former
        assert made.fingerprint.short in service.fails("registry", "sync")
        registry.trust(made, Role.CLIENT)
        registry.store.remove(former.fingerprint)
        service.ok("registry", "sync")
        entry = registry.store.get(made.fingerprint)
        assert entry is not None and entry.last_used is not None

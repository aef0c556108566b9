"""`aar` as an operator types it: real processes over a state root, without a server."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from aar import schema
from aar.cli import cli
from aar.registry import Registry
from regkit.database import Database
from regkit.oci.application import Key
from support.images import push
from support.operator import Operator

HELP = """\
Manage trusted clients

Usage:
  aar trust [command]

Available Commands:
  add         Register a client certificate
  list        List currently trusted clients
  remove      Remove a trusted certificate
  revoke      Revoke a certificate

Flags:
  -h, --help   help for trust

Use "aar trust [command] --help" for more information about a command.
"""
"""What the page about registering clients shows."""

DAY = timedelta(days=1)


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


# -- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_of_trust_is_that_of_the_page(operator: Operator, flag: str) -> None:
    assert operator.ok("trust", flag) == HELP
    assert not operator.home.exists()


def paths(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            found += paths(below, (*path, name))
    return found


@pytest.mark.parametrize("path", paths(cli), ids=lambda path: " ".join(path) or "-")
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli, [*path, "-h"], prog_name="aar")
    assert shown.exit_code == 0
    if path != ("trust",):
        assert "Example:" in shown.output
        assert " ".join(("aar", *path)) in shown.output.split("Example:")[1]


def test_version_and_completion(operator: Operator) -> None:
    assert operator.ok("-v") == operator.ok("--version")
    assert operator.ok("-v").startswith("aar ")
    for shell in ("bash", "fish", "zsh"):
        assert "_AAR_COMPLETE" in operator.ok("completion", shell)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("trust",),
        ("trust", "bogus"),
        ("trust", "add", "--architecture", "amd64"),
        ("trust", "add", "-p", "--architecture", "AMD 64"),
        ("trust", "list", "--format", "xml"),
        ("trust", "remove"),
        ("application", "delete", "app", "one"),
        ("completion", "tcsh"),
    ],
)
def test_wrong_usage(operator: Operator, arguments: tuple[str, ...]) -> None:
    assert "--help'" in operator.fails(*arguments, code=2)
    assert not operator.home.exists()


# -- add ----------------------------------------------------------------------------------------


def test_add_from_standard_input_as_the_page_does(operator: Operator) -> None:
    certificate = operator.identity().certificate
    said = operator.ok("trust", "add", stdin=certificate.pem)
    assert said == f"Certificate {certificate.fingerprint} is now trusted as client\n"
    [row] = operator.trusted()
    assert row["Fingerprint"] == str(certificate.fingerprint)
    assert row["Role"] == "client"
    assert row["CommonName"] == "site"


@pytest.mark.parametrize("flag", ["-p", "--publisher"])
def test_add_a_publisher_from_a_file(operator: Operator, flag: str) -> None:
    certificate = operator.identity().certificate
    limits = ("--architecture", "arm64", "--architecture", "amd64")
    operator.ok("trust", "add", operator.file(certificate), flag, "-q", *limits)
    [row] = operator.trusted()
    assert (row["Role"], row["Architectures"]) == ("publisher", ["amd64", "arm64"])


def test_a_certificate_is_added_once(operator: Operator) -> None:
    certificate = operator.added()
    again = operator.fails("trust", "add", "-p", stdin=certificate.pem)
    assert again == "certificate already exists"
    assert [row["Role"] for row in operator.trusted()] == ["client"]


def test_what_is_no_usable_certificate_is_refused(operator: Operator) -> None:
    identity = operator.identity()
    key = identity.path.read_text()
    secret = key.splitlines()[1]
    expired = operator.identity("old", valid=(-2 * DAY, -DAY)).certificate
    early = operator.identity("new", valid=(DAY, 2 * DAY)).certificate

    said = operator.fails("trust", "add", str(identity.path))
    assert said.startswith(f"{identity.path}: this holds a private key")
    assert secret not in said
    assert "standard input: this is not an X.509" in operator.fails("trust", "add", stdin="hello")
    assert "is empty" in operator.fails("trust", "add")
    assert "too large" in operator.fails("trust", "add", stdin="x" * 100_000)
    two = expired.pem + early.pem
    assert "2 certificates" in operator.fails("trust", "add", stdin=two)
    assert "expired on" in operator.fails("trust", "add", stdin=expired.pem)
    assert "not valid before" in operator.fails("trust", "add", stdin=early.pem)
    assert "No such file" in operator.fails("trust", "add", "missing.crt")
    assert operator.trusted() == []


@pytest.mark.parametrize("quiet", [False, True])
def test_only_a_terminal_is_told_that_standard_input_is_read(
    operator: Operator, quiet: bool
) -> None:
    certificate = operator.identity().certificate
    ours, terminal = pty.openpty()
    pipe = subprocess.PIPE
    options = ["-q"] if quiet else []
    process = operator.start(["trust", "add", *options], stdin=terminal, stdout=pipe, stderr=pipe)
    os.close(terminal)
    with process:
        try:
            os.write(ours, certificate.pem.encode() + b"\x04")
            out, err = process.communicate(timeout=60)
        finally:
            os.close(ours)
            if process.poll() is None:
                process.kill()
    assert process.returncode == 0, err
    assert str(certificate.fingerprint) in out
    assert ("standard input" in err) is not quiet


# -- list ---------------------------------------------------------------------------------------


def test_an_empty_list(operator: Operator) -> None:
    assert operator.ok("trust", "list", "--format", "json") == "[]\n"
    assert operator.ok("trust", "ls", "--format", "yaml") == "[]\n"
    assert operator.ok("application", "ls", "--format", "json") == "[]\n"
    assert len(operator.ok("trust", "list", "--format", "csv").splitlines()) == 1


def test_the_formats_of_the_list(operator: Operator) -> None:
    reader, publisher = operator.added("reader"), operator.added("publisher", "-p")
    fingerprints = [str(reader.fingerprint), str(publisher.fingerprint)]

    table = operator.ok("trust", "ls")
    heading = table.splitlines()[1].replace("│", "|").strip("| ").split("|")
    columns = ["FINGERPRINT", "ROLE", "COMMON NAME", "ISSUE DATE", "EXPIRY DATE"]
    assert [cell.strip() for cell in heading[:5]] == columns
    assert reader.fingerprint.short in table
    assert f"{reader.expires:%Y-%m-%d %H:%M} UTC" in table

    rows = list(csv.reader(io.StringIO(operator.ok("trust", "list", "--format", "csv"))))
    assert rows[0][:5] == columns
    assert [row[:3] for row in rows[1:]] == [
        [fingerprints[0], "client", "reader"],
        [fingerprints[1], "publisher", "publisher"],
    ]
    as_yaml = yaml.safe_load(operator.ok("trust", "list", "--format", "yaml"))
    assert as_yaml == operator.trusted()
    assert [row["Fingerprint"] for row in as_yaml] == fingerprints


# -- remove and revoke --------------------------------------------------------------------------


def test_remove_by_the_digits_of_the_table_and_add_again(operator: Operator) -> None:
    certificate = operator.added()
    said = operator.ok("trust", "remove", certificate.fingerprint.short.upper())
    assert said == f"Certificate {certificate.fingerprint} is no longer trusted\n"
    assert operator.trusted() == []
    assert "no certificate" in operator.fails("trust", "remove", str(certificate.fingerprint))
    operator.ok("trust", "add", stdin=certificate.pem)
    assert len(operator.trusted()) == 1


def test_prefixes(operator: Operator) -> None:
    certificate = operator.added()
    whole = str(certificate.fingerprint)
    # A second row that begins with the same 10 digits, which no certificate could be found for.
    twin = whole[:10] + ("0" if whole[10] != "0" else "1") + whole[11:]
    database = Database(f"sqlite:///{operator.home / 'data' / 'aar.db'}")
    try:
        with database.write() as connection:
            row = dict(connection.execute(schema.trust.select()).one()._mapping)
            connection.execute(schema.trust.insert().values({**row, "fingerprint": twin}))
    finally:
        database.close()

    for command in ("remove", "revoke"):
        assert "several fingerprints" in operator.fails("trust", command, whole[:10])
        assert "at least 8" in operator.fails("trust", command, whole[:7])
        assert "at least 8" in operator.fails("trust", command, "not-a-fingerprint")
    assert len(operator.trusted()) == 2
    operator.ok("trust", "remove", whole[:11])
    assert [row["Fingerprint"] for row in operator.trusted()] == [twin]


def test_revoke_asks_and_is_for_ever(operator: Operator) -> None:
    identity = operator.identity()
    certificate = identity.certificate
    operator.ok("trust", "add", stdin=certificate.pem)
    prefix = certificate.fingerprint.short

    for answer in ("", "\n", "n\n"):
        done = operator.aar("trust", "revoke", prefix, stdin=answer)
        assert done.returncode == 1
        assert "irreversible" in done.stdout
        assert str(certificate.fingerprint) in done.stdout
        assert "not confirmed" in done.stderr
    assert len(operator.trusted()) == 1

    operator.ok("trust", "revoke", prefix, stdin="y\n")
    assert operator.trusted() == []
    [row] = operator.trusted("--revoked")
    assert row["Fingerprint"] == str(certificate.fingerprint)
    assert row["Revoked"]

    assert "was revoked on" in operator.fails("trust", "add", stdin=certificate.pem)
    reissued = operator.identity("again", key=identity.key).certificate
    assert "key of this certificate was revoked" in operator.fails(
        "trust", "add", stdin=reissued.pem
    )
    assert "kept for ever" in operator.fails("trust", "remove", prefix)
    again = operator.aar("trust", "revoke", prefix)
    assert (again.returncode, again.stdout) == (1, "")
    assert "already revoked" in again.stderr


def test_revoke_without_a_question(operator: Operator) -> None:
    certificate = operator.added()
    said = operator.ok("trust", "revoke", str(certificate.fingerprint), "-y")
    assert said == f"Certificate {certificate.fingerprint} is revoked\n"
    assert operator.trusted() == []


def test_revoke_looks_before_it_asks(operator: Operator) -> None:
    done = operator.aar("trust", "revoke", "0123456789")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no certificate" in done.stderr


# -- applications and status --------------------------------------------------------------------


@pytest.fixture
def filled(operator: Operator) -> Operator:
    """Two numbers of an application, the first for two architectures."""
    with Registry(operator.home) as registry:
        for number, architecture in ((0, "amd64"), (0, "arm64"), (1, "amd64")):
            push(registry, Key("candy", number, architecture), tags=("game",))
    return operator


def versions(operator: Operator) -> list[tuple[int, str]]:
    shown = json.loads(operator.ok("application", "show", "candy", "--format", "json"))
    return [(item["version"], item["architecture"]) for item in shown["versions"]]


def test_applications_are_listed_and_shown(filled: Operator) -> None:
    rows = json.loads(filled.ok("application", "list", "--format", "json"))
    assert [(row["name"], row["version"], row["architectures"]) for row in rows] == [
        ("candy", 0, ["amd64", "arm64"]),
        ("candy", 1, ["amd64"]),
    ]
    assert rows[0]["tags"] == ["game"]
    assert rows[0]["size"] == 2 * rows[1]["size"] > 0
    assert "candy" in filled.ok("application", "ls")
    assert versions(filled) == [(0, "amd64"), (0, "arm64"), (1, "amd64")]
    assert yaml.safe_load(filled.ok("application", "show", "candy"))["name"] == "candy"
    assert "no application 'other'" in filled.fails("application", "show", "other")


def test_deletion_asks_says_what_and_takes_only_that(filled: Operator) -> None:
    done = filled.aar("application", "delete", "candy", "0", stdin="n\n")
    assert done.returncode == 1
    assert "  candy 0 amd64\n  candy 0 arm64\n" in done.stdout
    assert "not confirmed" in done.stderr
    assert len(versions(filled)) == 3

    filled.ok("application", "delete", "candy", "0", "arm64", stdin="yes\n")
    assert versions(filled) == [(0, "amd64"), (1, "amd64")]
    missing = filled.aar("application", "delete", "candy", "0", "arm64")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "no version 0 arm64 of application 'candy'" in missing.stderr
    said = filled.ok("application", "delete", "candy", "-y")
    assert said == "Removed candy 0 amd64\nRemoved candy 1 amd64\n"
    assert filled.ok("application", "list", "--format", "json") == "[]\n"
    assert "no application 'candy'" in filled.fails("application", "delete", "candy", "-y")


def test_status_without_a_server(filled: Operator) -> None:
    filled.added()
    configuration = filled.home / "conf" / "main.yaml"
    configuration.parent.mkdir()
    configuration.write_text("http:\n  addr: 127.0.0.1:0\n")
    shown = json.loads(filled.ok("status", "--format", "json"))
    cursor = shown.pop("cursor")
    assert cursor.endswith(":3")
    assert shown == {
        "state": str(filled.home),
        "address": "127.0.0.1:0",
        "trusted": 1,
        "applications": 1,
        "running": False,
    }
    configuration.write_text("http:\n  adr: 127.0.0.1:0\n")
    assert "http.adr: unknown key" in filled.fails("status")


def test_another_user_is_sent_to_sudo(operator: Operator) -> None:
    operator.home.mkdir(mode=0o755)
    script = (
        "import os, sys; from aar.cli import main; os.geteuid = lambda: 65534; "
        "sys.argv[1:] = ['trust', 'list']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "AAR_HOME": str(operator.home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "is another user's: use sudo" in done.stderr
    assert done.stderr.count("\n") == 1

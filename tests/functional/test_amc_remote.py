"""`amc remote …` and `amc --remote`: trust both ways with a service over real TLS."""

from __future__ import annotations

import json
import re
import socket
import ssl
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aar_interface import Certificate
from ams.client.probe import server_certificate
from regkit.errors import Unavailable
from support import pairs
from support.ams import Result, Service, amc, running, write_package
from support.terminal import on_terminal

QUESTION = "Do you want to continue? [y/N]:"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


class User:
    """Somebody on another machine: no service there, remotes and credentials of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "user" / "amc"

    def amc(self, *arguments: str | Path, stdin: str = "") -> Result:
        return amc(self.home, *arguments, stdin=stdin)

    def ok(self, *arguments: str | Path, stdin: str = "") -> str:
        result = self.amc(*arguments, stdin=stdin)
        assert result.code == 0, result
        return result.out

    def fails(self, *arguments: str | Path, stdin: str = "") -> str:
        """Expect failure that ends in one line, and return that."""
        result = self.amc(*arguments, stdin=stdin)
        assert result.code == 1, result
        assert result.err.splitlines()[-1].startswith("Error: "), result
        return result.err.splitlines()[-1]

    def names(self) -> list[str]:
        rows = json.loads(self.ok("remote", "list", "--format", "json"))
        return [row["name"] for row in rows]


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)


def url(service: Service) -> str:
    host, port = service.address()
    return f"https://{host}:{port}"


def fingerprint(service: Service) -> str:
    content = (service.home / "server" / "ams.crt").read_bytes()
    return str(Certificate.parse(content).fingerprint)


def test_the_certificate_is_shown_and_asked_for(service: Service, user: User) -> None:
    for answer in ("", "\n", "no\n", "perhaps\n"):
        refused = user.amc("remote", "add", "site", url(service), stdin=answer)
        assert refused.code == 1
        assert refused.out.startswith(f"Certificate fingerprint: {fingerprint(service)}\n")
        assert QUESTION in refused.out
        assert "--accept-certificate" in refused.err
        assert user.names() == ["local"]
    accepted = user.amc("remote", "add", "site", url(service), stdin="yes\n")
    assert accepted.code == 0
    assert user.names() == ["local", "site"]
    # The service doesn't know this user: it is said what to do.
    assert str(user.folder / "client.crt") in accepted.err
    assert "amc config trust add" in accepted.err


def test_from_nothing_to_a_working_remote(service: Service, user: User) -> None:
    added = user.amc("remote", "add", "site", url(service), "--accept-certificate")
    assert (added.code, added.out) == (0, "Remote site is added\n")
    assert fingerprint(service) in added.err
    message = user.fails("--remote", "site", "application", "list")
    assert "not trusted" in message
    assert f"'amc config trust add' there with your {user.folder / 'client.crt'}" in message
    package = write_package(user.home / "package", "by-a-remote-user")
    (package / "app.apk").write_bytes(bytes(8_000_000))
    # Megabytes are on their way when it is refused: the reason is told all the same.
    assert "not trusted" in user.fails("--remote", "site", "app", "create", package)

    service.ok("config", "trust", "add", user.folder / "client.crt")
    user.ok("remote", "set-default", "site")
    id_ = user.ok("application", "create", package).strip()
    assert id_ in service.ok("application", "list")
    assert user.ok("application", "show", id_) == service.ok("application", "show", id_)
    exported = user.ok("application", "export", id_, "0", "-o", user.home).strip()
    with tarfile.open(exported) as archive:
        assert "manifest.yaml" in archive.getnames()
    info = json.loads(user.ok("info", "--format", "json"))
    assert (info["remote"], info["url"], info["auth"]) == ("site", url(service), "trusted")
    assert info["service_version"]
    # --remote wins over the default; this user's machine has no service of its own.
    assert "ams serve" in user.fails("--remote", "local", "application", "list")

    # The service changes its mind.
    certificate = Certificate.parse((user.folder / "client.crt").read_bytes())
    service.ok("config", "trust", "remove", str(certificate.fingerprint))
    assert "not trusted" in user.fails("application", "list")


def test_the_trust_password_registers(service: Service, tmp_path: Path) -> None:
    service.ok("config", "set", "core.trust_password", "-", stdin="open sesame\n")
    ways: list[tuple[list[str], str]] = [
        (["--accept-certificate", "--password", "open sesame"], ""),
        (["--accept-certificate", "--password", "-"], "open sesame\n"),
        (["--accept-certificate", "open sesame"], ""),
        (["--password", "-"], "yes\nopen sesame\n"),
    ]
    for number, (options, stdin) in enumerate(ways):
        user = User(tmp_path / f"user-{number}")
        user.home.mkdir()
        added = user.amc("remote", "add", "site", url(service), *options, stdin=stdin)
        assert added.code == 0, added
        assert "sesame" not in added.out + added.err
        assert "trust add" not in added.err
        assert user.ok("--remote", "site", "application", "list", "--format", "json")
        # Who is trusted already needs no password.
        user.ok("remote", "add", "again", url(service), "--accept-certificate")
    user = User(tmp_path / "wrong")
    user.home.mkdir()
    options = ("--accept-certificate", "--password", "-")
    message = user.fails("remote", "add", "site", url(service), *options, stdin="guess\n")
    assert "trust password is wrong" in message
    assert user.names() == ["local"]
    service.ok("config", "set", "core.trust_password", "")
    message = user.fails("remote", "add", "site", url(service), *options, stdin="open sesame\n")
    assert "not trusted" in message
    assert not service.logged("sesame")


def test_questions_on_a_terminal(service: Service, user: User) -> None:
    service.ok("config", "set", "core.trust_password", "-", stdin="typed\n")
    add = ("remote", "add", "site", url(service))
    code, shown = on_terminal(user.home, *add, answer=b"\n")
    assert code == 1
    assert "nothing was changed" in shown
    dialogue = [(b"[y/N]: ", b"yes\n"), (b"Trust password", b"typed\n")]
    code, shown = on_terminal(user.home, *add, dialogue=dialogue)
    assert (code, user.names()) == (0, ["local", "site"]), shown
    assert "typed" not in shown
    assert user.ok("--remote", "site", "config", "get", "core.trust_password") == "true\n"
    service.ok("config", "set", "core.trust_password", "")


def test_another_certificate_is_refused_before_anything_is_sent(
    service: Service, user: User, tmp_path: Path
) -> None:
    user.ok("remote", "add", "site", url(service), "--accept-certificate")
    service.ok("config", "trust", "add", user.folder / "client.crt")
    pair = pairs.make(tmp_path, "somebody-else", usage="server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair.files)
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def impostor() -> None:
            # One handshake for `application list`, then three for `set-url`.
            for _ in range(4):
                plain, _ = listener.accept()
                with plain:
                    try:
                        with context.wrap_socket(plain, server_side=True) as connection:
                            received.append(connection.recv(1000))
                    except OSError:
                        received.append(b"")

        thread = threading.Thread(target=impostor)
        thread.start()
        port = listener.getsockname()[1]
        path = user.folder / "remotes.json"
        path.write_text(path.read_text().replace(url(service), f"https://127.0.0.1:{port}"))
        message = user.fails("--remote", "site", "application", "list")
        assert "another certificate than the one you accepted" in message
        assert "amc remote set-url" in message
        set_url = ("remote", "set-url", "site", f"https://127.0.0.1:{port}")
        refused = user.amc(*set_url)
        assert refused.code == 1
        assert f"Certificate fingerprint: {pair.certificate.fingerprint}" in refused.out
        assert QUESTION in refused.out
        user.ok(*set_url, stdin="y\n")
        assert user.ok(*set_url) == ""
        thread.join(30)
    assert received == [b""] * 4
    # Back to the service: its certificate isn't the accepted one any more, so it is asked for.
    assert user.amc("remote", "set-url", "site", url(service)).code == 1
    user.ok("remote", "set-url", "site", url(service), "--accept-certificate")
    user.ok("--remote", "site", "application", "list")


def test_list_for_people_and_programs(service: Service, user: User) -> None:
    user.ok("remote", "add", "site", url(service), "--accept-certificate")
    user.ok("remote", "add", "other", "unix:///srv/ams/unix.socket")
    listed = user.ok("remote", "ls")
    assert re.search(r"NAME .* URL .* DEFAULT .* FINGERPRINT", listed)
    assert fingerprint(service)[:12] in listed
    rows = json.loads(user.ok("remote", "list", "--format", "json"))
    assert rows == [
        {"name": "local", "url": "unix://", "default": True, "fingerprint": ""},
        {
            "name": "other",
            "url": "unix:///srv/ams/unix.socket",
            "default": False,
            "fingerprint": "",
        },
        {
            "name": "site",
            "url": url(service),
            "default": False,
            "fingerprint": fingerprint(service),
        },
    ]
    csv = user.ok("remote", "list", "--format", "csv").splitlines()
    assert csv[:2] == ["NAME,URL,DEFAULT,FINGERPRINT", "local,unix://,true,"]
    assert "/srv/ams/unix.socket" in user.fails("--remote", "other", "info")
    assert user.ok("remote", "rm", "other") == "Remote other is removed\n"
    assert user.names() == ["local", "site"]


def test_existence_is_checked_before_anything_else(user: User) -> None:
    # Nothing listens on port 1: these would fail differently if anybody were asked.
    for arguments, words in [
        (("remote", "add", "local", "https://127.0.0.1:1"), "exists already"),
        (("remote", "add", "a b", "https://127.0.0.1:1"), "can't be a remote's name"),
        (("remote", "add", "site", "127.0.0.1:1"), "https://192.168.178.45:8444"),
        (("remote", "set-url", "nobody", "https://127.0.0.1:1"), "amc remote list"),
        (("remote", "remove", "nobody"), "amc remote list"),
        (("remote", "set-default", "nobody"), "amc remote list"),
        (("--remote", "nobody", "application", "list"), "amc remote list"),
    ]:
        assert words in user.fails(*arguments)
    assert user.amc("remote", "add", "x", "https://a", "one", "--password", "two").code == 2


def test_what_cannot_be_reached(user: User) -> None:
    assert "refused" in user.fails("remote", "add", "site", "https://127.0.0.1:1")
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        port = plain.getsockname()[1]
        message = user.fails("remote", "add", "site", f"https://127.0.0.1:{port}")
        thread.join(30)
    assert "speaks no TLS" in message
    assert user.names() == ["local"]


def test_a_server_that_says_nothing_is_not_waited_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(Unavailable, match="timed out"):
            server_certificate(f"https://127.0.0.1:{port}", timeout=0.2)


def test_a_service_that_went_away(tmp_path: Path, user: User) -> None:
    with running(tmp_path / "ams") as short:
        user.ok("remote", "add", "site", url(short), "--accept-certificate")
        where = url(short)
    message = user.fails("--remote", "site", "application", "list")
    assert where in message
    assert "can't be reached" in message


def test_remotes_are_completed(service: Service, user: User) -> None:
    user.ok("remote", "add", "site", url(service), "--accept-certificate")
    asked = {"_AMC_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    done = amc(user.home, env={**asked, "COMP_WORDS": "amc --remote s"})
    assert done.out.split() == ["plain,site"]
    service.ok("config", "trust", "add", user.folder / "client.crt")
    service.ok("application", "create", write_package(user.home / "p", "completed"))
    words = {"COMP_WORDS": "amc --remote site app show com", "COMP_CWORD": "5"}
    assert amc(user.home, env={**asked, **words}).out.split() == ["plain,completed"]

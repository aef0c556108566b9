"""`aar trust apply` and `aar check-config`, which charms call; and whose files `aar` leaves."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from aar_interface import Certificate
from support.operator import Operator
from support.registry import make_identity, running

DAY = timedelta(days=1)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def wish(certificate: Certificate, role: str = "client", **more: object) -> dict[str, object]:
    return {"certificate": certificate.pem, "role": role, **more}


def digits(certificate: Certificate) -> str:
    return str(certificate.fingerprint)


# -- apply ---------------------------------------------------------------------------------------


def test_a_charms_day(operator: Operator) -> None:
    by_hand = operator.added("by-hand")
    first, second = (operator.identity(name).certificate for name in ("first", "second"))
    wanted = [
        wish(first, origin="client:1"),
        wish(second, "publisher", origin="publisher:2", architectures=["arm64"]),
        wish(by_hand, "publisher", origin="publisher:2"),
    ]
    both = sorted([digits(first), digits(second)])
    assert operator.applied("juju", *wanted) == {"added": both, "kept": [digits(by_hand)]}
    rows = {row["Fingerprint"]: row for row in operator.trusted()}
    assert rows[digits(second)]["Origin"] == "juju:publisher:2"
    assert rows[digits(second)]["Architectures"] == ["arm64"]
    assert (rows[digits(by_hand)]["Origin"], rows[digits(by_hand)]["Role"]) == ("manual", "client")

    assert operator.applied("juju", *wanted) == {"unchanged": both, "kept": [digits(by_hand)]}
    wanted[0]["role"] = "publisher"
    del wanted[1]
    assert operator.applied("juju", *wanted) == {
        "changed": [digits(first)],
        "removed": [digits(second)],
        "kept": [digits(by_hand)],
    }
    assert operator.applied("somebody-else") == {}
    assert operator.applied("juju") == {"removed": [digits(first)]}
    assert [row["Fingerprint"] for row in operator.trusted()] == [digits(by_hand)]


def test_the_revoked_and_the_outdated_are_told_and_the_rest_goes_on(operator: Operator) -> None:
    identity = operator.identity("lost")
    operator.applied("juju", wish(identity.certificate))
    operator.ok("trust", "revoke", "-y", identity.certificate.fingerprint.short)
    reissued = operator.identity("again", key=identity.key).certificate
    expired = operator.identity("old", valid=(-2 * DAY, -DAY)).certificate
    good = operator.identity("good").certificate

    wanted = [wish(item) for item in (identity.certificate, reissued, expired, good)]
    said = operator.applied("juju", *wanted)
    assert said["added"] == [digits(good)]
    reasons = {item["fingerprint"]: item["reason"] for item in said["refused"]}
    assert reasons == {
        digits(identity.certificate): "revoked",
        digits(reissued): "revoked",
        digits(expired): "expired",
    }
    assert all("make a new" in item["message"] for item in said["refused"])
    assert [row["Fingerprint"] for row in operator.trusted()] == [digits(good)]
    assert len(operator.trusted("--revoked")) == 1


def test_documents_in_yaml_and_answers_in_every_format(operator: Operator) -> None:
    certificate = operator.identity().certificate
    old = operator.identity("old", valid=(-2 * DAY, -DAY)).certificate
    document = operator.certificates / "wanted.yaml"
    document.write_text(yaml.safe_dump({"trusted": [wish(certificate), wish(old)]}))
    table = operator.ok("trust", "apply", str(document), "--owner", "ops", "--format", "table")
    assert digits(certificate) in table
    assert "added" in table
    assert "expired on" in " ".join(table.split())
    as_yaml = operator.ok("trust", "apply", str(document), "--owner", "ops", "--format", "yaml")
    as_json = operator.ok("trust", "apply", "-", "--owner", "ops", stdin=document.read_text())
    said = json.loads(as_json)
    assert yaml.safe_load(as_yaml) == said
    assert list(said) == ["added", "changed", "removed", "kept", "unchanged", "refused"]
    assert said["unchanged"] == [digits(certificate)]


def test_a_faulty_document_changes_nothing(operator: Operator) -> None:
    identity = operator.identity()
    operator.applied("juju", wish(identity.certificate))
    faulty = {"trusted": [{"certificate": identity.path.read_text(), "role": "admin"}]}
    said = operator.fails("trust", "apply", "--owner", "juju", stdin=json.dumps(faulty))
    assert said.startswith("standard input: trusted[0].certificate: this holds a private key")
    assert "; trusted[0].role: " in said
    assert operator.applied("juju", wish(identity.certificate)) == {
        "unchanged": [digits(identity.certificate)]
    }


@pytest.mark.parametrize("owner", ["manual", "Juju", "juju:client"])
def test_an_owner_that_cannot_be_opens_nothing(operator: Operator, owner: str) -> None:
    said = operator.fails("trust", "apply", "--owner", owner, stdin='{"trusted": []}')
    assert owner in said
    assert "--owner" in operator.fails("trust", "apply", code=2)
    assert not operator.home.exists()


def test_a_running_registry_acts_on_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path / "state") as server:
        operator = Operator(tmp_path)
        identity = make_identity(tmp_path / "test", "site")
        session = server.new_session(identity)
        assert session.get("/v2/").status_code == 403
        operator.applied("juju", wish(identity.certificate))
        assert session.get("/v2/").status_code == 200
        operator.applied("juju")
        assert session.get("/v2/").status_code == 403
        assert server.client.get("/v2/").status_code == 200


# -- check-config --------------------------------------------------------------------------------


def check(service: str, *arguments: str, stdin: str = "") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", service, "check-config", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("service", "content"),
    [
        ("aar", ""),
        ("aar", "http: {addr: 0.0.0.0:3000, workers: 2}\nlog: {level: info}\n"),
        ("aar", '{"storage": {"fs": {"root-directory": "/srv/blobs"}}}'),
        ("ams", "http: {addr: 0.0.0.0:8444}\narchitecture: arm64\n"),
        ("ams", "database: {url: 'sqlite:////srv/ams.db'}\n"),
    ],
)
def test_a_configuration_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str, content: str
) -> None:
    monkeypatch.setenv(f"{service.upper()}_HOME", str(tmp_path / "home"))
    assert check(service, "-", stdin=content) == (0, "")
    path = tmp_path / "main.yaml"
    path.write_text(content)
    assert check(service, str(path)) == (0, "")
    assert [item.name for item in tmp_path.iterdir()] == ["main.yaml"]


@pytest.mark.parametrize("service", ["aar", "ams"])
def test_every_fault_of_a_configuration_in_one_line(tmp_path: Path, service: str) -> None:
    code, said = check(
        service,
        "-",
        stdin="http: {addr: nowhere}\nlog: {level: loud}\nunknown: 1\ndatabase: {url: 'x://y'}\n",
    )
    assert code == 1
    assert said.count("\n") == 1
    for part in (
        "Error: standard input: http.addr: 'nowhere' is not an address",
        "log.level: ",
        "unknown: unknown key",
        "database.url: the engine 'x' is not supported",
    ):
        assert part in said
    missing = tmp_path / "missing.yaml"
    assert check(service, str(missing)) == (1, f"Error: {missing}: No such file or directory\n")
    assert "is too large" in check(service, "-", stdin="#" * 300_000)[1]
    assert (
        "not UTF-8" in check(service, "/bin/true")[1]
        or "too large" in check(service, "/bin/true")[1]
    )


# -- whose files ---------------------------------------------------------------------------------

NOBODY = pwd.getpwnam("nobody")
STRANGER = 54_321
"""A user that no list of users knows."""

both = pytest.mark.parametrize(
    "user", [NOBODY.pw_uid, STRANGER], ids=["nobody", "unlisted"], indirect=True
)


def usable_python(user: int) -> tuple[Sequence[str], dict[str, str]] | None:
    """Return a Python that `user` may read too, and the environment in which it runs `aar`."""
    folders = [str(ROOT / "src"), str(ROOT / "lib"), sysconfig.get_path("purelib")]
    environ = {"PYTHONPATH": os.pathsep.join(folders), "PYTHONDONTWRITEBYTECODE": "1"}
    for python in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if python is None:
            continue
        try:
            tried = subprocess.run(
                [python, "-c", "import aar.registry, alembic.command, requests"],
                env={"PATH": os.environ["PATH"], **environ},
                user=user,
                group=user,
                extra_groups=(),
                capture_output=True,
                timeout=60,
                check=False,
                cwd="/",
            )
        except PermissionError:
            continue
        if tried.returncode == 0:
            return [python, "-m", "aar"], environ
    return None


class TestRoot:
    """Root, in a state root of somebody else."""

    pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

    @pytest.fixture
    def user(self, request: pytest.FixtureRequest) -> int:
        return getattr(request, "param", NOBODY.pw_uid)

    @pytest.fixture
    def operator(self, user: int) -> Iterator[Operator]:
        if not (found := usable_python(user)):
            pytest.skip("no Python here that other users may read")
        # Not tmp_path: only its owner may enter that.
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            operator = Operator(Path(folder), *found)
            operator.home.mkdir()
            os.chown(operator.home, user, user)
            yield operator

    def owners(self, operator: Operator) -> set[tuple[int, int]]:
        return {
            (path.stat().st_uid, path.stat().st_gid)
            for path in (operator.home, *operator.home.rglob("*"))
        }

    @both
    def test_leaves_nothing_that_is_roots(self, operator: Operator, user: int) -> None:
        group = NOBODY.pw_gid if user == NOBODY.pw_uid else user
        certificate = operator.identity().certificate
        # The input is read as root, who alone may.
        path = Path(operator.file(certificate))
        path.chmod(0o600)
        operator.certificates.chmod(0o700)
        os.chown(operator.home, user, group)
        operator.ok("trust", "add", str(path))
        assert (operator.home / "data" / "aar.db").exists()
        assert self.owners(operator) == {(user, group)}

        other = operator.identity("other").certificate
        operator.applied("juju", wish(other))
        operator.ok("trust", "revoke", "-y", digits(other))
        assert [row["Fingerprint"] for row in operator.trusted()] == [digits(certificate)]
        operator.ok("status")
        assert self.owners(operator) == {(user, group)}

    def test_saves_where_only_root_may_and_restores_for_the_owner(
        self, operator: Operator, user: int
    ) -> None:
        group = NOBODY.pw_gid
        os.chown(operator.home, user, group)
        operator.added()
        with tempfile.TemporaryDirectory() as vault:  # entered by root alone
            target = Path(vault, "backup.tar")
            operator.ok("backup", str(target))
            assert (target.stat().st_uid, target.stat().st_mode & 0o777) == (0, 0o600)
            operator.ok("restore", "--force", str(target))
        operator.ok("verify")
        assert self.owners(operator) == {(user, group)}

    @both
    def test_is_told_how_to_serve(self, operator: Operator, user: int) -> None:
        shell, unit = ("nobody", "nobody") if user == NOBODY.pw_uid else (f"'#{user}'", str(user))
        said = operator.fails("serve")
        assert f'"sudo -u {shell} AAR_HOME={operator.home} aar serve"' in said
        assert f"User={unit} in a systemd unit" in said
        command = [*operator._command[:-1], "ams"]
        environ = {**operator._environ, "AMS_HOME": str(operator.home)}
        said = Operator(operator.home.parent, command, environ).fails("serve")
        assert f'"sudo -u {shell} AMS_HOME={operator.home} ams serve"' in said
        assert list(operator.home.iterdir()) == []

    def test_goes_by_the_owner_of_the_data(self, operator: Operator, user: int) -> None:
        """The root itself may be root's, as /var/snap/aar/common is; what is in it decides."""
        os.chown(operator.home, 0, 0)
        data = operator.home / "data"
        data.mkdir(mode=0o700)
        os.chown(data, user, user)
        operator.applied("juju", wish(operator.identity().certificate))
        assert {path.stat().st_uid for path in data.rglob("*")} == {user}

    def test_in_its_own_stays_itself(self, operator: Operator) -> None:
        os.chown(operator.home, 0, 0)
        operator.added()
        assert self.owners(operator) == {(0, 0)}

    def test_what_the_owner_may_not_reach_is_told_in_one_line(self, operator: Operator) -> None:
        operator.home.parent.chmod(0o700)
        said = operator.fails("trust", "list")
        assert "Permission denied" in said
        assert "check its owner" in said

    def test_where_the_owner_may_not_read_the_program(self, operator: Operator) -> None:
        with tempfile.TemporaryDirectory() as folder:  # entered by root alone
            copy = Path(folder, "regkit")
            shutil.copytree(ROOT / "src" / "regkit", copy)
            environ = dict(operator._environ)
            environ["PYTHONPATH"] = os.pathsep.join((folder, environ["PYTHONPATH"]))
            elsewhere = Operator(operator.home.parent, operator._command, environ)
            said = elsewhere.fails("trust", "list")
        assert "may not read this program" in said
        assert list(operator.home.iterdir()) == []

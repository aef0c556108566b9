"""machine_service on a booted machine: real wheels, real users, real systemd, no charm around it.

The toy charm only has a machine booted; nothing here runs in its hooks.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jubilant
import pytest

from rig import wheels
from rig.client import Rig

HERE = Path(__file__).parent
STAGE = "/root/machine-service"
EXPOSURE = 2.5
"""The most that `systemd-analyze security` may find."""

AAR = {
    "name": "aar",
    "commands": ["aar"],
    "home": "/var/snap/aar/common",
    "home_variable": "AAR_HOME",
    "description": "Application registry",
    "serve": ["aar", "serve"],
}
AMS = {
    "name": "ams",
    "commands": ["ams", "amc"],
    "home": "/var/snap/ams/common",
    "home_variable": "AMS_HOME",
    "description": "Application management service",
    "serve": ["ams", "serve"],
    "shared": ["server"],
}
SETTINGS = "log:\n  level: info\n"
OTHER_SETTINGS = "log:\n  level: debug\n"


class Refused(Exception):  # noqa: N818 - the name states the fault
    """What MachineService raised: the class's name and the message."""


class Box:
    """A booted machine on which MachineService is driven."""

    def __init__(self, juju: jubilant.Juju) -> None:
        self.juju = juju

    def sh(self, script: str) -> str:
        """Run a shell script as root; return its stdout."""
        return self.juju.ssh("box/0", f"sudo sh -ec {shlex.quote(script)}")

    def code(self, script: str) -> int:
        """Run a shell script as root; return its exit code."""
        return int(self.sh(f"set +e; ({script}) >/dev/null 2>&1; echo $?"))

    def until(self, condition: str) -> None:
        """Wait for a shell condition, at most half a minute."""
        self.sh(f"timeout 30 sh -c {shlex.quote(f'until {condition}; do sleep 0.1; done')}")

    def service(self, program: dict[str, Any], verb: str, *arguments: Any, **keywords: Any) -> Any:
        """Call a verb; raises Refused for what it raises."""
        return self._answer(self.juju.ssh("box/0", self._line(program, verb, arguments, keywords)))

    def killed(self, seconds: float, program: dict[str, Any], verb: str, *arguments: Any) -> bool:
        """Call a verb and kill -9 it after so long; return whether that came too late."""
        line = f"timeout -s KILL {seconds} {self._line(program, verb, arguments, {})}"
        return self.code(f"{line}") == 0

    def unit(self, *properties: str) -> list[str]:
        return [self.sh(f"systemctl show -P {name} aar.service").strip() for name in properties]

    def put(self, folder: Path, name: str) -> None:
        """Copy a directory to the machine."""
        archive = folder.with_name(f"{folder.name}.tar")
        subprocess.run(["tar", "-C", str(folder), "-cf", str(archive), "."], check=True)
        self.juju.scp(archive, f"box/0:/tmp/{name}.tar")
        archive.unlink()
        self.sh(f"mkdir -p {STAGE}/{name}; tar -C {STAGE}/{name} -xf /tmp/{name}.tar")
        self.sh(f"rm /tmp/{name}.tar; chown -R root:root {STAGE}")

    @staticmethod
    def _line(program: dict[str, Any], verb: str, arguments: Any, keywords: Any) -> str:
        request = {
            "program": program,
            "verb": verb,
            "arguments": arguments,
            "keywords": keywords,
        }
        paths = f"PYTHONPATH={STAGE}/python/lib:{STAGE}/python/site PYTHONDONTWRITEBYTECODE=1"
        driver = f"{STAGE}/python/machine_driver.py"
        # Not what a hook has: what is hostile to a clean installation.
        hostile = "PIP_INDEX_URL=http://127.0.0.1:1/ VIRTUAL_ENV=/nowhere PIP_REQUIRE_HASHES=1"
        command = f"{paths} {hostile} /usr/bin/python3 {driver}"
        return f"sudo env {command} {shlex.quote(json.dumps(request))}"

    @staticmethod
    def _answer(output: str) -> Any:
        answer = json.loads(output.splitlines()[-1])
        if "error" in answer:
            raise Refused(answer["error"], answer["message"])
        print(f"{answer['seconds']:.2f} s", end="; ")
        return answer["result"]


@pytest.fixture(scope="module")
def box(juju: jubilant.Juju, toy_charm: Path, tmp_path_factory: pytest.TempPathFactory) -> Box:
    """A machine with what a charm would bring: wheels, `lib`, its virtual environment."""
    juju.deploy(toy_charm, "box")
    juju.wait(jubilant.all_active, delay=0.2, successes=2)
    box, folder = Box(juju), tmp_path_factory.mktemp("stage")
    shutil.copytree(HERE.parents[1] / "lib", folder / "python" / "lib")
    shutil.copytree(wheels.charm(), folder / "python" / "site")
    shutil.copy(HERE / "machine_driver.py", folder / "python")
    box.put(folder / "python", "python")
    first, second = folder / "wheels", folder / "newer"
    for target in (first, second):
        shutil.copytree(wheels.service(), target)
    ours = next(second.glob("anbox_registry-*.whl"))
    with zipfile.ZipFile(ours, "a") as archive:
        archive.comment = b"another build of the same"
    box.put(first, "wheels")
    box.put(second, "newer")
    return box


@pytest.fixture(scope="module")
def aar(box: Box) -> Callable[..., Any]:
    """The registry, installed, configured and running; call it with a verb."""
    box.service(AAR, "install", f"{STAGE}/wheels")
    box.service(AAR, "configure", SETTINGS)
    box.service(AAR, "ensure_running")

    def call(verb: str, *arguments: Any, **keywords: Any) -> Any:
        return box.service(AAR, verb, *arguments, **keywords)

    return call


def test_installs_on_a_bare_machine(box: Box) -> None:
    venv = "'python3*-venv' python3-pip-whl python3-setuptools-whl"
    box.sh(f"dpkg-query -W -f '${{Package}}\\n' {venv} | xargs dpkg --purge")
    assert box.code("python3 -m ensurepip --version") != 0
    before = box.sh("cd /; find etc usr var/snap opt -xdev 2>/dev/null | sort")
    assert box.service(AAR, "installed") is False
    assert box.service(AAR, "install", f"{STAGE}/wheels") is True
    print("size:", box.sh("du -sh /opt/aar").split()[0])
    assert box.service(AAR, "install", f"{STAGE}/wheels") is False
    assert box.service(AAR, "installed") is True
    # Its commands work, for everyone, and know where the state is.
    version = box.service(AAR, "version")
    assert box.juju.ssh("box/0", "aar --version") == f"aar {version}\n"
    assert "/var/snap/aar/common" in box.sh("cat /usr/local/bin/aar")
    assert box.code("runuser -u ubuntu -- aar trust list") != 0
    assert box.sh("ls /home/ubuntu -A | grep -c local || true") == "0\n"
    # Nobody can log in as the service's user; nobody else sees the data.
    name, _, _, _, _, home, shell = box.sh("getent passwd aar").strip().split(":")
    assert (name, home, shell) == ("aar", "/var/snap/aar/common", "/usr/sbin/nologin")
    assert box.sh("stat -c %U:%G:%a /var/snap/aar/common") == "aar:aar:751\n"
    assert box.code("find /opt/aar ! -user root | grep .") != 0
    assert box.code("find /opt/aar -type f -perm /022 | grep .") != 0
    # All of it can be taken away.
    box.service(AAR, "remove", keep_data=False)
    after = box.sh("cd /; find etc usr var/snap opt -xdev 2>/dev/null | sort")
    assert set(after.split()) - set(before.split()) <= {
        "var/snap",  # shared with others, as /opt is
        "etc/passwd-",
        "etc/shadow-",
        "etc/group-",
        "etc/gshadow-",
    }
    assert box.code("getent passwd aar") != 0
    assert box.code("getent group aar") != 0


@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_killed_while_installing(box: Box, seconds: float) -> None:
    box.service(AAR, "remove")
    finished = box.killed(seconds, AAR, "install", f"{STAGE}/wheels")
    assert finished == box.service(AAR, "installed")
    assert box.service(AAR, "install", f"{STAGE}/wheels") is not finished
    assert box.sh("aar --version").startswith("aar ")
    assert box.sh("ls /opt/aar/releases | wc -l") == "1\n"


def test_settings_that_it_refuses_change_nothing(box: Box, aar: Callable[..., Any]) -> None:
    before = box.sh("cat /etc/systemd/system/aar.service; ls -l --full-time /var/snap/aar/common")
    with pytest.raises(Refused) as refused:
        aar("configure", "http:\n  adr: 1\nlog: {level: loud}\n")
    kind, message = refused.value.args
    assert kind == "InvalidConfiguration"
    assert "http.adr: unknown key" in message and "log.level" in message and "\n" not in message
    after = box.sh("cat /etc/systemd/system/aar.service; ls -l --full-time /var/snap/aar/common")
    assert after == before
    assert aar("is_running") is True


def test_restarts_on_change_only(box: Box, aar: Callable[..., Any]) -> None:
    first = box.unit("MainPID")
    assert aar("install", f"{STAGE}/wheels") is False
    assert aar("configure", SETTINGS) is False
    assert aar("ensure_running") is False
    assert box.unit("MainPID", "NRestarts") == [*first, "0"]
    # A hook killed between writing and restarting is finished by the next one.
    assert aar("configure", OTHER_SETTINGS) is True
    assert aar("configure", OTHER_SETTINGS) is False
    assert aar("ensure_running") is True
    assert box.unit("MainPID") != first
    # An operator's restart counts, and so does one that happened before the files changed.
    aar("configure", SETTINGS)
    box.sh("systemctl restart aar")
    assert aar("ensure_running") is True
    box.sh("systemctl restart aar")
    assert aar("ensure_running") is False
    aar("configure", OTHER_SETTINGS)
    box.sh("systemctl daemon-reload; systemctl restart aar")
    assert aar("ensure_running") is False
    # What stopped is started, whoever stopped it.
    box.sh("systemctl stop aar; systemctl disable --quiet aar")
    assert aar("is_running") is False
    assert aar("ensure_running") is True
    assert box.unit("UnitFileState") == ["enabled"]
    aar("stop")
    assert box.unit("ActiveState") == ["inactive"]
    aar("configure", SETTINGS)
    assert aar("ensure_running") is True
    before = box.unit("MainPID")
    aar("restart")
    assert box.unit("MainPID", "ActiveState") != [*before, "active"]


def test_a_client_certificate_reaches_the_service(box: Box, aar: Callable[..., Any]) -> None:
    """The sandbox leaves pyOpenSSL's callback alone, and reloading works."""
    box.sh(
        f"cd {STAGE}; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
        "-keyout client.key -out client.crt -subj /CN=site -days 9 2>/dev/null"
    )
    certificate = box.sh(f"cat {STAGE}/client.crt")
    said = aar("run", "aar", "trust", "add", "--quiet", input=certificate)
    assert "trusted" in said
    keys = f"--cert {STAGE}/client.crt --key {STAGE}/client.key"

    def auth(options: str) -> str:
        answer = box.sh(f"curl -sk --max-time 10 {options} https://127.0.0.1:3000/1.0")
        return json.loads(answer)["metadata"]["auth"]

    assert (auth(keys), auth("")) == ("trusted", "untrusted")
    box.sh("systemctl reload aar")
    assert (auth(keys), auth("")) == ("trusted", "untrusted")
    # What root's command made, the service can use.
    assert box.code("find /var/snap/aar/common ! -user aar ! -path '*/conf*' | grep .") != 0


def test_a_command_fails_in_its_own_words(aar: Callable[..., Any]) -> None:
    with pytest.raises(Refused) as refused:
        aar("run", "aar", "trust", "add", "--quiet", input="no certificate")
    kind, message = refused.value.args
    assert kind == "CommandFailed"
    assert "certificate" in message and not message.startswith("Error") and "\n" not in message
    with pytest.raises(Refused, match=r"didn't end within 0\.01 s"):
        aar("run", "aar", "trust", "list", timeout=0.01)


@pytest.mark.parametrize("low_port", [False, True])
def test_it_may_do_little(box: Box, aar: Callable[..., Any], low_port: bool) -> None:
    settings = 'http:\n  addr: ":443"\n' if low_port else SETTINGS
    aar("configure", settings, low_port=low_port, writable=["/srv/aar blobs"])
    aar("ensure_running")
    report = box.sh("systemd-analyze security --no-pager aar.service || true")
    found = re.search(r"exposure level for aar.service: ([\d.]+)", report)
    assert found and float(found[1]) <= EXPOSURE
    print(f"exposure, low port {low_port}: {found[1]}")
    pid = box.unit("MainPID")[0]
    enter = f"nsenter -t {pid} -m setpriv --reuid aar --regid aar --init-groups --no-new-privs"
    status = box.sh(f"cat /proc/{pid}/status")
    capabilities = "0000000000000400" if low_port else "0000000000000000"
    for name in ("CapEff", "CapBnd"):
        assert f"{name}:\t{capabilities}" in status
    assert re.search(r"^Seccomp:\t2$", status, re.M)
    most = min(65536, int(box.sh("ulimit -Hn")))  # a container gives no more than it has
    assert re.search(rf"Max open files +{most} ", box.sh(f"cat /proc/{pid}/limits"))
    for place in ("/srv/aar blobs", "/var/snap/aar/common", "/tmp"):
        assert box.code(f"{enter} touch '{place}/x'") == 0
    for place in ("/srv", "/opt/aar", "/etc", "/usr", "/var/lib", "/var/snap/aar/common/conf"):
        assert box.code(f"{enter} touch {place}/x") != 0
    for command in ("mv /var/snap/aar/common/conf /var/snap/aar/common/c", "ls /home"):
        assert box.code(f"{enter} {command}") != 0
    assert box.code("test -e /tmp/x") != 0
    assert box.code(f"{enter} cat /var/snap/aar/common/conf/main.yaml") == 0
    box.sh("rm -f '/srv/aar blobs/x' /var/snap/aar/common/x")
    port = 443 if low_port else 3000
    assert box.sh(f"curl -sk --max-time 10 https://127.0.0.1:{port}/1.0/status")


def test_why_it_is_down_is_said(box: Box, aar: Callable[..., Any]) -> None:
    listen = "import socket, time; s = socket.create_server(('', 3999)); time.sleep(600)"
    box.sh(f'systemd-run --quiet --unit=squatter python3 -c "{listen}"')
    box.until("ss -ltn | grep -q :3999")
    taken = 'http:\n  addr: "0.0.0.0:3999"\n'
    aar("configure", taken)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            aar("ensure_running")
        kind, message = refused.value.args
        assert kind == "NotRunning" and "0.0.0.0:3999 is in use" in message
        assert not message.startswith("Error") and "\n" not in message
    box.sh("systemctl stop squatter")
    assert aar("ensure_running") is True
    # A directory that isn't there any more: systemd's own words.
    aar("configure", SETTINGS, writable=["/srv/gone"])
    box.sh("rmdir /srv/gone")
    with pytest.raises(Refused, match=r"NotRunning.* namespacing: /srv/gone: No such file"):
        aar("ensure_running")
    aar("configure", SETTINGS)
    assert aar("ensure_running") is True


def test_killed_and_rebooted(box: Box, aar: Callable[..., Any], rig: Rig) -> None:
    rig.kill_service("box/0", "aar.service")
    box.until("systemctl is-active --quiet aar")
    assert aar("ensure_running") is False
    rig.reboot("box/0")
    box.until("systemctl is-active --quiet aar")
    assert aar("ensure_running") is False
    assert aar("install", f"{STAGE}/wheels") is False


def test_another_release(box: Box, aar: Callable[..., Any]) -> None:
    older = box.sh("readlink /opt/aar/venv")
    assert aar("install", f"{STAGE}/newer") is True
    # The old one runs on and is kept for that.
    assert aar("install", f"{STAGE}/newer") is False
    assert box.sh("ls /opt/aar/releases | wc -l") == "2\n"
    assert aar("configure", SETTINGS) is True
    assert aar("ensure_running") is True
    assert box.sh("ls /opt/aar/releases | wc -l") == "1\n"
    assert box.sh("readlink /opt/aar/venv") != older
    pid = box.unit("MainPID")[0]
    assert box.sh("readlink /opt/aar/venv").strip() in box.sh(f"tr '\\0' ' ' </proc/{pid}/cmdline")
    assert aar("install", f"{STAGE}/wheels") is True
    aar("configure", SETTINGS)
    assert aar("ensure_running") is True


def test_ams_is_operated_without_sudo(box: Box) -> None:
    box.service(AMS, "install", f"{STAGE}/wheels")
    box.service(AMS, "configure", SETTINGS)
    assert box.service(AMS, "ensure_running") is True
    shown = box.juju.ssh("box/0", "amc config show")
    assert "registry.mode" in shown
    assert box.service(AMS, "run", "amc", "config", "show") == shown
    home = "/var/snap/ams/common"
    modes = box.sh(f"cd {home}; stat -c %n:%U:%G:%a server server/unix.socket server/ams.key")
    assert modes.split() == [
        "server:ams:ams:750",
        "server/unix.socket:ams:ams:660",
        "server/ams.key:ams:ams:600",
    ]
    # Others have no way in.
    assert box.code("runuser -u nobody -- amc config show") != 0
    report = box.sh("systemd-analyze security --no-pager ams.service || true")
    found = re.search(r"exposure level for ams.service: ([\d.]+)", report)
    assert found and float(found[1]) <= EXPOSURE
    box.service(AMS, "remove", keep_data=False)
    assert box.code("getent group ams || getent passwd ams || ls /var/snap/ams") != 0


def test_removal_keeps_what_it_did_not_make(box: Box, aar: Callable[..., Any]) -> None:
    aar("remove")
    assert box.code("systemctl cat aar") != 0
    assert box.sh("systemctl list-units --all --no-legend 'aar*'") == ""
    assert box.code("test -e /opt/aar -o -e /usr/local/bin/aar") != 0
    assert box.sh("stat -c %U /var/snap/aar/common/data/aar.db") == "aar\n"
    fingerprint = "certs/server.crt"
    before = box.sh(f"sha256sum /var/snap/aar/common/{fingerprint}")
    aar("remove")
    # What is there is taken up again, from a restored backup too.
    box.sh("chown -R root:root /var/snap/aar/common")
    assert aar("install", f"{STAGE}/wheels") is True
    aar("configure", SETTINGS)
    assert aar("ensure_running") is True
    assert box.sh(f"sha256sum /var/snap/aar/common/{fingerprint}") == before
    aar("remove", keep_data=False)
    assert box.code("test -e /var/snap/aar") != 0
    # A stranger's file of the same name is named and left alone.
    box.sh("echo stranger >/usr/local/bin/aar")
    with pytest.raises(Refused, match="/usr/local/bin/aar is somebody else's"):
        aar("install", f"{STAGE}/wheels")
    aar("remove", keep_data=False)
    assert box.sh("cat /usr/local/bin/aar") == "stranger\n"
    box.sh("rm /usr/local/bin/aar")

"""`aar` as an operator types it: real processes over a state root, without a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aar_interface import Certificate
from support.registry import ClientIdentity, make_identity


class Operator:
    """Runs `aar` on one state root. `command` and `environ`: by another Python than this one."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str] = (sys.executable, "-m", "aar"),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.home = folder / "state"
        self.certificates = folder / "certificates"
        self._command = command
        self._environ = environ or {}

    def start(self, arguments: Sequence[str], **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, *arguments],
            text=True,
            env={**os.environ, "AAR_HOME": str(self.home), "NO_COLOR": "1", **self._environ},
            **more,
        )

    def aar(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        pipe = subprocess.PIPE
        process = self.start(arguments, stdin=pipe, stdout=pipe, stderr=pipe)
        with process:
            try:
                out, err = process.communicate(stdin, timeout=60)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def ok(self, *arguments: str, stdin: str = "") -> str:
        done = self.aar(*arguments, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def fails(self, *arguments: str, stdin: str = "", code: int = 1) -> str:
        """Return the one line that it says."""
        done = self.aar(*arguments, stdin=stdin)
        assert done.returncode == code, done
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("Error: ").rstrip("\n")

    def identity(self, name: str = "site", **more: Any) -> ClientIdentity:
        return make_identity(self.certificates, name, **more)

    def file(self, certificate: Certificate) -> str:
        path = self.certificates / f"{certificate.fingerprint.short}.crt"
        path.write_text(certificate.pem)
        return str(path)

    def added(self, name: str = "site", *options: str) -> Certificate:
        certificate = self.identity(name).certificate
        self.ok("trust", "add", *options, stdin=certificate.pem)
        return certificate

    def applied(self, owner: str, *wanted: dict[str, object]) -> dict[str, list[Any]]:
        """Apply a document; return what it said, those outcomes left out that nothing had."""
        document = json.dumps({"trusted": wanted})
        said = self.ok("trust", "apply", "--owner", owner, stdin=document)
        return {outcome: found for outcome, found in json.loads(said).items() if found}

    def trusted(self, *options: str) -> list[dict[str, object]]:
        return json.loads(self.ok("trust", "list", "--format", "json", *options))

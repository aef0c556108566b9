"""Each operation, killed once at each of its failpoints, and once without space there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from faults.steps import SCENARIOS
from regkit import failpoints


def test_every_failpoint_belongs_to_an_operation():
    covered = {step for scenario in SCENARIOS.values() for step in scenario.steps}
    assert covered == set(failpoints.STEPS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_and_without_space_at_each_step(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    done = subprocess.run(
        [sys.executable, "-m", "faults.steps", name, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["wrong"] == [], done.stderr
    assert len(result["tried"]) == 3 * len(SCENARIOS[name].steps)

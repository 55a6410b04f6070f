"""The street corner, small: five processes, one of them killed, and what the answers are worth."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.command import ROOT, environment


@pytest.mark.slow
def test_the_answer_goes_on_when_a_service_is_killed(tmp_path: Path) -> None:
    line = ["python", "-m", "examples.street_corner", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, *line[1:], "--events", "1200", "--exchanges", "60"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "without an answer after kill -9" in done.stdout
    found = json.loads((tmp_path / "out/corner.json").read_text())
    rows = {row["who"]: row for row in found["rows"]}
    nothing, mean = rows["nothing"], rows["its training mean"]
    assert mean["accuracy"] == nothing["accuracy"]  # one answer for all events, the usual one
    stood_in = rows["stood in for by camera, radar, beam"]
    assert stood_in["accuracy"] > nothing["accuracy"] + 0.05
    # In R@10 of some 200 events, chance and the training mean find 1 of 20.
    for row in (rows["lidar itself"], stood_in, rows["stood in for by camera, radar"]):
        assert row["recall"] > 3 * nothing["recall"]
    assert mean["recall"] == pytest.approx(nothing["recall"])
    machine = tmp_path / "out/machines/lidar"
    assert (machine / "token").stat().st_mode & 0o077 == 0
    assert not list(machine.glob("share/*/"))  # its own share, nobody else's

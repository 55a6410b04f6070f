"""Every example and the notebook are run as a reader would run them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.system.command import ROOT, environment

SCRIPTS = {
    "own_arrays.py": ("run/report.html", "report: "),
    "own_encoder.py": ("report.html", "recall_at_10"),
    "own_codec.py": ("ledger.csv", "lidar -> radar: "),
    "sweep.py": ("tau-0.1-rate-0.003/report.html", "best: temperature"),
    "use_model.py": ("run/shares/lidar/share.json", "answers without LiDAR: "),
    "read_ledger.py": ("ledger.png", "bytes of training payload"),
}
"""Script -> a file that it leaves, and what it says."""


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_runs(script: str, tmp_path: Path) -> None:
    left, said = SCRIPTS[script]
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), str(tmp_path / "out")],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert said in done.stdout
    assert (tmp_path / "out" / left).is_file()


NOTEBOOKS = {
    "first_steps": ("runs/first-steps/report.html", "after 30 exchanges: R@10"),
    "use_what_was_learnt": ("corner/shares/lidar/share.json", "answers without the LiDAR: "),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name: str, tmp_path: Path) -> None:
    left, said = NOTEBOOKS[name]
    notebook = read_notebook(name)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=resources).execute()
    assert (tmp_path / left).is_file()
    printed = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert any(said in str(out.get("text", "")) for out in printed)


def test_what_was_learnt_is_used_in_ten_lines_and_notebooks_are_kept_without_outputs() -> None:
    cells = read_notebook("use_what_was_learnt").cells
    lines = next(cell.source for cell in cells if "import sheafalign_fl" in cell.source)
    assert sum(bool(line.strip()) for line in lines.splitlines()[1:]) <= 10
    for name in NOTEBOOKS:
        assert not any(cell.get("outputs") for cell in read_notebook(name).cells)


def read_notebook(name: str) -> Any:
    text = (ROOT / "examples" / f"{name}.ipynb").read_text(encoding="utf-8")
    return nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]

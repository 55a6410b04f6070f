"""Every command in README is run, as it stands and in its order; long ones get shorter settings appended."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sheafalign_fl.config import parse_settings
from sheafalign_fl.data.registry import source_info
from tests.system.command import ROOT, environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORTER = {
    "experiments/quickstart.yaml": [
        "--set",
        "data.options.events=1000",
        "--set",
        "training.exchanges=4",
    ],
    "experiments/watch.yaml": ["--set", "training.exchanges=4"],
    "export": ["--light", "--events", "500"],
    "experiments/paper/deepsense.yaml": [
        "--set",
        "training.exchanges=4",
        "--set",
        "training.batch_size=64",
    ],
    "experiments/paper/compare.yaml": [
        "--quick",
        "--seeds",
        "0",
        "--only",
        "sheafalign,imagebind,clip-pairs",
    ],
    "experiments/own_data/own_data.yaml": ["--set", "training.exchanges=20"],
    "experiments/own_data/own_encoder.yaml": ["--set", "training.exchanges=20"],
    "experiments/own_data/own_source.yaml": ["--set", "training.exchanges=20"],
}
RUN_ELSEWHERE = {
    "make demo": ".ci/run",
    "make test": ".ci/run",
    "make data": ".ci/run",
    "make benchmark": ".ci/run",
    "flwr run .": "tests/system/test_engines.py",
    "sheafalign relay": "tests/system/deployment.py",
    "sheafalign node": "tests/system/deployment.py",
    "sheafalign run experiments/deploy.yaml": "tests/system/test_deployment.py",
    "sheafalign status": "tests/system/test_deployment.py",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    lines = (line for block in blocks("sh") for line in block.splitlines())
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.slow
def test_every_command_in_readme_works(tmp_path: Path) -> None:
    """The checkout's folders are copied into an empty one, where the commands may leave what they write."""
    for name in ("experiments", "clients", "strategies", "src"):
        _copy(ROOT / name, tmp_path / name)
    own_cache = {**environment(), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = 0
    for words in commands():
        if any(" ".join(words).startswith(elsewhere) for elsewhere in RUN_ELSEWHERE):
            continue
        more = next((extra for path, extra in SHORTER.items() if path in words), [])
        program = str(Path(sys.executable).parent / words[0])
        result = subprocess.run(
            [program, *words[1:], *more],
            cwd=tmp_path, env=own_cache, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert result.returncode == 0, (
            f"{' '.join(words)}\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
        )
        done += 1
    assert done >= 10
    assert (tmp_path / "runs" / "comparison.html").is_file()


def rows_of(program: str, *arguments: str) -> list[dict[str, Any]]:
    """Run one of the programs that measure, and return the JSON objects that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", program, *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_the_program_that_measures_preparation_works() -> None:
    found = rows_of("experiments.preparation", "--events", "3", "--only", "beam,inertial", "--json")
    assert [row["events"] for row in found] == [3, 3]
    assert all(row["read_again"] == 0 and row["seconds"] > 0 for row in found)


@pytest.mark.slow
def test_the_program_that_measures_speed_works() -> None:
    found = rows_of(
        "experiments.speed", "--exchanges", "2", "--engines", "inprocess", "--clients", "3,6"
    )
    assert [row["clients"] for row in found] == [3, 6]
    assert all(row["inprocess_ratio"] > 0 for row in found)


def test_commands_that_are_run_elsewhere_are() -> None:
    for command, where in RUN_ELSEWHERE.items():
        assert any(" ".join(words).startswith(command) for words in commands()), command
        text = (ROOT / where).read_text(encoding="utf-8")
        words = [
            word
            for text_word in command.split()
            for word in text_word.split("/")
            if word != "sheafalign"
        ]
        assert command in text or all(f'"{word}"' in text for word in words), where


def test_the_configurations_in_readme_are_valid() -> None:
    first, second = [parse_settings(yaml.safe_load(text)) for text in blocks("yaml")]
    assert list(first.clients) == ["camera", "lidar", "beam"]
    assert set(second.data.options) <= {option.name for option in source_info("folder").options}


def test_links_in_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README)
    local = [target for target in targets if not target.startswith("https://")]
    assert len(local) >= 6
    assert all((ROOT / target).exists() for target in local)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "recordings"))

"""What the command line answers without work, it answers without loading what works."""

import json
import subprocess
import sys

import pytest

from tests.system.command import ROOT, environment

HEAVY = {"torch", "flwr", "ray", "matplotlib"}
PROBE = """
import json, sys
from sheafalign_fl.cli import main
try:
    main()
finally:
    with open(3, "w") as report:
        json.dump(sorted(sys.modules), report)
"""


def loaded_by(*arguments: str) -> tuple[int, str, set[str]]:
    """Return what `sheafalign` with `arguments` came to: exit code, all it said, what it loaded."""
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" "$@" 3>&2 2>&1', sys.executable, "-c", PROBE, *arguments],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, set(json.loads(done.stderr))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("--help", 0, "Usage"),
        ("run --help", 0, "Usage"),
        ("--version", 0, "sheafalign-fl"),
        ("rnu", 2, "No such command"),
        ("run nowhere.yaml", 2, "no configuration at nowhere.yaml"),
        ("check nowhere.yaml", 2, "no configuration at nowhere.yaml"),
        ("compare nowhere.yaml", 2, "no configuration at nowhere.yaml"),
        ("report nowhere", 2, "nowhere is no run folder"),
        ("run --resume nowhere", 2, "nowhere is no run folder"),
        ("data check nowhere", 2, "there is no folder nowhere"),
        ("data describe nothing", 2, "unknown data source 'nothing'"),
        ("run experiments/quickstart.yaml --set training.exchange=3", 2, "did you mean"),
        ("run experiments/quickstart.yaml --engine other", 2, "'engine'"),
        ("run", 2, "give a configuration"),
    ],
)
def test_an_answer_that_needs_no_work_loads_nothing_heavy(
    arguments: str, code: int, said: str
) -> None:
    found, output, modules = loaded_by(*arguments.split())
    assert (found, said in output) == (code, True), output
    assert "sheafalign_fl.cli.commands" in modules
    assert modules & HEAVY == set()


@pytest.mark.slow
def test_the_probe_sees_what_a_command_that_works_loads() -> None:
    code, _, modules = loaded_by("encoders", "--batch", "1")
    assert code == 0
    assert "torch" in modules

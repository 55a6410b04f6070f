"""Slim installs: what a machine does not use need not be there, and what is missing is named."""

import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from sheafalign_fl.errors import UserError
from sheafalign_fl.extras import EXTRAS, MissingExtraError, explained, has, require

ROOT = Path(__file__).resolve().parents[2]
HIDE = """
import importlib.abc, sys
HIDDEN = {hidden!r}
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Finder())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in HIDDEN else real(name, *a)
"""


def without(hidden: set[str], code: str) -> "subprocess.CompletedProcess[str]":
    """Run `code` in a process where the modules `hidden` are not installed."""
    program = HIDE.format(hidden=hidden) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )


def command(hidden: set[str], *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of `sheafalign` likewise."""
    return without(
        hidden,
        f"sys.argv = ['sheafalign', *{list(words)!r}]\nfrom sheafalign_fl.cli import main\nmain()",
    )


@pytest.mark.slow
def test_a_sensors_machine_loads_nothing_that_an_extra_brings() -> None:
    code = """
        import clients.client_app, sheafalign_fl.deploy.resident
        print(sorted({name.partition(".")[0] for name in sys.modules} & HIDDEN))
    """
    done = without(set(EXTRAS), code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_importing_the_package_loads_neither_torch_nor_flower() -> None:
    code = (
        "import sheafalign_fl, sys; print({'torch', 'flwr', 'numpy', 'pydantic'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
def test_a_run_without_extras_trains_and_says_that_there_is_no_report(tmp_path: Path) -> None:
    out = tmp_path / "run"
    (tmp_path / "toy.yaml").write_text(
        "engine: inprocess\ndata: {source: tests.toy:source}\n"
        "clients: {m0: {dim: 8}, m1: {dim: 8}}\ngraph: {dim: 8}\n"
        "training: {exchanges: 2, batch_size: 32}\n"
        "evaluation: {every: 0, metrics: [retrieval, consistency]}\n"
    )
    done = command(set(EXTRAS), "run", str(tmp_path / "toy.yaml"), "--out", str(out), "-q")
    assert done.returncode == 0, done.stderr
    assert (out / "summary.json").is_file()
    assert not (out / "report.html").exists()
    assert "matplotlib" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden", "words", "line"),
    [
        (
            "sklearn", ["check", "experiments/watch.yaml"],
            "the metric 'transfer' of evaluation.metrics needs scikit-learn, which is not "
            "installed here; pip install 'sheafalign-fl[probes]'",
        ),
        (
            "ray", ["run", "experiments/quickstart.yaml", "--out", "{tmp}/run"],
            "engine: flower needs ray, which is not installed here; "
            "pip install 'sheafalign-fl[simulation]'",
        ),
        (
            "PIL", ["data", "export", "scenes", "{tmp}/x", "--format", "deepsense6g"],
            "pip install 'sheafalign-fl[recordings]'",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_its_extra(
    hidden: str, words: list[str], line: str, tmp_path: Path
) -> None:
    done = command({hidden}, *(word.format(tmp=tmp_path) for word in words))
    assert done.returncode == 2, done.stdout + done.stderr
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_every_extra_that_is_named_brings_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for module, (package, extra) in EXTRAS.items():
        assert any(line.startswith(package) for line in extras[extra]), module
        assert not any(line.startswith(package) for line in project["dependencies"]), module
    assert has("torch")
    require("numpy", "anything")


def test_other_imports_that_fail_are_not_explained() -> None:
    assert explained(ModuleNotFoundError("no", name="torchvision")) is None
    assert explained(ModuleNotFoundError("no")) is None
    told = explained(ModuleNotFoundError("no", name="matplotlib.figure"))
    assert isinstance(told, MissingExtraError)
    assert isinstance(told, UserError)
    assert "sheafalign-fl[report]" in str(told)

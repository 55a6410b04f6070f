"""Every command and code block of README and docs is run; long ones get shorter settings."""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from sheafalign_fl.cli import app
from sheafalign_fl.config import parse_settings
from sheafalign_fl.config.methods import merge
from sheafalign_fl.config.policy import Policy
from sheafalign_fl.data.registry import source_info
from tests.system.command import ROOT, environment

FIRST = (
    "README.md",
    "docs/quickstart.md",
    "docs/go-on.md",
    "docs/configuration.md",
    "docs/own-data.md",
    "docs/using.md",
    "docs/sensors.md",
    "docs/encoders.md",
    "docs/figures.md",
    "docs/deployment.md",
    "docs/benchmark.md",
)
"""Pages that a reader reads in this order: what one makes another may use."""
PAGES = (
    *FIRST,
    *sorted({f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} - {*FIRST}),
    "CONTRIBUTING.md",
    "SECURITY.md",
    "ARCHITECTURE.md",
)
"""All pages whose commands are run."""
SHORTER = {
    "experiments/quickstart.yaml": [
        "--set",
        "data.options.events=1000",
        "--set",
        "training.exchanges=4",
    ],
    "experiments/watch.yaml": ["--set", "training.exchanges=4"],
    "experiments.sheaf_value": ["1", "2"],
    "experiments.mutations": [
        *("--frames", "50", "--records", "50", "--federations", "1", "--seconds", "20"),
    ],
    "deepsense6g": ["--light", "--events", "500"],
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
    "make lint": ".ci/run",
    "make demo": ".ci/run",
    "make test": ".ci/run",
    "make data": ".ci/run",
    "make benchmark": ".ci/run",
    "flwr run .": "tests/system/test_engines.py",
    "sheafalign relay": "tests/system/deployment.py",
    "sheafalign node": "tests/system/deployment.py",
    "sheafalign run experiments/deploy.yaml": "tests/system/test_deployment.py",
    "sheafalign status": "tests/system/test_deployment.py",
    "sheafalign serve": "tests/shares/test_service.py",
    "python -m examples.street_corner": "tests/examples/test_street_corner.py",
}
NOT_RUN = {"pre-commit install": "it changes the hooks of the checkout that runs the tests"}


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> list[list[str]]:
    lines = (line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines())
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.slow
def test_every_command_in_the_documentation_works(tmp_path: Path) -> None:
    """The checkout's folders are copied into an empty one, where commands may leave their files."""
    for name in ("experiments", "clients", "strategies", "src"):
        _copy(ROOT / name, tmp_path / name)
    own_cache = {**environment(), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = 0
    for words in commands():
        if " ".join(words).startswith((*RUN_ELSEWHERE, *NOT_RUN)):
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


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_every_piece_of_python_in_the_documentation_works(page: str, tmp_path: Path) -> None:
    for code in blocks(page, "python"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{code}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    for page in PAGES:
        fences = re.findall(r"^ *```(.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert set(fences[::2]) <= {"sh", "python", "yaml", *DRAWINGS.get(page, ())}, page
        assert set(fences[1::2]) <= {""}, page


DRAWINGS = {"ARCHITECTURE.md": {""}}
"""Page -> kinds of blocks that hold nothing to try."""


def running_text(page: str) -> list[str]:
    """Return all that stands in backticks within the sentences and tables of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_running_text_exist_with_their_options(page: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for code in running_text(page):
        program, *words = code.split()
        if program == "sheafalign":
            assert _unknown_words(words) == [], f"{page}: {code}"
        elif code.startswith("python -m experiments."):
            path = ROOT / f"{words[1].replace('.', '/')}.py"
            assert path.is_file(), f"{page}: {code}"
            source = path.read_text(encoding="utf-8")
            assert [w for w in words if w.startswith("--") and w not in source] == [], code
        elif program == "make" and len(words) == 1:
            assert words[0] in targets, f"{page}: {code}"


def _unknown_words(words: list[str]) -> list[str]:
    """Return which subcommands and options of `sheafalign` there are not."""
    command = typer.main.get_command(app)
    place = 0
    while place < len(words) and hasattr(command, "commands"):
        if words[place].startswith("-"):
            break
        if (inner := command.commands.get(words[place])) is None:
            return [words[place]]
        command, place = inner, place + 1
    known = {name for parameter in command.params for name in parameter.opts}
    return [word for word in words[place:] if word.startswith("-") and word not in known]


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("data check FOLDER --set a=1", []),
        ("date check FOLDER", ["date"]),
        ("data chekc", ["chekc"]),
        ("run CONFIG --seed 3 --quiet", ["--seed"]),
        ("--version", []),
    ],
)
def test_words_that_are_no_commands_are_seen(line: str, unknown: list[str]) -> None:
    assert _unknown_words(line.split()) == unknown


def test_every_page_is_reached_from_the_sites_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r": ([a-z-]+\.md)$", menu, re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= 8192


LINKED = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("[A-Z]*.md")),
]


@pytest.mark.parametrize("page", sorted(set(LINKED)), ids=lambda page: str(page.name))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    local = [target for target in targets if not target.startswith(("http:", "https:", "mailto:"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(("page", "least"), [("recordings", 20), ("datasets", 12)])
def test_every_test_that_a_page_names_is_there(page: str, least: int) -> None:
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if "`data/" in line or "`test_" in line]
    named = [re.findall(r"`([^`]+)`", cells[4]) for cells in rows if len(cells) == 6]
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    together = "\n".join(sources.values())
    assert len(named) >= least
    for name in (name for names in named for name in names):
        file, _, function = name.rpartition("::")
        assert not file or ROOT / "tests" / file in sources, name
        if file or name.startswith("test_"):
            assert re.search(rf"def {re.escape(function.removesuffix('...'))}", together), name
        else:
            assert ROOT / "tests" / name.partition("[")[0] in sources, name


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
        *("experiments.speed", "--exchanges", "3", "--rounds", "2"),
        *("--engines", "inprocess", "--clients", "3,6"),
    )
    assert [(row["clients"], row["rounds"]) for row in found] == [(3, 2), (6, 2)]
    for row in found:
        assert 0 < row["inprocess_ratio_least"] <= row["inprocess_ratio"]
        assert row["inprocess_ratio"] <= row["inprocess_ratio_most"]
        assert "inprocess_cpu_ratio" in row


def test_commands_that_are_run_elsewhere_are() -> None:
    for command, where in RUN_ELSEWHERE.items():
        assert any(" ".join(words).startswith(command) for words in commands()), command
        text = (ROOT / where).read_text(encoding="utf-8")
        if where.endswith(".py"):
            started = _started(text)
            words = [word for word in command.replace("/", " ").split() if word != "sheafalign"]
            assert any(_begins(line, words) for line in started), f"{where} starts no {command}"
        else:
            line = rf"^{re.escape(command)}(-quick)?( |$)"  # the benchmark's long form takes hours
            assert re.search(line, text, re.MULTILINE), f"{where} does not run {command}"


def _started(code: str) -> list[list[str]]:
    """Return the strings, in order, of every list of words and of every call that starts some."""
    return [
        [part.value for part in _in_order(node) if isinstance(part.value, str)]
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.List)
        or (isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".start", ".command")))
    ]


def _in_order(node: ast.AST) -> list[ast.Constant]:
    found = [part for part in ast.walk(node) if isinstance(part, ast.Constant)]
    return sorted(found, key=lambda part: (part.lineno, part.col_offset))


def _begins(line: list[str], words: list[str]) -> bool:
    """Whether `words` begin a line, after the name under which it is started at most."""
    return any(line[start : start + len(words)] == words for start in (0, 1))


def test_every_page_with_a_configuration_is_known_to_the_next_test() -> None:
    tried = {"configuration", "metrics", "deployment", "own-data", "go-on"}
    assert {page for page in PAGES if blocks(page, "yaml")} == {f"docs/{p}.md" for p in tried}


def test_the_configurations_in_the_documentation_are_valid(tmp_path: Path) -> None:
    first, *fragments = [yaml.safe_load(text) for text in blocks("docs/configuration.md", "yaml")]
    whole = parse_settings(first)
    for fragment in fragments:
        assert parse_settings(merge(first, fragment)) != whole
    assert list(whole.clients) == ["camera", "lidar", "beam"]
    for text in blocks("docs/metrics.md", "yaml") + blocks("docs/go-on.md", "yaml"):
        assert parse_settings(merge(first, yaml.safe_load(text))) != whole
    for text in blocks("docs/deployment.md", "yaml"):
        (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
        assert Policy.load(tmp_path / "policy.yaml") != Policy()
    for text in blocks("docs/own-data.md", "yaml"):
        settings = parse_settings(yaml.safe_load(text))
        known = {option.name for option in source_info(settings.data.source).options}
        assert set(settings.data.options) <= known


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "recordings"))

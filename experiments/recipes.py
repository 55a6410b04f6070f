"""What each way to train is worth at the same bytes: ``python -m experiments.recipes``.

Every cell (data set, method, recipe, seed) trains the clients' learners in this process, exchange
by exchange, as every engine does (the tests hold that they end in the same bits), and measures
retrieval and prototypes on validation and on test events, with maps as trained and refined. What is
finished is kept in ``experiments/long/results/recipes.json``, so the same command goes on; a recipe
that changed is measured again. In the end the tables of docs/learning.md are written anew.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.benchmark.plan import MethodPlan, load_plan, nested
from sheafalign_fl.benchmark.results import load_benchmark
from sheafalign_fl.config import Settings
from sheafalign_fl.config.load import read_content
from sheafalign_fl.config.methods import merge
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import processors
from sheafalign_fl.files import write_atomically
from sheafalign_fl.learner.node import Node
from sheafalign_fl.learner.refining import refinements
from sheafalign_fl.metrics.classifier import accuracy
from sheafalign_fl.metrics.retrieval import retrieval
from sheafalign_fl.metrics.transfer import nearest_prototypes
from sheafalign_fl.metrics.vectors import unit_rows
from sheafalign_fl.numbers import human_bytes, mean, percent, percent_with_spread
from sheafalign_fl.shares.fitting import arrived
from sheafalign_fl.sheaf.refinement import Refinement
from sheafalign_fl.threads import limit_threads

ROOT = Path(__file__).resolve().parent
PLAN, RESULTS = ROOT / "recipes.yaml", ROOT / "long/results/recipes.json"
PAGE = ROOT.parent / "docs" / "learning.md"
_BEGIN, _END = "<!-- recipes:results -->", "<!-- /recipes:results -->"
Split = Literal["validation", "test"]
PROBE: Literal["probe"] = "probe"
REFINED: tuple[Literal["none", "procrustes", "cca"], ...] = ("none", "procrustes", "cca")
SPLITS: tuple[Split, ...] = ("validation", "test")
Content = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One training to measure."""

    data: str
    method: str
    recipe: str
    seed: int
    settings: Settings

    @property
    def key(self) -> str:
        """What it is called in the results."""
        return f"{self.data}/{self.method}/{self.recipe}/{self.seed}"


def cells(plan: Content, data: list[str], seeds: list[int]) -> Iterator[Cell]:
    """Yield all cells of the plan, those of the first seed first."""
    for seed in seeds:
        for name in data:
            methods = {m.method: m for m in load_plan(ROOT / f"benchmark/{name}.yaml").methods}
            for method, recipes in plan["tried"][name].items():
                for recipe in recipes:
                    ideas = [plan["ideas"][idea] for idea in plan["recipes"][recipe]]
                    yield Cell(name, method, recipe, seed, _settings(methods[method], ideas, seed))


def _settings(method: MethodPlan, ideas: list[Content], seed: int) -> Settings:
    """Return the method's settings as they are published, with `ideas` laid over them."""
    tuned = _published()[method.data, method.method]
    chosen = tuned.get(seed, next(iter(tuned.values())))
    content = merge(method.content, nested(chosen))
    for idea in ideas:
        content = merge(content, idea)
    return replace(method, content=content).cell({}, seed)


@cache
def _published() -> dict[tuple[str, str], dict[int, Content]]:
    """Return (data set, method) -> seed -> what was tuned for the published benchmark."""
    published = load_benchmark(ROOT / "benchmark/results/benchmark.json")
    found: dict[tuple[str, str], dict[int, Content]] = {}
    for cell in published.cells:
        found.setdefault((cell.data, cell.method), {})[cell.seed] = cell.settings
    return found


# ---- one cell ------------------------------------------------------------------------------------


def measured(settings: Settings) -> dict[str, Any]:
    """Train and measure one cell; return what the tables need."""
    checked = check(settings)
    settings, topology = checked.settings, checked.topology
    nodes = {
        name: Node(name, settings, checked.data[name], checked.agreement.for_client(name, topology))
        for name in topology.clients
    }
    started = time.process_time()
    for exchange in range(settings.training.exchanges):
        sent = {name: node.embed(exchange) for name, node in nodes.items()}
        for name, node in nodes.items():
            node.step(exchange, {n: z[name] for n, z in sent.items() if name in z})
    return {
        "digest": settings.digest(),
        "seconds": round(time.process_time() - started, 1),
        "payload_bytes": checked.payload_per_exchange * settings.training.exchanges,
        "quality": Quality(nodes).all(),
    }


class Quality:
    """What trained clients reach, with maps as trained and as refined."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        """Embed all held-out events, and those that probes are fitted on."""
        self._nodes = nodes
        self._h = {
            (name, events): node.embeddings(events)[0]
            for name, node in nodes.items()
            for events in (*SPLITS, PROBE)
        }

    def all(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return kind of refinement -> split -> figures."""
        found = {
            kind: {
                name: {} if kind == "none" else refinements(node, kind, arrived(node))
                for name, node in self._nodes.items()
            }
            for kind in REFINED
        }
        return {
            kind: {split: self._means(split, by_client) for split in SPLITS}
            for kind, by_client in found.items()
        }

    def _means(
        self, split: Split, refined: Mapping[str, Mapping[str, Refinement]]
    ) -> dict[str, float]:
        """Return the means over all directions, and over those of edges alone."""
        rows = [
            (other in node.agreement.neighbours, *self._direction(name, other, split, refined))
            for name, node in self._nodes.items()
            for other in node.agreement.shared
        ]
        means: dict[str, float] = {}
        for whose, chosen in (("", rows), ("edges_", [row for row in rows if row[0]])):
            values = np.mean([row[1:] for row in chosen], axis=0).tolist()
            for figure, value in zip(("r1", "r10", "prototypes"), values, strict=True):
                means[whose + figure] = round(value, 5)
        return means

    def _direction(
        self,
        name: str,
        other: str,
        split: Split,
        refined: Mapping[str, Mapping[str, Refinement]],
    ) -> tuple[float, float, float]:
        """Return R@1, R@10 and zero-shot accuracy of one client's queries among another's."""
        node = self._nodes[name]
        both = node.agreement.shared[other][split]
        own = node.restrict(other, self._h[name, split][both])
        received = self._nodes[other].restrict(name, self._h[other, split][both])
        fit = node.restrict(other, self._h[name, PROBE])
        own, received, fit = _refined(refined[name].get(other), own, received, fit)
        label = node.agreement.edge_labels[other]
        given, true = node.labels(label, PROBE), node.labels(label, split)[both]
        ranked = retrieval(name, other, own, received, None)
        right = _prototypes(fit, given, received, true)
        return ranked.recall_at_1, ranked.recall_at_10, right


def _refined(
    found: Refinement | None,
    own: NDArray[np.float32],
    received: NDArray[np.float32],
    fit: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    if found is None:
        return own, received, fit
    return found.own.apply(own), found.received.apply(received), found.own.apply(fit)


def _prototypes(
    fit: NDArray[np.floating],
    fit_labels: NDArray[np.int64],
    received: NDArray[np.floating],
    labels: NDArray[np.int64],
) -> float:
    """Return zero-shot accuracy by prototypes (`metrics.transfer`), without its slower probe."""
    known, tested = fit_labels >= 0, labels >= 0
    z, other = (unit_rows(values.astype(np.float64)) for values in (fit[known], received[tested]))
    return accuracy(nearest_prototypes(z, fit_labels[known], other), labels[tested])


# ---- tables --------------------------------------------------------------------------------------


def tables(results: Mapping[str, Any]) -> str:
    """Return one Markdown table for each data set: every recipe, and CCA after the plain ones."""
    groups: dict[str, dict[tuple[str, str], list[Any]]] = {}
    for key, cell in results.items():
        data, method, recipe, _ = key.split("/")
        groups.setdefault(data, {}).setdefault((method, recipe), []).append(cell)
    heading = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}"
    return "\n\n".join(
        "\n".join(
            [f"**{data}**", "", heading]
            + [
                line
                for (method, recipe), cells_ in rows.items()
                for line in _lines(f"{method}, {recipe}", cells_)
            ]
        )
        for data, rows in groups.items()
    )


_COLUMNS = (
    "trained", "seeds", "validation", "R@1", "R@10", "prototypes", "payload", "CPU seconds"
)  # fmt: skip


def _lines(name: str, found: list[Any]) -> Iterator[str]:
    """Yield the row of maps as trained, and that of maps refined by CCA."""
    seconds = round(mean([cell["seconds"] for cell in found]) or 0)
    payload = human_bytes(found[0]["payload_bytes"])
    for kind, title, cost in (("none", name, seconds), ("cca", f"{name} + CCA", seconds)):
        quality = [cell["quality"][kind] for cell in found]
        score = percent(mean(_score(each["validation"]) for each in quality))
        shown = [
            percent_with_spread(each["test"][figure] for each in quality)
            for figure in ("r1", "r10", "prototypes")
        ]
        yield f"| {title} | {len(found)} | {score} | {' | '.join(shown)} | {payload} | {cost} |"


def _score(figures: Mapping[str, float]) -> float:
    """Return what recipes are chosen by, as the benchmark's tuning: R@10 and prototypes alike."""
    return (figures["r10"] + figures["prototypes"]) / 2


def page_with(results: Mapping[str, Any], text: str) -> str:
    """Return the page `text` with the tables of `results` between its markers."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n\n{tables(results)}\n\n{_END}{after}"


# ---- all cells -----------------------------------------------------------------------------------


def main() -> None:
    """Measure what is open."""
    plan = read_content(PLAN)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=",".join(plan["data"]))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default="sheafalign,imagebind,clip-pairs")
    parser.add_argument("--recipes", help="separated by semicolons; default: all")
    parser.add_argument("--jobs", type=int, default=processors(), help="trainings at a time")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    results: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.is_file() else {}
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    wanted = [
        cell
        for cell in cells(plan, asked.data.split(","), seeds)
        if cell.method in asked.methods.split(",")
        and (asked.recipes is None or cell.recipe in asked.recipes.split(";"))
        and results.get(cell.key, {}).get("digest") != cell.settings.digest()
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.jobs, context, initializer=limit_threads, initargs=(1,)) as pool:
        measuring = pool.map(measured, [cell.settings for cell in wanted])
        for cell, found in zip(wanted, measuring, strict=True):
            results[cell.key] = found
            content = (json.dumps(results, indent=1) + "\n").encode()
            write_atomically(asked.out, content, public=True)
            sys.stdout.write(f"{cell.key}: {found['seconds']} s\n")
            sys.stdout.flush()
    if asked.out == RESULTS:
        page = page_with(results, PAGE.read_text(encoding="utf-8"))
        write_atomically(PAGE, page.encode(), public=True)


if __name__ == "__main__":
    main()

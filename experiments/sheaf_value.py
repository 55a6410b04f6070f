"""What the sheaf Laplacian is worth: ``python -m experiments.sheaf_value [SEEDS] [EXCHANGES]``.

Small federations on Fashion-MNIST are trained with its term on and off where it might help (few
shared events, a noisy codec, more than six clients on a sparse graph, a sensor that drifts), and
what was learnt is asked two things: whether diffusing embeddings over the graph makes a sensor's
class better known than the same neighbours' embeddings do without a Laplacian, and whether the
harmonic space tells redundant modalities from others. Prints the tables of docs/sheaf.md.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sheafalign_fl.api import settings as settings_of
from sheafalign_fl.config import Settings
from sheafalign_fl.config.methods import merge
from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.learner.embedder import embedded
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.metrics.classifier import accuracy, fit_classifier
from sheafalign_fl.metrics.retrieval import retrieval
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.shares.model import Model, load_model
from sheafalign_fl.shares.sheaf import LearntSheaf
from sheafalign_fl.sheaf.laplacian import coboundary, diffused
from strategies import server_app

WEIGHTS = (0.0, 0.1, 1.0)
"""lambda: off, and on."""
STEPS = (0, 1, 4, 16)
"""Of diffusion, one exchange each."""
DRIFT = 1.0
"""Added to every input of the drifting sensor, in deviations of a pixel."""
DRIFTING = "top"
HALVES = ("top", "bottom", "small")
BASE: dict[str, Any] = {
    "data": {"source": "fashion", "options": {"train": 2000, "validation": 100, "test": 500}},
    "clients": {name: {"dim": 64} for name in HALVES},
    "graph": {"dim": 32},
    # Nothing of the default method's recipe, so that the Laplacian is all that differs.
    "training": {
        **{"exchanges": 120, "batch_size": 64, "learning_rate": 0.003, "decay": "cosine"},
        **{"optimiser": "adam", "weight_decay": 0.0, "warmup": 0.0, "clip": None, "replay": 0},
    },
    "objective": {"variance": 0.0, "covariance": 0.0, "label_smoothing": 0.0},
    "evaluation": {"metrics": ["retrieval"], "every": 0},
    "checkpoint": {"every": 0},
}
CONDITIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "few shared events (12 %)": {
        "clients": {name: {"dim": 64, "missing": 0.65} for name in HALVES}
    },
    "sign codec": {"codec": "sign"},
    "8 clients on a ring": {
        "clients": {
            **{name: {"dim": 64, "modality": name} for name in (*HALVES, "original")},
            **{f"{name}-2": {"dim": 64, "modality": name} for name in (*HALVES, "original")},
        },
        "graph": {"topology": "ring"},
    },
}
REDUNDANCY: dict[str, tuple[str, ...]] = {
    "redundant": ("original", "embossed", "inverted"),
    "halves": HALVES,
    "trio": ("ab", "bc", "ca"),
}
"""Modalities that share everything, something, and of all three nothing."""
Values = Sequence[float]
Embeddings = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Trained:
    """A federation after training, and all that it can be asked."""

    model: Model
    sheaf: LearntSheaf
    settings: Settings
    recall_at_1: float
    recall_at_10: float

    def embeddings(self, split: str, drift: float = 0.0) -> tuple[Embeddings, NDArray[np.int64]]:
        """Return h of every client, and the labels, of events that all clients have.

        `drift` is added to the inputs of `DRIFTING`.
        """
        h: dict[str, NDArray[np.float32]] = {}
        for name, share in self.model.items():
            data = client_data(name, self.settings)
            rows = np.flatnonzero(data.split == SPLITS.index(split))
            x = data.x[rows] + np.float32(drift if name == DRIFTING else 0)
            h[name] = embedded(
                share.encoder, lambda k, x=x, share=share: share.tensor(x[k]),  # type: ignore[misc]
                len(rows), share.facts.dim,
            )  # fmt: skip
            labels = next(iter(data.labels.values()))[rows]
        return h, labels


def trained(content: Mapping[str, Any], where: Path) -> Trained:
    """Return a federation, trained in this process."""
    settings = settings_of(dict(content))
    folder = RunFolder(where)
    folder.create(settings)
    with patch.object(server_app, "draw_report", lambda _: None):
        run_inprocess(settings, folder)
    rows = folder.load_summary().quality.retrieval
    model = load_model(where)
    recalls = (mean(getattr(row, f"recall_at_{k}") for row in rows) for k in (1, 10))
    return Trained(model, model.sheaf(), settings, *recalls)


def drifted_recall(run: Trained) -> float:
    """Return R@10 of the directions that begin or end at a sensor whose inputs have drifted."""
    h, _ = run.embeddings("test", DRIFT)
    z = {(i, j): h[i] @ P.numpy().T for (i, j), P in run.sheaf.restrictions.items()}
    found = [retrieval(i, j, z[i, j], z[j, i], None) for i, j in z if DRIFTING in (i, j)]
    return mean(row.recall_at_10 for row in found)


def probed(run: Trained, drift: float) -> dict[str, float]:
    """Return how well a probe of the (drifting) sensor's events tells their class.

    It is fitted on training events, of which nothing has drifted: on h after each of `STEPS` of
    diffusion; and, without a Laplacian, on the comparison embeddings that one step needs, beside h
    and alone.
    """
    fit_h, fit_labels = run.embeddings("train")
    test_h, labels = run.embeddings("test", drift)
    found = {}
    for steps in STEPS:
        fit, test = (after_diffusion(run.sheaf, h, steps) for h in (fit_h, test_h))
        found[f"{steps} steps"] = _accuracy(fit[DRIFTING], fit_labels, test[DRIFTING], labels)
    fit_came, test_came = (_came(run.sheaf, h) for h in (fit_h, test_h))
    fit_both, test_both = (
        np.concatenate([h[DRIFTING], came], axis=1)
        for h, came in ((fit_h, fit_came), (test_h, test_came))
    )
    found["h and what came"] = _accuracy(fit_both, fit_labels, test_both, labels)
    found["what came alone"] = _accuracy(fit_came, fit_labels, test_came, labels)
    return found


def _accuracy(
    fit: NDArray[np.floating],
    fit_labels: NDArray[np.int64],
    test: NDArray[np.floating],
    labels: NDArray[np.int64],
) -> float:
    fitted = fit_classifier(fit.astype(np.float64), fit_labels, DRIFTING)
    return accuracy(fitted.predict(test), labels)


def after_diffusion(
    sheaf: LearntSheaf, h: Embeddings, steps: int
) -> dict[str, NDArray[np.float32]]:
    """Return h of all clients after `steps` of diffusion at half the largest stable rate."""
    rate = 1 / float(sheaf.spectrum().values[-1])
    tensors = {client: torch.from_numpy(values) for client, values in h.items()}
    moved = diffused(sheaf, sheaf.restrictions, tensors, steps, rate)
    return {client: values.numpy() for client, values in moved.items()}


def _came(sheaf: LearntSheaf, h: Embeddings) -> NDArray[np.float32]:
    """Return the z that the sensor's neighbours send it, side by side."""
    return np.concatenate(
        [
            h[client] @ P.numpy().T
            for (client, neighbour), P in sheaf.restrictions.items()
            if neighbour == DRIFTING
        ],
        axis=1,
    )


def overlap(run: Trained) -> float:
    """Return which part of the variance of what a client sends one neighbour follows from the rest.

    z_ik is predicted by least squares from z_ij, both of one client, on training events; the part
    is of test events, a mean over clients and pairs of their edges. No byte is needed for it.
    """
    fit_h, _ = run.embeddings("train")
    test_h, _ = run.embeddings("test")
    parts = []
    for (client, one), (same, other) in permutations(run.sheaf.restrictions, 2):
        if client == same:
            maps = [run.sheaf.restrictions[client, end].numpy().T for end in (one, other)]
            (x, y), (u, v) = ([h[client] @ P for P in maps] for h in (fit_h, test_h))
            weights = np.linalg.lstsq(x - x.mean(axis=0), y - y.mean(axis=0), rcond=None)[0]
            missed = v - y.mean(axis=0) - (u - x.mean(axis=0)) @ weights
            parts.append(1 - float((missed**2).sum() / ((v - v.mean(axis=0)) ** 2).sum()))
    return mean(parts)


def harmonic(run: Trained) -> dict[str, float]:
    """Return what the Laplacian's kernel says of test events, and of events wrongly put together.

    Which part of the (centred) embeddings' energy lies in it, and h^T L h of true events over that
    of wrong ones.
    """
    h, _ = run.embeddings("test")
    stalks = [torch.from_numpy(h[client] - h[client].mean(axis=0)) for client in run.sheaf.clients]
    wrong = [values.roll(7 * k, 0) for k, values in enumerate(stalks)]
    delta = coboundary(run.sheaf, run.sheaf.restrictions)
    spectrum = run.sheaf.spectrum()
    kernel = torch.linalg.svd(delta, full_matrices=True)[2][-spectrum.harmonic :]
    true_part, wrong_part = (_energy(kernel, parts) for parts in (stalks, wrong))
    whole = _energy(torch.eye(delta.shape[1]), stalks)
    return {
        "kernel": spectrum.harmonic,
        "counted": spectrum.counted,
        "energy in it, true": 100 * true_part / whole,
        "energy in it, wrong": 100 * wrong_part / whole,
        "h^T L h, true over wrong": _energy(delta, stalks) / _energy(delta, wrong),
        "z_ik from z_ij": 100 * overlap(run),
        "R@10": 100 * run.recall_at_10,
    }


def _energy(matrix: Tensor, stalks: Sequence[Tensor]) -> float:
    return float((torch.cat(list(stalks), dim=1) @ matrix.T).square().sum())


# ---- tables --------------------------------------------------------------------------------------


def spread(values: Values, spec: str = ".1f") -> str:
    """Return mean and standard deviation over seeds."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    return f"{mean(values):{spec}} ± {deviation:{spec}}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def paired(with_it: Values, without: Values) -> str:
    """Return the mean difference over seeds, and whether all seeds agree on its sign."""
    gaps = [one - other for one, other in zip(with_it, without, strict=True)]
    alike = min(gaps) > 0 or max(gaps) < 0
    return f"{mean(gaps):+.1f}{'' if alike else ' (signs differ)'}"


def training_tables(seeds: Sequence[int], folder: Path) -> Iterator[str]:
    """Yield retrieval with lambda on and off under every condition, and what diffusion does."""
    rows, drifted, probes = [], [], []
    for name, changes in CONDITIONS.items():
        by_weight: dict[float, list[Trained]] = {}
        for weight in WEIGHTS:
            content = merge(merge(BASE, changes), {"objective": {"laplacian": weight}})
            if "clients" in changes:
                content["clients"] = changes["clients"]
            by_weight[weight] = [
                trained({**content, "seed": seed}, folder / f"{name[:4]}-{weight}-{seed}")
                for seed in seeds
            ]
        rows.append(_recall_row(name, by_weight))
        if name == "plain":
            drifted, probes = _drift_row(by_weight), list(_probe_rows(by_weight))
    headings = [f"lambda {weight:g}" for weight in WEIGHTS]
    gains = [f"{weight:g} less 0" for weight in WEIGHTS[1:]]
    yield table(["R@1 / R@10", *headings, *gains], [*rows, drifted])
    columns = [*(f"{steps} steps" for steps in STEPS), "h and what came", "what came alone"]
    yield table(["class of the sensor's events", *columns], probes)


def _recall_row(name: str, by_weight: Mapping[float, Sequence[Trained]]) -> list[str]:
    recalls = {
        k: {
            weight: [100 * getattr(run, f"recall_at_{k}") for run in runs]
            for weight, runs in by_weight.items()
        }
        for k in (1, 10)
    }
    cells = [f"{spread(recalls[1][w])} / {spread(recalls[10][w])}" for w in WEIGHTS]
    gains = [
        " / ".join(paired(recalls[k][weight], recalls[k][0.0]) for k in (1, 10))
        for weight in WEIGHTS[1:]
    ]
    return [name, *cells, *gains]


def _drift_row(by_weight: Mapping[float, Sequence[Trained]]) -> list[str]:
    recalls = {w: [100 * drifted_recall(run) for run in runs] for w, runs in by_weight.items()}
    gains = [paired(recalls[weight], recalls[0.0]) for weight in WEIGHTS[1:]]
    return ["a drifting sensor (R@10)", *(spread(recalls[w]) for w in WEIGHTS), *gains]


def _probe_rows(by_weight: Mapping[float, Sequence[Trained]]) -> Iterator[list[str]]:
    for drift, state in ((0.0, "as trained"), (DRIFT, "drifting")):
        for weight in (WEIGHTS[0], WEIGHTS[-1]):
            found = [probed(run, drift) for run in by_weight[weight]]
            cells = [spread([100 * one[key] for one in found]) for key in found[0]]
            yield [f"{state}, lambda {weight:g}", *cells]


def redundancy_table(seeds: Sequence[int], folder: Path) -> str:
    """Return what the harmonic space says where modalities share all, something or nothing."""
    rows = []
    for name, clients in REDUNDANCY.items():
        content = {**BASE, "clients": {client: {"dim": 64} for client in clients}}
        found = [
            harmonic(trained({**content, "seed": seed}, folder / f"{name}-{seed}"))
            for seed in seeds
        ]
        numbers = [
            spread([one[key] for one in found], ".2f" if "over" in key else ".1f")
            for key in list(found[0])[2:]
        ]
        rows.append([name, f"{found[0]['kernel']:g} ({found[0]['counted']:g})", *numbers])
    headings = ["modalities", "kernel (counted)", "energy in it, true %", "wrong %"]
    return table([*headings, "h^T L h, true / wrong", "z_ik from z_ij %", "R@10"], rows)


def main(count: int, exchanges: int) -> None:
    """Train for so many exchanges, measure and print, with seeds 0 to `count` - 1."""
    torch.set_num_threads(1)
    BASE["training"]["exchanges"] = exchanges
    seeds = range(count)
    with tempfile.TemporaryDirectory() as where:
        for text in training_tables(seeds, Path(where)):
            print(text, flush=True)
        print(redundancy_table(seeds, Path(where)))


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*(given + [3, BASE["training"]["exchanges"]][len(given) :]))

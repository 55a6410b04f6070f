"""Checks for leaks from held-out events into what is fitted.

They are functions, so that they can be shown to fail. And data to check with: every row of an input
can be told from every other, and an encoder that hands it on as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from sheafalign_fl.config import Settings
from sheafalign_fl.data.base import SPLITS, ModalityData, Split
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.metrics.base import Own, Pair, Together
from sheafalign_fl.metrics.missing import MissingMetric
from sheafalign_fl.metrics.probe import ProbeMetric
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.transfer import TransferMetric
from sheafalign_fl.protocol.agreement import Agreement
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.negotiation import agree
from sheafalign_fl.seeding import numpy_generator
from tests.conftest import toy_settings

CLASSES, DIM = 10, 64
CLIENTS = ("m0", "m1", "m2")

# ---- data ----------------------------------------------------------------------------------------


def source(
    modality: str,
    seed: int,
    *,
    train: int = 600,
    test: int = 400,
    shuffle: int = -1,
    kept: float = 0.0,
) -> ModalityData:
    """Ten classes around centres that all modalities share, each with noise of its own.

    With `shuffle` from 0 on the labels of TRAINING events, and only theirs, are permuted, alike in
    all modalities; but a fraction `kept` of them stays in its place.
    """
    count, shared = train + test + 50, numpy_generator(seed, "leaks")
    centres = shared.normal(size=(CLASSES, DIM))
    centres *= 4 / np.linalg.norm(centres, axis=1, keepdims=True)
    labels = shared.integers(0, CLASSES, count)
    x = centres[labels] + numpy_generator(seed, "leaks", modality).normal(size=(count, DIM))
    split = np.repeat(np.arange(3, dtype=np.uint8), [train, 50, test])
    if shuffle >= 0:
        first = round(kept * train)
        labels[first:train] = numpy_generator(shuffle, "shuffled").permutation(labels[first:train])
    return ModalityData(
        x.astype(np.float32), np.arange(count) * 3 + 1, split, {"class": labels.astype(np.int64)}
    )


class AsItIs(nn.Module):
    """An encoder whose embedding is its input, so that every row that a metric gets is known."""

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x`."""
        return x


def leak_settings(
    metrics_: Sequence[str] = ("transfer", "probe", "missing"), **options: Any
) -> Settings:
    """Return the settings of an untrained federation that measures the source above."""
    return toy_settings(
        data={"source": "tests.metrics.leaks:source", "options": options},
        clients={name: {"dim": DIM, "encoder": "tests.metrics.leaks:AsItIs"} for name in CLIENTS},
        maps={"family": "identity"},
        graph={"dim": DIM},
        training={"exchanges": 0},
        evaluation={"metrics": list(metrics_)},
    )


# ---- the checks ----------------------------------------------------------------------------------


def chance_range(chance: float, answers: int, sigmas: float = 5.0) -> tuple[float, float]:
    """Return the range of the fraction of right answers among `answers` independent guesses.

    Five standard deviations of the binomial distribution: less than one in a million guessers is
    outside.
    """
    half = sigmas * np.sqrt(chance * (1 - chance) / answers)
    return chance - half, chance + half


def accuracies(quality: Quality) -> dict[str, float]:
    """Return the mean of every accuracy that labels are fitted for."""
    found = {
        "prototypes": [row.prototype_accuracy for row in quality.transfer],
        "transfer probe": [row.probe_accuracy for row in quality.transfer],
        "probe": [row.accuracy or 0.0 for row in quality.probe],
        "missing: none": [row.imputed for row in quality.missing if row.missing == 0],
        "missing: imputed": [row.imputed for row in quality.missing if row.missing > 0],
        "missing: mean-fill": [row.mean_fill for row in quality.missing if row.missing > 0],
        "missing: zero-fill": [row.zero_fill for row in quality.missing if row.missing > 0],
    }
    return {name: float(np.mean(values)) for name, values in found.items()}


def above_chance(qualities: Sequence[Quality], chance: float, answers: int) -> list[str]:
    """Return the accuracies, as means over `qualities`, that guessing does not explain."""
    scored = [accuracies(quality) for quality in qualities]
    means = {name: np.mean([scores[name] for scores in scored]) for name in scored[0]}
    low, high = chance_range(chance, answers)
    return [f"{name}: {mean:.3f}" for name, mean in means.items() if not low <= mean <= high]


def in_two_splits(units: NDArray[Any], split: NDArray[np.uint8]) -> list[Any]:
    """Return the units (subjects, sequences, images, events) that are in more than one split."""
    pairs = np.unique(
        np.stack([np.unique(units, return_inverse=True)[1].ravel(), split.astype(np.int64)]), axis=1
    )
    names, counts = np.unique(pairs[0], return_counts=True)
    found: list[Any] = np.unique(units)[names[counts > 1]].tolist()
    return found


def split_otherwise(loaded: Mapping[str, ModalityData]) -> list[Any]:
    """Return the event ids that two modalities put into different splits."""
    ids = np.concatenate([data.event_ids for data in loaded.values()])
    return in_two_splits(ids, np.concatenate([data.split for data in loaded.values()]))


def held_out_in_probe(agreement: Agreement, manifests: Mapping[str, Manifest]) -> list[Any]:
    """Return the probe list's events that some client holds out or that a held-out list has."""
    held_out = [
        manifest.events[split]
        for manifest in manifests.values()
        for split in SPLITS
        if split != "train"
    ]
    lists = [agreement.lists[split] for split in SPLITS if split != "train"]
    found: list[Any] = np.intersect1d(
        agreement.lists["probe"], np.concatenate([*held_out, *lists])
    ).tolist()
    return found


@dataclass(frozen=True)
class Fit:
    """What one call of a metric fitted on, and what it then answered for."""

    metric: str
    fitted_client: str
    fitted: NDArray[np.floating]
    fitted_labels: NDArray[np.integer]
    tested_client: str
    tested: NDArray[np.floating]


def wrong_rows(fits: Sequence[Fit], settings: Settings, held_out: Split = "test") -> list[str]:
    """Return what was fitted or tested on wrong rows.

    Fitted on another than a training event or with another label, or tested on one not held out.
    """
    found: list[str] = []
    known = {name: _by_row(client_data(name, settings)) for name in settings.clients}
    for fit in fits:
        for row, label in zip(fit.fitted, fit.fitted_labels.tolist(), strict=True):
            split, true = known[fit.fitted_client].get(_key(row), ("unknown", -1))
            if split != "train" or true != label:
                found.append(
                    f"{fit.metric} of {fit.fitted_client} fitted on a {split} event, label {label}"
                )
        for row in fit.tested:
            split, _ = known[fit.tested_client].get(_key(row), ("unknown", -1))
            if split != held_out:
                found.append(f"{fit.metric} of {fit.tested_client} tested on a {split} event")
    return found


def _by_row(data: ModalityData) -> dict[bytes, tuple[str, int]]:
    events = zip(data.x, data.split, data.labels["class"], strict=True)
    rows = {_key(x): (str(SPLITS[split]), int(label)) for x, split, label in events}
    assert len(rows) == len(data)
    return rows


def _key(row: NDArray[np.floating]) -> bytes:
    return row.astype(np.float32).tobytes()


# ---- spies and mutations -------------------------------------------------------------------------


@contextmanager
def spied() -> Iterator[list[Fit]]:
    """Note what every metric that fits something is given."""
    fits: list[Fit] = []
    transfer, probe, missing = TransferMetric.measure, ProbeMetric.measure, MissingMetric.measure

    def spy_transfer(metric: TransferMetric, held: Pair) -> Any:
        fitted = (held.source, held.fit_own, held.fit_labels)
        fits.append(Fit("transfer", *fitted, held.target, held.received))
        return transfer(metric, held)

    def spy_probe(metric: ProbeMetric, held: Own) -> Any:
        fitted = (held.client, held.fit_h, held.fit_labels)
        fits.append(Fit("probe", *fitted, held.client, held.h))
        return probe(metric, held)

    def spy_missing(metric: MissingMetric, held: Together) -> Any:
        fits.extend(
            Fit("missing", name, held.fit_h[name], held.fit_labels, name, held.h[name])
            for name in held.h
        )
        return missing(metric, held)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransferMetric, "measure", spy_transfer)
        patch.setattr(ProbeMetric, "measure", spy_probe)
        patch.setattr(MissingMetric, "measure", spy_missing)
        yield fits


def leaky(agreement: Agreement) -> Agreement:
    """Return the agreement with the test events in place of those that probes are fitted on."""
    return replace(
        agreement,
        lists={**agreement.lists, "probe": agreement.lists["test"]},
        has={client: {**lists, "probe": lists["test"]} for client, lists in agreement.has.items()},
    )


@contextmanager
def fitting_on_test_events() -> Iterator[None]:
    """Let every client and the evaluator fit on the very events that they are tested on.

    Clients do not agree to that, so they are kept from looking.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clients.node_context.accept", lambda *arguments: None)
        patch.setattr("strategies.attendance.agree", lambda *arguments: leaky(agree(*arguments)))
        yield

"""The metrics again, as slow loops written from their definitions (DESIGN section 5)."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

Array = NDArray[Any]


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the cosine; -2, below every cosine, where a vector is zero."""
    size = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(x * x for x in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / size if size else -2.0


def at_least(value: float, other: float) -> bool:
    return value >= other - 1e-12


def ranks(queries: Array, gallery: Array) -> list[int]:
    """Return the rank of each true pair, behind everything that is as similar."""
    result = []
    for k, query in enumerate(queries.tolist()):
        own = cosine(query, gallery[k].tolist())
        result.append(sum(at_least(cosine(query, other), own) for other in gallery.tolist()))
    return result


def mean_average_precision(queries: Array, gallery: Array, labels: Array) -> float | None:
    precisions = []
    for query, label in zip(queries.tolist(), labels.tolist(), strict=True):
        if label < 0:
            continue
        scored = [
            (cosine(query, item), other == label)
            for item, other in zip(gallery.tolist(), labels, strict=True)
        ]
        known = [entry for entry, other in zip(scored, labels, strict=True) if other >= 0]
        relevant = sorted((score for score, good in known if good), reverse=True)
        at_ranks = []
        for found, score in enumerate(relevant, start=1):
            wrong = sum(at_least(value, score) for value, good in known if not good)
            at_ranks.append(found / (found + wrong))
        precisions.append(sum(at_ranks) / len(at_ranks))
    return sum(precisions) / len(precisions) if precisions else None


def prototype_accuracy(train: Array, train_labels: Array, test: Array, test_labels: Array) -> float:
    prototypes = {}
    for label in sorted({int(label) for label in train_labels if label >= 0}):
        rows = [
            row / np.linalg.norm(row)
            for row, other in zip(train, train_labels, strict=True)
            if other == label
        ]
        prototypes[label] = np.mean(rows, axis=0)
    right = total = 0
    for row, label in zip(test, test_labels, strict=True):
        if label >= 0:
            total += 1
            right += label == max(
                prototypes, key=lambda name: cosine(row.tolist(), prototypes[name].tolist())
            )
    return float(right / total)


def logistic_accuracy(
    train: Array,
    train_labels: Array,
    test: Array,
    test_labels: Array,
    *,
    standardised: bool = True,
) -> float:
    """Return the accuracy of scikit-learn's own pipeline, used as its manual shows."""
    scaler = StandardScaler(with_mean=standardised, with_std=standardised)
    scaler.fit(train[train_labels >= 0])
    model = LogisticRegression(max_iter=2000).fit(
        scaler.transform(train[train_labels >= 0]), train_labels[train_labels >= 0]
    )
    known = test_labels >= 0
    return float(model.score(scaler.transform(test[known]), test_labels[known]))


def missing(
    train_h: Mapping[str, Array],
    train_labels: Array,
    test_h: Mapping[str, Array],
    test_labels: Array,
    imputed: Mapping[tuple[str, str], Array],
    shared_space: bool,
) -> list[dict[str, float]]:
    """Return a row for 0, 1, 2, ... missing clients, putting every h together for every subset."""
    names = list(train_h)
    scaler = StandardScaler().fit(np.hstack([train_h[name] for name in names]))
    model = LogisticRegression(max_iter=500).fit(
        scaler.transform(np.hstack([train_h[name] for name in names])), train_labels
    )

    def score(h: Mapping[str, Array]) -> float:
        return float(
            model.score(scaler.transform(np.hstack([h[name] for name in names])), test_labels)
        )

    rows = []
    for count in range(len(names)):
        scores: dict[str, list[float]] = {"imputed": [], "mean_fill": [], "zero_fill": []}
        for absent in itertools.combinations(names, count):
            fills: dict[str, dict[str, Array]] = {key: dict(test_h) for key in scores}
            for name in absent:
                training_mean = np.tile(train_h[name].mean(axis=0), (len(test_labels), 1))
                fills["mean_fill"][name] = training_mean
                fills["zero_fill"][name] = np.zeros_like(test_h[name])
                peers = [peer for peer in names if peer not in absent]
                if shared_space:
                    fills["imputed"][name] = np.mean([test_h[peer] for peer in peers], axis=0)
                else:
                    given = [imputed[peer, name] for peer in peers if (peer, name) in imputed]
                    fills["imputed"][name] = np.mean(given, axis=0) if given else training_mean
            for key, values in scores.items():
                values.append(score(fills[key]))
        row = {key: float(np.mean(values)) for key, values in scores.items()}
        rows.append(
            row | {"worst_imputed": min(scores["imputed"]), "subsets": len(scores["imputed"])}
        )
    return rows


def consistency(z_ij: Array, z_ji: Array) -> float:
    total = 0.0
    for a, b in zip(z_ij.tolist(), z_ji.tolist(), strict=True):
        apart = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
        size = sum(x * x for x in a) + sum(y * y for y in b)
        total += apart / size if size else 0.0
    return total / len(z_ij)

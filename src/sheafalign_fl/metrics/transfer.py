"""Zero-shot transfer between modalities (DESIGN section 5.2)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.metrics.base import (
    Card,
    Column,
    Numbers,
    Pair,
    PairMetric,
    Rows,
    Score,
    mean_of,
)
from sheafalign_fl.metrics.classifier import accuracy, fit_classifier, majority_accuracy
from sheafalign_fl.metrics.vectors import labelled, unit_rows
from sheafalign_fl.numbers import mean, percent_sign
from sheafalign_fl.row import Row


class Transfer(Row):
    """Zero-shot transfer source -> target: fitted on the source's training labels."""

    source: str
    target: str
    events: int
    prototype_accuracy: float
    probe_accuracy: float
    majority: float
    """Accuracy of always answering the most frequent training class: the floor."""
    converged: bool | None = None
    """Whether the logistic regression got to its optimum; null in results of before."""


class TransferMetric(PairMetric):
    """Whether a classifier of one client's events answers for another, who saw no label."""

    name = "transfer"
    title = "Zero-shot transfer"
    explanation = (
        "Classifiers fitted on the first client's labelled training events answer for the second "
        "client, which never saw a label. Good: close to the second client's own linear probe, and "
        "well above the majority, which is the accuracy of always giving the most frequent class."
    )
    row = Transfer
    columns = (
        Column("prototypes %", "prototype_accuracy"),
        Column("probe %", "probe_accuracy"),
        Column("majority %", "majority"),
        Column("converged", "converged", "flag"),
    )
    ranked_by = "probe_accuracy"
    scores = (
        Score("transfer, prototypes", mean_of("prototype_accuracy"), chance=mean_of("majority")),
        Score("transfer, probe", mean_of("probe_accuracy"), chance=mean_of("majority")),
    )
    narrow = False
    needs_labels = needs_fit = True

    def measure(self, held: Pair) -> Numbers:
        """Return the accuracies of prototypes and of the probe, and the majority's."""
        found = transfer(
            held.source, held.target, held.fit_own, held.fit_labels, held.received, held.labels
        )
        return found.model_dump(exclude={"source", "target"})

    def cards(self, rows: Rows, split: str) -> list[Card]:
        """Return the probe's accuracy."""
        floor = percent_sign(mean(row.majority for row in rows))
        value = percent_sign(mean(row.probe_accuracy for row in rows))
        return [Card(self.title, value, f"probe; most frequent class {floor}")] if rows else []

    def facts(self, rows: Rows) -> dict[str, Any]:
        """Return the means over directions."""
        return {
            "transfer_prototype": mean(row.prototype_accuracy for row in rows),
            "transfer_probe": mean(row.probe_accuracy for row in rows),
            "majority": mean(row.majority for row in rows),
        }


def transfer(
    source: str,
    target: str,
    train_z: NDArray[np.floating],
    train_labels: NDArray[np.integer],
    test_z: NDArray[np.floating],
    test_labels: NDArray[np.integer],
) -> Transfer:
    """Fit on the source's labelled TRAINING events, answer for the target's test events.

    The target saw no label. Two classifiers in the comparison space of the edge: class prototypes
    (the normalised mean of the normalised embeddings of a class; the nearest by cosine answers),
    and logistic regression on the normalised embeddings (L2, C = 1).

    The regression sees unit vectors and no further scale. Any that is learnt from the source's
    columns (its standardisation, say) enlarges directions in which the source hardly moves, and
    with them whatever sets the target apart there; and it weakens the L2 term by a factor that
    depends on the method. Length 1 is the same at both ends by construction, learns nothing from
    anybody, and leaves the figure as it is when the whole space is rotated, as cosines do.

    Parameters
    ----------
    source, target
        The clients i and j.
    train_z, train_labels
        z_ij of the SOURCE's training events, shape (M, d), and labels (M,); rows with label -1 are
        left out.
    test_z, test_labels
        z_ji of the TARGET's test events, shape (N, d), and labels (N,); rows with label -1 are left
        out. Test labels are compared with, never fitted on.

    Raises
    ------
    ValueError
        Shapes do not fit together.
    DataError
        No test event is labelled, or the labelled training events are of fewer than two classes.
    RunError
        An embedding is not finite.
    """
    what = f"transfer {source} -> {target}"
    train, fit_labels = labelled(train_z, train_labels, f"{what}, training events")
    test, true = labelled(test_z, test_labels, f"{what}, test events")
    train, test = unit_rows(train), unit_rows(test)
    fitted = fit_classifier(train, fit_labels, what, standardised=False)
    return Transfer(
        source=source,
        target=target,
        events=len(true),
        prototype_accuracy=accuracy(nearest_prototypes(train, fit_labels, test), true),
        probe_accuracy=accuracy(fitted.predict(test), true),
        majority=majority_accuracy(fit_labels, true),
        converged=fitted.converged,
    )


def nearest_prototypes(
    train: NDArray[np.float64], labels: NDArray[np.int64], test: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return of each test event, (N,), the class whose prototype is nearest by cosine.

    Parameters
    ----------
    train, labels
        Embeddings of length 1, shape (M, d), and their classes, shape (M,), all of them known; a
        prototype is the normalised mean of a class.
    test
        Embeddings of length 1, shape (N, d).
    """
    classes = np.unique(labels)
    prototypes = unit_rows(np.stack([train[labels == label].mean(axis=0) for label in classes]))
    nearest: NDArray[np.int64] = classes[np.argmax(test @ prototypes.T, axis=1)]
    return nearest

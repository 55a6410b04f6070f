"""Linear probe on a client's own embedding (DESIGN section 5.3)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.metrics.base import ClientMetric, Column, Numbers, Own, Rows, Score, mean_of
from sheafalign_fl.metrics.classifier import accuracy, fit_classifier, majority_accuracy
from sheafalign_fl.metrics.vectors import labelled
from sheafalign_fl.numbers import mean
from sheafalign_fl.row import Row


class Probe(Row):
    """Linear probe on a client's own embedding."""

    client: str
    events: int
    accuracy: float
    majority: float
    converged: bool | None = None
    """Whether the fit got to its optimum; null in results of before."""


class ProbeMetric(ClientMetric):
    """How much of a label a client's own embedding holds."""

    name = "probe"
    title = "Linear probe"
    explanation = (
        "Logistic regression on each client's own embedding. It says how much about the class an "
        "embedding holds; untrained encoders score well here too, so it does not show alignment."
    )
    row = Probe
    columns = (
        Column("accuracy %", "accuracy"),
        Column("majority %", "majority"),
        Column("converged", "converged", "flag"),
    )
    scores = (Score("linear probe", mean_of("accuracy"), chance=mean_of("majority")),)
    needs_labels = needs_fit = True

    def measure(self, held: Own) -> Numbers:
        """Return the probe's accuracy and the majority's."""
        found = linear_probe(held.client, held.fit_h, held.fit_labels, held.h, held.labels)
        return found.model_dump(exclude={"client"})

    def facts(self, rows: Rows) -> dict[str, Any]:
        """Return the mean over clients."""
        return {"probe": mean(row.accuracy for row in rows)}


def linear_probe(
    client: str,
    train_h: NDArray[np.floating],
    train_labels: NDArray[np.integer],
    test_h: NDArray[np.floating],
    test_labels: NDArray[np.integer],
) -> Probe:
    """Return the accuracy of logistic regression on h_i (standardised; L2, C = 1).

    It is fitted on training events. Untrained encoders score well here too, so this says how much
    class information h_i holds, not how well it is aligned.

    Parameters
    ----------
    client
        The client i.
    train_h, test_h
        Embeddings, shapes (M, d_i) and (N, d_i).
    train_labels, test_labels
        Shapes (M,) and (N,); rows with label -1 are left out.

    Raises
    ------
    ValueError
        Shapes do not fit together.
    DataError
        No test event is labelled, or the labelled training events are of fewer than two classes.
    RunError
        An embedding is not finite.
    """
    what = f"linear probe of '{client}'"
    train, fit_labels = labelled(train_h, train_labels, f"{what}, training events")
    test, true = labelled(test_h, test_labels, f"{what}, test events")
    fitted = fit_classifier(train, fit_labels, what)
    return Probe(
        client=client,
        events=len(true),
        accuracy=accuracy(fitted.predict(test), true),
        majority=majority_accuracy(fit_labels, true),
        converged=fitted.converged,
    )

"""Linear probe on a client's own embedding (DESIGN section 5.3)."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import DataError
from sheafalign_fl.labels import kind_of, known
from sheafalign_fl.metrics.answers import (
    WORST_R2,
    fit_reader,
    macro_f1,
    mean_absolute_error,
)
from sheafalign_fl.metrics.base import ClientMetric, Column, Numbers, Own, Rows, Score, mean_of
from sheafalign_fl.metrics.classifier import accuracy, fit_classifier, majority_accuracy
from sheafalign_fl.metrics.vectors import embeddings, labelled
from sheafalign_fl.numbers import mean
from sheafalign_fl.row import Bounds, Row


class Probe(Row):
    """Linear probe on a client's own embedding."""

    client: str
    events: int
    accuracy: float | None = None
    """Of several labels an event, the mean over labels; None for values."""
    majority: float | None = None
    """Accuracy of always answering the most frequent training class."""
    f1: float | None = None
    """Of several labels an event: the mean over labels."""
    r2: float | None = None
    """Of values: the share of their variance that the probe explains; at least -1."""
    mae: float | None = None
    """Of values: the mean absolute error, in their units."""
    mae_of_mean: float | None = None
    """The same of always answering the training mean."""
    converged: bool | None = None
    """Whether the fit got to its optimum; null in results of before, and of other labels."""
    bounds: ClassVar[Bounds] = {
        "r2": (WORST_R2, 1.0),
        "mae": (0.0, float("inf")),
        "mae_of_mean": (0.0, float("inf")),
    }


class ProbeMetric(ClientMetric):
    """How much of a label a client's own embedding holds."""

    name = "probe"
    title = "Linear probe"
    explanation = (
        "Logistic regression on each client's own embedding. It says how much about the class an "
        "embedding holds; untrained encoders score well here too, so it does not show alignment. "
        "Of values it is ridge regression, with R2 and the mean absolute error."
    )
    row = Probe
    columns = (
        Column("accuracy %", "accuracy", optional=True),
        Column("majority %", "majority", optional=True),
        Column("converged", "converged", "flag", optional=True),
        Column("F1 %", "f1", optional=True),
        Column("R² %", "r2", optional=True),
        Column("MAE", "mae", "number", optional=True),
        Column("MAE of the mean", "mae_of_mean", "number", optional=True),
    )
    scores = (
        Score("linear probe", mean_of("accuracy"), chance=mean_of("majority")),
        Score("linear probe, R²", mean_of("r2")),
    )
    label_kinds = frozenset({"classes", "values", "multi"})
    needs_labels = needs_fit = True

    def measure(self, held: Own) -> Numbers:
        """Return the probe's accuracy and the majority's; of values R2 and errors."""
        measured = linear_probe if kind_of(held.labels) == "classes" else probe_of_others
        found = measured(held.client, held.fit_h, held.fit_labels, held.h, held.labels)
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


def probe_of_others(
    client: str,
    train_h: NDArray[np.floating],
    train_labels: NDArray[Any],
    test_h: NDArray[np.floating],
    test_labels: NDArray[Any],
) -> Probe:
    """Return the scores of a linear probe on h_i for values, or for several labels an event.

    Parameters and errors are those of `linear_probe`; labels are values, shapes (M,) and (N,), NaN
    where unknown, or 0 and 1, shapes (M, L) and (N, L), -1 where unknown.
    """
    what = f"linear probe of '{client}'"
    fit, tested = known(train_labels), known(test_labels)
    if not (fit.any() and tested.any()):
        raise DataError(f"{what}: no event has a label, and this metric needs labels")
    reader = fit_reader(embeddings(train_h[fit], what), train_labels[fit], what)
    shares = reader.share(embeddings(test_h[tested], what), slice(None))
    fitted, true = train_labels[fit], test_labels[tested]
    answers, good = reader.answers(shares), reader.goodness(shares, true)
    if reader.kind == "values":
        return Probe(
            client=client,
            events=len(true),
            r2=good,
            mae=mean_absolute_error(answers, true),
            mae_of_mean=float(np.abs(true - fitted.mean()).mean()),
        )
    always = (fitted.mean(axis=0) > 0.5).astype(np.int64)
    return Probe(
        client=client,
        events=len(true),
        accuracy=good,
        majority=float((true == always).mean()),
        f1=macro_f1(answers, true),
        converged=reader.linear.converged,
    )

"""The one logistic regression that probes, transfer and the fused probe use."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import DataError
from sheafalign_fl.extras import require

_ITERATIONS = 500
_FITTED = ("transfer", "probe", "missing")
"""The metrics that fit a classifier."""


@dataclass(frozen=True)
class LinearClassifier:
    """Standardisation and a linear map: what logistic regression is once the fitting is done.

    Its scores are sums over columns, so the fused probe can add up the shares of its clients one by
    one.

    Attributes
    ----------
    mean, scale
        Shape (d,): of the training events.
    weights, bias
        Shape (d, K) and (K,).
    classes
        Shape (K,): the class that each score stands for.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    classes: NDArray[np.int64]

    def share(self, values: NDArray[np.floating], columns: slice) -> NDArray[np.float64]:
        """Return what `columns`, with `values` (N, width) in them, add to the scores (N, K)."""
        share: NDArray[np.float64] = (
            (values - self.mean[columns]) / self.scale[columns]
        ) @ self.weights[columns]
        return share

    def answer(self, shares: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the class of the best score, given the sum of all shares (N, K)."""
        answers: NDArray[np.int64] = self.classes[np.argmax(shares + self.bias, axis=1)]
        return answers

    def predict(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the class of every row of `values` (N, d)."""
        return self.answer(self.share(values, slice(None)))


def check_installed(metrics: Sequence[str]) -> None:
    """Raise `MissingExtraError` if one of `metrics` cannot be measured on this machine."""
    for metric in _FITTED:
        if metric in metrics:
            require("sklearn", f"the metric '{metric}' of evaluation.metrics")


def fit_classifier(
    values: NDArray[np.float64], labels: NDArray[np.int64], what: str
) -> LinearClassifier:
    """Standardise (M, d) `values` and fit logistic regression (L2, C = 1, L-BFGS); deterministic.

    A fit that has not converged after 500 iterations is used as it is, quietly: it is the same for
    every method.

    Raises
    ------
    DataError
        The training events are all of one class.
    """
    if len(classes := np.unique(labels)) < 2:
        raise DataError(
            f"{what}: the labelled training events are all of class {classes[0]}; a probe needs "
            "two classes"
        )
    require("sklearn", "a probe")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaler, regression = StandardScaler(), LogisticRegression(max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        make_pipeline(scaler, regression).fit(values, labels)
    weights, bias = regression.coef_.T, regression.intercept_
    if len(classes) == 2:
        # scikit-learn keeps one score for two classes: that of the second against the first.
        weights, bias = np.hstack([np.zeros_like(weights), weights]), np.append(0.0, bias)
    return LinearClassifier(scaler.mean_, scaler.scale_, weights, bias, classes)


def accuracy(answers: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Return the fraction of right answers."""
    return float((answers == labels).mean())


def majority_accuracy(train_labels: NDArray[np.int64], test_labels: NDArray[np.int64]) -> float:
    """Return the accuracy of always answering the most frequent training class."""
    classes, counts = np.unique(train_labels, return_counts=True)
    return float((test_labels == classes[np.argmax(counts)]).mean())

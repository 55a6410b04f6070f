"""The one logistic regression that probes, transfer and the fused probe use."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import DataError
from sheafalign_fl.extras import require

ITERATIONS = 2000
"""Of a fit, at most; embeddings of trained clients take 50 to 300."""
_GRADIENT = 3e-4
"""Largest entry of the mean loss's gradient that counts as converged; a fit aims at 1e-4."""
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
    converged
        Whether the fit got to its optimum, which is one: a rerun, and another solver, find it too.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    classes: NDArray[np.int64]
    converged: bool

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
    values: NDArray[np.float64],
    labels: NDArray[np.int64],
    what: str,
    *,
    standardised: bool = True,
    iterations: int = ITERATIONS,
) -> LinearClassifier:
    """Fit logistic regression (L2, C = 1, L-BFGS) to (M, d) `values`; deterministic.

    Parameters
    ----------
    values, labels
        Shapes (M, d) and (M,), of training events.
    what
        What is fitted, for messages.
    standardised
        Columns are first brought to mean 0 and deviation 1. Not where the classifier will answer
        for another client: the fitting client's scale is not the other one's.
    iterations
        At most so many; `LinearClassifier.converged` says whether they were enough.

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
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(with_mean=standardised, with_std=standardised).fit(values)
    regression = LogisticRegression(max_iter=iterations)
    scaled = scaler.transform(values)
    with warnings.catch_warnings():
        # Whether it converged is looked at below: warnings of several threads mix.
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(scaled, labels)
    weights, bias = regression.coef_.T, regression.intercept_
    steep = _steepness(scaled, labels == classes[:, None], weights, bias)
    if len(classes) == 2:
        # scikit-learn keeps one score for two classes: that of the second against the first.
        weights, bias = np.hstack([np.zeros_like(weights), weights]), np.append(0.0, bias)
    if not standardised:
        zero, one = np.zeros(values.shape[1]), np.ones(values.shape[1])
        return LinearClassifier(zero, one, weights, bias, classes, steep <= _GRADIENT)
    return LinearClassifier(scaler.mean_, scaler.scale_, weights, bias, classes, steep <= _GRADIENT)


def _steepness(
    values: NDArray[np.float64],
    members: NDArray[np.bool_],
    weights: NDArray[np.float64],
    bias: NDArray[np.float64],
) -> float:
    """Return the largest entry of the gradient of mean loss + |weights|^2 / 2M, with C = 1.

    Parameters
    ----------
    members
        Shape (K, M): which events are of a class.
    weights, bias
        Shapes (d, K) and (K,); with two classes (d, 1) and (1,), the score of the second.
    """
    scores = values @ weights + bias
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    error = scores / scores.sum(axis=1, keepdims=True) - members.T
    error = error[:, -weights.shape[1] :]
    of_weights = (values.T @ error + weights) / len(values)
    return float(max(np.abs(of_weights).max(), np.abs(error.mean(axis=0)).max()))


def accuracy(answers: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Return the fraction of right answers."""
    return float((answers == labels).mean())


def majority_accuracy(train_labels: NDArray[np.int64], test_labels: NDArray[np.int64]) -> float:
    """Return the accuracy of always answering the most frequent training class."""
    classes, counts = np.unique(train_labels, return_counts=True)
    return float((test_labels == classes[np.argmax(counts)]).mean())

"""What a probe reads out of embeddings, whatever kind of label it is: one linear map.

Of classes it is logistic regression, of several labels an event one logistic regression each, of
values a ridge regression. Scores are sums over columns, so the fused probe adds up its clients.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl import labels as kinds
from sheafalign_fl.errors import DataError
from sheafalign_fl.metrics.classifier import LinearClassifier, accuracy, fit_classifier
from sheafalign_fl.metrics.moments import Moments, ridge

Matrix = NDArray[np.float64]
WORST_R2 = -1.0
"""R2 has no lower bound; what is worse than this counts as this, so that means stay readable."""
_CERTAIN = 30.0
"""The logit of a label that all training events have, or none: a probability of 1 - 1e-13."""


@dataclass(frozen=True)
class Reader:
    """A fitted probe.

    Attributes
    ----------
    kind
        Of the label.
    linear
        The linear map; of values the scores are the values themselves, of several labels logits.
    """

    kind: kinds.Kind
    linear: LinearClassifier

    def share(self, values: NDArray[np.floating], columns: slice) -> Matrix:
        """Return what `columns`, with `values` (N, width) in them, add to the scores (N, K)."""
        return self.linear.share(values, columns)

    def goodness(self, shares: Matrix, labels: NDArray[Any]) -> float:
        """Return accuracy (of several labels their mean), or R2, given all shares (N, K)."""
        if self.kind == "values":
            return r2(self._scores(shares)[:, 0], labels)
        if self.kind == "multi":
            return float((self.answers(shares) == labels).mean())
        return accuracy(self.answers(shares), labels)

    def answers(self, shares: Matrix) -> NDArray[Any]:
        """Return classes (N,), values (N,), or which labels there are (N, L)."""
        if self.kind == "values":
            return self._scores(shares)[:, 0]
        if self.kind == "multi":
            return (self._scores(shares) > 0).astype(np.int64)
        return self.linear.answer(shares)

    def _scores(self, shares: Matrix) -> Matrix:
        scores: Matrix = shares + self.linear.bias
        return scores


def fit_reader(values: Matrix, labels: NDArray[Any], what: str) -> Reader:
    """Fit a probe on features (M, D) and labels, all of them known.

    Raises
    ------
    DataError
        There is nothing to tell apart: one class, or values that are all equal.
    MissingExtraError
        scikit-learn is not installed (all kinds but values).
    """
    kind = kinds.kind_of(labels)
    if kind == "classes":
        return Reader(kind, fit_classifier(values, labels.astype(np.int64), what))
    if not kinds.can_be_fitted(labels):
        raise DataError(f"{what}: the labels of all training events are equal; nothing to fit")
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    if kind == "values":
        targets = labels.astype(np.float64)[:, None]
        moments = Moments.of(np.concatenate([(values - mean) / scale, targets], axis=1))
        fitted = ridge(moments, values.shape[1]).map
        weights, bias = fitted.weights, fitted.bias
        linear = LinearClassifier(mean, scale, weights, bias, np.arange(1), converged=True)
    else:
        linear = fit_several(values, labels, what)
    return Reader(kind, linear)


def fit_several(values: Matrix, labels: NDArray[np.integer], what: str) -> LinearClassifier:
    """Return a logistic regression for each of several labels an event, (M, L): logits (N, L)."""
    mean, scale = values.mean(axis=0), values.std(axis=0)
    each = [_one_label(values, labels[:, k], what) for k in range(labels.shape[1])]
    weights = np.stack([w for w, _, _ in each], axis=1)
    bias = np.array([b for _, b, _ in each])
    converged = all(good for _, _, good in each)
    scale = np.where(scale > 0, scale, 1.0)
    return LinearClassifier(mean, scale, weights, bias, np.arange(len(bias)), converged)


def _one_label(values: Matrix, has: NDArray[np.integer], what: str) -> tuple[Matrix, float, bool]:
    """Return weights and bias of the logit of one label, over standardised features.

    The last element says whether the fit has converged.
    """
    if not kinds.can_be_fitted(has):
        return np.zeros(values.shape[1]), _CERTAIN if has[0] > 0 else -_CERTAIN, True
    fitted = fit_classifier(values, has.astype(np.int64), what)
    weights, bias = fitted.weights, fitted.bias
    return weights[:, 1] - weights[:, 0], float(bias[1] - bias[0]), fitted.converged


def r2(answers: Matrix, values: NDArray[np.floating]) -> float:
    """Return the share of the variance of values (N,) that answers (N,) explain.

    1 is perfect, 0 no better than the mean of these values; `WORST_R2` at least.
    """
    total = float(np.square(values - values.mean()).sum())
    left = float(np.square(answers - values).sum())
    if total == 0.0:
        return 1.0 if left == 0.0 else WORST_R2
    return max(WORST_R2, 1.0 - left / total)


def mean_absolute_error(answers: NDArray[np.floating], values: NDArray[np.floating]) -> float:
    """Return the mean absolute error, in the units of the values."""
    return float(np.abs(answers - values).mean())


def macro_f1(answers: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Return F1 of each label (N, L), averaged; 1 of one that nobody has and nobody is said to."""
    right = (answers & labels).sum(axis=0)
    said = answers.sum(axis=0) + labels.sum(axis=0)
    return float(np.where(said > 0, 2 * right / np.maximum(said, 1), 1.0).mean())

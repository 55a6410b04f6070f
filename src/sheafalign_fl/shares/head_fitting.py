"""What a head is fitted by: one way for each kind of label."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import DataError
from sheafalign_fl.labels import Kind
from sheafalign_fl.labels import known as known_labels
from sheafalign_fl.metrics.answers import fit_several
from sheafalign_fl.metrics.classifier import LinearClassifier, fit_classifier
from sheafalign_fl.metrics.moments import Affine, Moments, ridge
from sheafalign_fl.shares import calibration

Matrix = NDArray[np.float64]


class Classes:
    """Logistic regression, and temperatures."""

    def __init__(self, labels: NDArray[Any]) -> None:
        """Take the labels of the events of the fit, all of them known."""
        self.classes, codes = np.unique(labels, return_inverse=True)
        self.codes = codes.astype(np.int64)

    def folds(self) -> NDArray[np.int64]:
        """Return which fold each event is left out in."""
        return calibration.folds(self.codes)

    def fit(self, x: Matrix, rows: NDArray[np.bool_] | None = None) -> Affine:
        """Return logits of all classes as an affine map; -inf of those that `rows` lack."""
        chosen = slice(None) if rows is None else rows
        return self._affine(fit_classifier(x[chosen], self.codes[chosen], "a head"))

    def certainty(self, answers: Matrix, rows: NDArray[np.intp]) -> Matrix:
        """Return the temperature that fits answers (M, K) to events `rows`, for each column."""
        found = calibration.temperature(answers, self.codes[rows])
        return np.full(len(self.classes), found)

    def _affine(self, fitted: LinearClassifier) -> Affine:
        weights = np.zeros((len(fitted.weights), len(self.classes)))
        bias = np.full(len(self.classes), -np.inf)
        scaled = fitted.weights / fitted.scale[:, None]
        weights[:, fitted.classes] = scaled
        bias[fitted.classes] = fitted.bias - fitted.mean @ scaled
        return Affine(weights, bias)


class Several:
    """A logistic regression, and a temperature, for each label."""

    def __init__(self, labels: NDArray[Any]) -> None:
        """Take the labels of the events of the fit, all of them known."""
        self.labels = labels.astype(np.int64)
        self.classes: NDArray[Any] = np.arange(labels.shape[1])

    def folds(self) -> NDArray[np.int64]:
        """Return which fold each event is left out in."""
        return calibration.folds(np.zeros(len(self.labels), dtype=np.int64))

    def fit(self, x: Matrix, rows: NDArray[np.bool_] | None = None) -> Affine:
        """Return the logit of every label as an affine map."""
        chosen = slice(None) if rows is None else rows
        linear = fit_several(x[chosen], self.labels[chosen], "a head")
        scaled = linear.weights / linear.scale[:, None]
        return Affine(scaled, linear.bias - linear.mean @ scaled)

    def certainty(self, answers: Matrix, rows: NDArray[np.intp]) -> Matrix:
        """Return the temperature of each label that fits answers (M, K) to events `rows`."""
        codes = self.labels[rows]
        return np.array(
            [
                calibration.temperature(np.stack([np.zeros(len(rows)), answer], axis=1), code)
                for answer, code in zip(answers.T, codes.T, strict=True)
            ]
        )


class Values:
    """Ridge regression, and root mean square errors."""

    classes: NDArray[Any] = np.zeros(0, dtype=np.int64)

    def __init__(self, labels: NDArray[Any]) -> None:
        """Take the labels of the events of the fit, all of them known."""
        self.values = labels.astype(np.float64).reshape(len(labels), -1)

    def folds(self) -> NDArray[np.int64]:
        """Return which fold each event is left out in."""
        return calibration.folds(np.zeros(len(self.values), dtype=np.int64))

    def fit(self, x: Matrix, rows: NDArray[np.bool_] | None = None) -> Affine:
        """Return the ridge regression on `rows`; features are scaled to deviation 1 in it."""
        chosen = slice(None) if rows is None else rows
        scale = x[chosen].std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        moments = Moments.of(np.concatenate([x[chosen] / scale, self.values[chosen]], axis=1))
        fitted = ridge(moments, x.shape[1]).map
        return Affine(fitted.weights / scale[:, None], fitted.bias)

    def certainty(self, answers: Matrix, rows: NDArray[np.intp]) -> Matrix:
        """Return the root mean square error of each value of answers (M, K) to events `rows`."""
        errors: Matrix = np.sqrt(np.square(answers - self.values[rows]).mean(axis=0))
        return errors


Fitter = Classes | Several | Values
FITTERS: Mapping[Kind, type[Fitter]] = {
    "classes": Classes,
    "multi": Several,
    "values": Values,
}


def kind_of_labels(labels: NDArray[Any]) -> Kind:
    """Return what labels are: floating-point ones are values, here in a matrix too."""
    if labels.dtype.kind == "f":
        return "values"
    return "multi" if labels.ndim == 2 else "classes"


def check_labels(labels: NDArray[Any], count: int, kind: str) -> None:
    """Raise `DataError` unless labels are of their kind, one row for each of `count` events."""
    if labels.ndim == 0 or len(labels) != count:
        raise DataError(f"labels have shape {labels.shape}, but there are {count} events")
    wanted = {
        "classes": ("iubU", (1,), "integers or text, one for each event"),
        "multi": ("iub", (2,), "0 and 1, a column for each label"),
        "values": ("fiub", (1, 2), "numbers"),
    }
    if kind not in wanted:
        raise DataError(f"kind '{kind}': it must be {', '.join(wanted)}")
    dtypes, axes, what = wanted[kind]
    odd = kind == "multi" and not np.isin(labels, (-1, 0, 1)).all()
    if labels.dtype.kind not in dtypes or labels.ndim not in axes or 0 in labels.shape or odd:
        raise DataError(
            f"labels have dtype {labels.dtype} and shape {labels.shape}; for {kind} they must be "
            f"{what}"
        )


def known_of(labels: NDArray[Any], kind: str) -> NDArray[np.bool_]:
    """Return which events have a label, shape (N,)."""
    if kind == "values":
        finite: NDArray[np.bool_] = np.isfinite(labels).reshape(len(labels), -1).all(axis=1)
        return finite
    if labels.dtype.kind == "i":
        return known_labels(labels)
    if labels.dtype.kind == "U":
        return np.asarray(labels != "", dtype=np.bool_)
    return np.ones(len(labels), dtype=np.bool_)

"""Answers from whichever sensors are there: calibrated probabilities of classes, or values.

Of several labels an event every label has a probability of its own.

One linear head on the embeddings h of all of its sensors. Where a sensor is missing its h is
imputed from those that are present (`shares.imputation`), or, where that cannot be, is the mean of
the events that the head was fitted on. How sure an answer is depends on who is there; so
temperatures (or errors) are found for each subset, on events that were left out of the fit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sheafalign_fl.errors import DataError
from sheafalign_fl.labels import Kind
from sheafalign_fl.shares import calibration
from sheafalign_fl.shares.head_fitting import (
    FITTERS,
    Fitter,
    check_labels,
    kind_of_labels,
    known_of,
)
from sheafalign_fl.shares.model import Model

Matrix = NDArray[np.float64]
Answer = Callable[[Matrix], Matrix]
"""Features (N, D) -> scores or values (N, K)."""


@dataclass(frozen=True)
class Prediction:
    """What a head says of N events.

    Attributes
    ----------
    labels
        Shape (N,): the likeliest class; of values, shape (N,) or (N, K), the values; of several
        labels an event, shape (N, K), 1 where it has the label.
    probabilities
        Shape (N, K), of `classes`; of several labels an event they do not add up to 1. None for
        values.
    classes
        Shape (K,); of several labels an event, the numbers of their columns.
    error
        Root mean square error of each value, shape (K,), on events that were left out of the fit;
        None for classes.
    present
        The sensors that it was made from.
    """

    labels: NDArray[Any]
    probabilities: Matrix | None
    classes: NDArray[Any]
    error: Matrix | None
    present: tuple[str, ...]


@dataclass(frozen=True)
class Linear:
    """The arrays of a head: scores (or values) are features @ weights + bias.

    Attributes
    ----------
    weights, bias
        Shapes (D, K) and (K,), over the embeddings of the head's clients, one after the other.
    centre
        Shape (D,): mean of the events of the fit, for sensors that nobody stands in for.
    certainty
        Shape (keys, K): by group of subsets the temperatures (of classes the same in each column),
        or the root mean square errors.
    """

    weights: Matrix
    bias: Matrix
    centre: Matrix
    certainty: Matrix

    def answer(self, features: Matrix) -> Matrix:
        """Return scores or values, shape (N, K)."""
        scores: Matrix = features @ self.weights + self.bias
        return scores


class Head:
    """Answers from any of its sensors.

    Attributes
    ----------
    kind
        classes, multi (several labels an event) or values.
    clients
        The sensors that it was fitted on.
    classes
        Shape (K,): what each column of the probabilities means; empty for values.
    """

    def __init__(
        self,
        model: Model,
        kind: Kind,
        clients: Sequence[str],
        classes: NDArray[Any],
        linear: Linear,
        *,
        flat: bool = False,
    ) -> None:
        """Keep what was fitted; `flat`: values have one number an event, shape (N,)."""
        self.kind, self.clients, self.classes = kind, tuple(clients), classes
        self.linear, self.flat = linear, flat
        self._features = Features(model, self.clients)

    @property
    def run_id(self) -> str:
        """Identity of the run whose embeddings it takes."""
        return self._features.run_id

    def save(self, folder: str | Path) -> None:
        """Write the head into a folder; `Model.load_head` reads it."""
        from sheafalign_fl.shares.head_folder import save_head  # files stand on heads

        save_head(self, folder)

    def predict(self, present: Mapping[str, ArrayLike]) -> Prediction:
        """Return what the sensors that are present say.

        Parameters
        ----------
        present
            Client -> raw events, row k of all the same event; any of the head's clients.

        Raises
        ------
        DataError
            None is given, one is unknown, or its values do not fit.
        """
        return self.of_embeddings(self._features.embed(present))

    def of_embeddings(self, h: Mapping[str, NDArray[np.float32]]) -> Prediction:
        """Return what embeddings say: client -> h, shape (N, d_i), row k of all the same event."""
        subset = self._features.subset(h)
        answer = self.linear.answer(self._features.complete(h, self.linear.centre))
        certainty = self.linear.certainty[calibration.group_of(subset, len(self.clients))]
        names = tuple(self.clients[index] for index in subset)
        if self.kind == "values":
            values = answer[:, 0] if self.flat else answer
            return Prediction(values, None, self.classes, certainty, names)
        if self.kind == "multi":
            labels = (answer > 0).astype(np.int64)
            probabilities = calibration.sigmoid(answer / certainty)
            return Prediction(labels, probabilities, self.classes, None, names)
        probabilities = calibration.softmax(answer / certainty)
        likeliest = self.classes[np.argmax(answer, axis=1)]
        return Prediction(likeliest, probabilities, self.classes, None, names)


class Features:
    """The embeddings of a head's clients, those that are missing stood in for."""

    def __init__(self, model: Model, clients: tuple[str, ...]) -> None:
        self._model, self._clients = model, clients
        ends = np.cumsum([model[client].facts.dim for client in clients]).tolist()
        self._columns = {
            client: slice(end - model[client].facts.dim, end)
            for client, end in zip(clients, ends, strict=True)
        }
        self.run_id = model[clients[0]].facts.run_id

    def embed(self, present: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float32]]:
        """Return client -> h of all that are present, shape (N, d_i)."""
        if not present:
            raise DataError("a head needs at least one of its sensors; none is given")
        for client in present:
            if client not in self._clients:
                raise DataError(
                    f"the head was not fitted on '{client}'; it takes {', '.join(self._clients)}"
                )
        h = {client: self._model[client].embed(x) for client, x in present.items()}
        counts = {len(values) for values in h.values()}
        if len(counts) > 1:
            told = ", ".join(f"'{client}' {len(values)}" for client, values in h.items())
            raise DataError(f"events differ in number ({told}); row k has to be one event")
        return h

    def subset(self, h: Mapping[str, object]) -> tuple[int, ...]:
        """Return the numbers of the clients that are there."""
        return tuple(index for index, client in enumerate(self._clients) if client in h)

    def complete(self, h: Mapping[str, NDArray[np.float32]], centre: Matrix) -> Matrix:
        """Return features, shape (N, D), of h of those that are present."""
        count = len(next(iter(h.values())))
        made = np.empty((count, len(centre)))
        for client, columns in self._columns.items():
            if client in h:
                made[:, columns] = h[client]
            else:
                stand_in = self._imputed(client, h)
                made[:, columns] = centre[columns] if stand_in is None else stand_in
        return made

    def _imputed(
        self, client: str, h: Mapping[str, NDArray[np.float32]]
    ) -> NDArray[np.float32] | None:
        """Return h of a missing client as its neighbours tell it; None if none of them can."""
        imputation = self._model[client].imputation
        if imputation is None:
            return None
        z = {
            other: self._model[other].restrict(client, values)
            for other, values in h.items()
            if other in imputation.neighbours
        }
        return imputation.ridge(z).values if z else None


def fit_head(
    model: Model, labels: ArrayLike, events: Mapping[str, ArrayLike], kind: Kind | None = None
) -> Head:
    """Fit a head on labelled events.

    Parameters
    ----------
    labels
        Classes, shape (N,), integers or text; several labels an event, shape (N, K), 0 and 1; or
        values, shape (N,) or (N, K), floating-point. Events without a label are left out: of
        classes and of several labels -1 says so, of text '', of values NaN (-1 is a value).
    events
        Client -> raw events, shape (N, ...), row k of all the event of label k.
    kind
        classes, multi or values; default: values if the labels are floating-point, multi if they
        are a matrix of integers.

    Raises
    ------
    DataError
        Labels and events do not fit together, or are too few.
    MissingExtraError
        scikit-learn is not installed (all but values).
    """
    if not events:
        raise DataError("a head needs at least one sensor; none is given")
    given = np.asarray(labels)
    kind = kind or kind_of_labels(given)
    features = Features(model, tuple(events))
    h = features.embed(events)
    count = len(next(iter(h.values())))
    check_labels(given, count, kind)
    known = known_of(given, kind)
    if int(known.sum()) < 4:
        raise DataError(f"{int(known.sum())} of {count} events are labelled; a head needs 4")
    h = {client: values[known] for client, values in h.items()}
    fitter = FITTERS[kind](given[known])
    whole = np.concatenate([h[client].astype(np.float64) for client in events], axis=1)
    centre = whole.mean(axis=0)
    fitted = fitter.fit(whole)
    certainty = _certainty(features, h, centre, fitter, whole)
    linear = Linear(fitted.weights, fitted.bias, centre, certainty)
    return Head(model, kind, tuple(events), fitter.classes, linear, flat=given.ndim == 1)


def _certainty(
    features: Features,
    h: Mapping[str, NDArray[np.float32]],
    centre: Matrix,
    fitter: Fitter,
    whole: Matrix,
) -> Matrix:
    """Return by group of subsets how sure answers are, on events left out of five fits."""
    fold = fitter.folds()
    fits = [(fitter.fit(whole, fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold)]
    clients = list(h)
    found: dict[int, Matrix] = {}
    for key, subsets in calibration.groups(len(clients)):
        answers, rows = [], []
        for subset in subsets:
            made = features.complete({clients[i]: h[clients[i]] for i in subset}, centre)
            answers += [fitted.apply(made[out]) for fitted, out in fits]
            rows += [out for _, out in fits]
        found[key] = fitter.certainty(np.concatenate(answers), np.concatenate(rows))
    table = np.ones((max(found) + 1, len(next(iter(found.values())))))
    for key, values in found.items():
        table[key] = values
    return table

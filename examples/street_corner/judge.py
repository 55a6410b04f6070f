"""What answers are worth: right ones of all test events, and whether a search still finds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sheafalign_fl as sf
from examples.street_corner.client import Corner
from examples.street_corner.machines import Recordings

ASKED_IN = "camera"
"""Whose events are searched, with the sensor's z."""
K = 10
_PORTION = 32
"""Events of one request: a service takes so many bytes at a time, and tells who sends more."""


@dataclass(frozen=True)
class Row:
    """One way to answer.

    Attributes
    ----------
    who
        Who answers.
    accuracy
        Right answers of all.
    recall
        R@10 among the camera's test events; None where nobody can ask for any.
    """

    who: str
    accuracy: float
    recall: float | None


class Judge:
    """Asks for all test events together, and compares with the truth."""

    def __init__(self, corner: Corner, recordings: Recordings, share: Path) -> None:
        """Ask by `corner`; `share` is the sensor's own, for what only its owner can compute."""
        self._corner, self._share = corner, share
        self._train = recordings.label[recordings.rows("train")]
        self._truth = recordings.label[recordings.rows("test")]
        names = [corner.sensor, *corner.neighbours]
        self._x = {name: recordings.of_split(name, "test").tolist() for name in names}

    def itself(self) -> Row:
        """Return what the sensor's own service is worth."""
        sensor = self._corner.sensor
        x = self._x[sensor]
        labels = self._asked(sensor, "/classify", "labels", x=x)
        z = self._asked(sensor, f"/compare/{ASKED_IN}", "z", x=x)
        return Row(f"{sensor} itself", self._right(labels), self._found(z))

    def stood_in(self) -> Iterator[Row]:
        """Yield what its stand-in is worth with some neighbours, and what they are without it.

        The camera's own z is no part of a question to the camera: it would answer itself.
        """
        sensor, stand_in = self._corner.sensor, self._corner.stand_in
        everybody = self._corner.neighbours
        z = {
            name: self._asked(name, f"/compare/{sensor}", "z", x=self._x[name])
            for name in everybody
        }
        for present in [everybody, *([n for n in everybody if n != left] for left in everybody)]:
            received = {name: z[name] for name in present}
            labels = self._asked(stand_in, "/classify", "labels", received=received)
            received.pop(ASKED_IN, None)
            made = self._asked(stand_in, f"/compare/{ASKED_IN}", "z", received=received)
            who = f"stood in for by {', '.join(present)}"
            yield Row(who, self._right(labels), self._found(made))
        told = [self._asked(n, "/classify", "probabilities", x=self._x[n]) for n in everybody]
        # Classes are 0 and 1, so a class is the number of its column.
        labels = np.mean(told, axis=0).argmax(axis=1).tolist()
        yield Row("neighbours for themselves", self._right(labels), None)

    def _asked(
        self,
        service: str,
        path: str,
        what: str,
        x: list[Any] | None = None,
        received: Mapping[str, list[Any]] | None = None,
    ) -> list[Any]:
        """Return `what` a service answers of all events, some of them at a time."""
        made: list[Any] = []
        for start in range(0, len(self._truth), _PORTION):
            part = slice(start, start + _PORTION)
            body: dict[str, Any] = {} if x is None else {"x": x[part]}
            if received is not None:
                body["received"] = {name: z[part] for name, z in received.items()}
            made += self._corner.post(service, path, body)[what]
        return made

    def floors(self) -> Iterator[Row]:
        """Yield what the sensor's training mean is worth, and what no sensor at all."""
        model = sf.load_model(self._share)
        own = model[self._corner.sensor]
        if own.imputation is None:
            raise RuntimeError("the share has no imputation")
        mean = own.imputation.mean(len(self._truth)).values
        head = model.load_head(self._share.parent / "head")
        labels = head.of_embeddings({own.client: mean}).labels
        z = np.asarray(own.restrict(ASKED_IN, mean)).tolist()
        yield Row("its training mean", self._right(labels), self._found(z))
        usual = np.full(len(self._truth), np.bincount(self._train).argmax())
        yield Row("nothing", self._right(usual), K / len(self._truth))

    def _right(self, labels: Sequence[int] | NDArray[Any]) -> float:
        return float(np.mean(np.asarray(labels) == self._truth))

    def _found(self, z: list[Any]) -> float:
        """Return R@10 of the sensor's z among the camera's test events."""
        path = f"/search/{self._corner.sensor}"
        made = [
            self._corner.post(ASKED_IN, path, {"z": z[start : start + _PORTION], "k": K})["rows"]
            for start in range(0, len(z), _PORTION)
        ]
        rows = np.concatenate(made)
        return float((rows == np.arange(len(z))[:, None]).any(axis=1).mean())


def table(rows: Sequence[Row]) -> str:
    """Return the rows as lines of text."""
    width = max(len(row.who) for row in rows)
    lines = [f"{'who answers':{width}}  right  R@{K}"]
    for row in rows:
        recall = "    –" if row.recall is None else f"{row.recall:6.1%}"
        lines.append(f"{row.who:{width}}  {row.accuracy:5.1%} {recall}")
    return "\n".join(lines)

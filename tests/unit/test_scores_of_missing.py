"""What a relay takes from a client as its scores of the metric `missing`, and what it does not."""

import json
from typing import Any

import pytest

from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.metrics.base import OwnRow
from sheafalign_fl.metrics.missing import MissingNearby
from sheafalign_fl.protocol.messages import read_scores
from sheafalign_fl.row import Row

HONEST: dict[str, Any] = {
    "client": "a",
    "missing": 1,
    "subsets": 35,
    "events": 20,
    "imputed": -0.4,
    "mean_fill": 0.5,
    "zero_fill": 0.5,
    "worst_imputed": -1.0,
    "ridge": 0.7,
    "worst_ridge": 0.6,
    "unexplained": 0.3,
    "unexplained_imputed": 10.0,
    "mae": 1e6,
    "clients": None,
}


def read(*rows: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return read_scores(json.dumps({"missing": rows}), "a", ["b"], {"missing": MissingNearby})


def test_a_row_for_each_number_of_missing_parts_is_taken() -> None:
    rows = [{**HONEST, "missing": count} for count in range(7)]
    assert read(*rows) == {"missing": rows}


@pytest.mark.parametrize(
    "change",
    [
        {"client": "b"},
        {"missing": 7},
        {"missing": -1},
        {"subsets": 0},
        {"subsets": 65},
        {"events": 0},
        {"imputed": -1.1},
        {"ridge": 1.01},
        {"mae": -0.1},
        {"unexplained": 11.0},
        {"ridge": "0.7"},
        {"h": 0.5},
    ],
    ids=str,
)
def test_what_no_measure_can_have_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        read({**HONEST, **change})


def test_two_rows_for_one_number_are_refused() -> None:
    with pytest.raises(ProtocolError, match="two scores"):
        read(HONEST, HONEST)


class ByHour(OwnRow):
    """Of a metric of one's own: a row for each hour and side."""

    key = ("hour", "side")


def test_what_tells_rows_apart_is_said_by_the_row() -> None:
    def told(*rows: dict[str, Any], kind: type[Row] = ByHour) -> dict[str, Any]:
        return read_scores(json.dumps({"own": rows}), "a", ["b"], {"own": kind})

    row = {"client": "a", "events": 20, "hour": 1, "side": 0, "missing": 1}
    rows = [row, {**row, "hour": 2}, {**row, "side": 1}]
    assert told(*rows) == {"own": rows}
    for kind, other in ((ByHour, {**row, "missing": 2}), (OwnRow, {**row, "missing": 2})):
        with pytest.raises(ProtocolError, match="two scores"):
            told(row, other, kind=kind)

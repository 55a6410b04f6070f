"""Loss terms as descriptors: a user's own, their names, what travels of them, refusals."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sheafalign_fl.config.schema import MapSettings, ObjectiveSettings
from sheafalign_fl.errors import ConfigError, ProtocolError
from sheafalign_fl.protocol.rows import ExchangeRow, Loss, pack_losses, unpack_losses
from sheafalign_fl.sheaf import (
    LOSS_TERMS,
    EdgeBatch,
    edge_maps,
    edge_terms,
    joint_edge_terms,
    weighted_terms,
)

SHOWN = ["laplacian", "contrastive", "reconstruction", "cross_reconstruction"]


def objective(**settings: Any) -> ObjectiveSettings:
    return ObjectiveSettings(**settings)


def ends(of: ObjectiveSettings) -> tuple[EdgeBatch, EdgeBatch]:
    """Return both ends of an edge, each with the other's z and its graph."""
    torch.manual_seed(0)
    maps = [edge_maps(MapSettings(initial="normal"), dim, 3).double() for dim in (5, 4)]
    h = [torch.randn(6, dim, dtype=torch.float64, requires_grad=True) for dim in (5, 4)]
    z = [own.restrict(embedding) for own, embedding in zip(maps, h, strict=True)]
    return EdgeBatch(of, maps[0], h[0], z[0], z[1]), EdgeBatch(of, maps[1], h[1], z[1], z[0])


def boom(edge: EdgeBatch) -> torch.Tensor:
    return edge.h


total = boom


class Laplacian:
    name = "laplacian"

    def __call__(self, edge: EdgeBatch) -> torch.Tensor:
        return edge.h.sum()


class Unmakeable:
    def __init__(self, size: int) -> None:
        self.size = size


class Uncallable:
    pass


def test_the_terms_of_a_run_are_those_that_are_weighed_and_those_always_shown() -> None:
    assert [pair.term.name for pair in weighted_terms(objective())] == SHOWN
    assert [pair.weight for pair in weighted_terms(objective())] == [0.0, 1.0, 0.1, 1.0]
    own = weighted_terms(objective(terms={"tests.toy:shrinking": 0.2, "tests.toy:Noisy": 0.1}))
    assert [(pair.term.name, pair.weight) for pair in own[4:]] == [
        ("shrinking", 0.2),
        ("noisy_distance", 0.1),
    ]
    assert own[4].term.formula == "Return a loss term of a user's own: the mean square of h."


def test_every_built_in_term_says_what_it_is_and_has_a_setting() -> None:
    for name, term in LOSS_TERMS.items():
        assert (name, bool(term.title), bool(term.formula)) == (term.name, True, True)
        assert name in ObjectiveSettings.model_fields


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("contrastive", "a setting of its own: set objective.contrastive"),
        ("sharpness", "is no term"),
        ("tests.toy:nothing", "no callable 'nothing'"),
        (f"{__name__}:Laplacian", "name 'laplacian' is taken"),
        (f"{__name__}:total", "name 'total' is taken"),
        (f"{__name__}:Unmakeable", "cannot be made"),
        (f"{__name__}:Uncallable", "cannot be called"),
    ],
)
def test_a_term_that_cannot_be_is_refused(key: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        weighted_terms(objective(terms={key: 1.0}))


def test_two_terms_of_one_name_are_refused() -> None:
    keys = {"tests.toy:shrinking": 1.0, "tests.toy :shrinking": 1.0}
    with pytest.raises(ConfigError):
        weighted_terms(objective(terms=keys))


def test_a_term_that_returns_no_scalar_is_refused() -> None:
    chosen = objective(terms={f"{__name__}:boom": 1.0})
    with pytest.raises(ConfigError, match=r"must return a scalar tensor, but returned \(6, 5\)"):
        edge_terms(weighted_terms(chosen), ends(chosen)[0])


def test_both_ends_own_gradients_are_those_of_the_edge() -> None:
    """A term of the edge or of an end: what a client computes alone is the joint gradient."""
    chosen = objective(
        laplacian=0.4, reconstruction=0.3, terms={"tests.toy:shrinking": 0.2}, temperature=0.5
    )
    terms = weighted_terms(chosen)
    one, other = ends(chosen)
    joint_edge_terms(terms, one, other).backward()  # type: ignore[no-untyped-call]
    expected = [one.h.grad, other.h.grad]
    for end, gradient in zip(ends(chosen), expected, strict=True):
        edge_terms(terms, end).total.backward()  # type: ignore[no-untyped-call]
        assert gradient is not None
        torch.testing.assert_close(end.h.grad, gradient, atol=1e-13, rtol=1e-12)


# ---- what travels --------------------------------------------------------------------------------

numbers = st.floats(allow_nan=False)
names = st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=5, unique=True)


@given(names, st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 2**40)), st.data())
def test_losses_arrive_as_they_were_sent(
    terms: list[str], edges: dict[str, int], data: st.DataObject
) -> None:
    losses = [
        Loss(source="a", target=n, events=e, terms={term: data.draw(numbers) for term in terms})
        for n, e in edges.items()
    ]
    assert unpack_losses("a", pack_losses(losses)) == losses


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'[["total"],{"b":[]}]',
        b'[["total"],{"b":[3]}]',
        b'[["total"],{"b":[3,1,1]}]',
        b'[["total"],{"b":[3,"x"]}]',
        b'[["total"],{"b":[1e999,1]}]',
        b'[["total"],{"b":["NaN",1]}]',
        b"[[],{}]" + b" " * (1 << 20),
    ],
)
def test_what_is_no_loss_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="losses that cannot be read"):
        unpack_losses("a", data)


def test_terms_stand_beside_the_edge_in_a_row_and_null_is_left_out() -> None:
    loss = Loss(source="a", target="b", events=3, terms={"mine": 0.5, "total": float("nan")})
    fields = {"exchange": 0, "absent": (), "payload_bytes": 0, "message_bytes": 0}
    row = ExchangeRow(losses=(loss,), relay_bytes=0, seconds=0.0, **fields)
    written = row.model_dump_json()
    assert json.loads(written)["losses"] == [
        {"source": "a", "target": "b", "events": 3, "mine": 0.5, "total": None}
    ]
    assert ExchangeRow.model_validate_json(written).losses[0].terms == {"mine": 0.5}

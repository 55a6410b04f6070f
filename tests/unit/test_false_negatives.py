"""Events that are the same twice are no negatives: the mask, the loss, what clients agree on."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.config import Settings
from sheafalign_fl.errors import ConfigError, ProtocolError
from sheafalign_fl.learner.manifest import client_data, describe
from sheafalign_fl.protocol.acceptance import accept
from sheafalign_fl.protocol.agreement import ClientAgreement
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.negotiation import agree
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.sheaf import contrastive_loss
from sheafalign_fl.sheaf.negatives import false_negatives
from tests.conftest import toy_settings


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), min_size=1, max_size=9),
    st.integers(1, 6),
)
def test_the_mask_is_what_a_slow_loop_finds(events: list[tuple[int, int]], span: int) -> None:
    codes, ids = (np.array(column, dtype=np.int64) for column in zip(*events, strict=True))
    expected = [
        [a != b and (codes[a] == codes[b] or (span > 1 and abs(ids[a] - ids[b]) < span))
         for b in range(len(events))]
        for a in range(len(events))
    ]  # fmt: skip
    mask = false_negatives(codes, ids, span)
    assert (mask is None) == (not np.any(expected))
    if mask is not None:
        assert mask.tolist() == expected
    texts = false_negatives(codes, ids.astype(str), span)
    alone = false_negatives(codes, ids, 1)
    assert (texts is None and alone is None) or np.array_equal(
        texts,  # type: ignore[arg-type]
        alone,  # type: ignore[arg-type]
    )


@given(st.integers(2, 7), st.integers(1, 5), st.floats(0.1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_masked_events_are_left_out_of_the_negatives_as_a_slow_loop_does(
    events: int, dim: int, tau: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    z_i, z_j = rng.normal(size=(2, events, dim))
    same = false_negatives(rng.integers(0, 3, events), np.arange(events), 1)
    if same is None:
        same = np.zeros((events, events), dtype=bool)

    def one_way(queries: Any, gallery: Any) -> float:
        total = 0.0
        for b in range(events):
            weights = {
                c: np.exp(queries[b] @ gallery[c]
                          / np.linalg.norm(queries[b]) / np.linalg.norm(gallery[c]) / tau)
                for c in range(events)
                if not same[b, c]
            }  # fmt: skip
            total -= np.log(weights[b] / sum(weights.values()))
        return total / events

    expected = (one_way(z_i, z_j) + one_way(z_j, z_i)) / 2
    tensors = [torch.from_numpy(z).requires_grad_() for z in (z_i, z_j)]
    loss = contrastive_loss(tensors[0], tensors[1], tau, torch.from_numpy(same))
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in tensors)


def test_without_a_mask_the_bits_are_as_ever() -> None:
    z_i, z_j = torch.randn(2, 16, 8)
    nothing = torch.zeros(16, 16, dtype=torch.bool)
    assert contrastive_loss(z_i, z_j, 0.2) == contrastive_loss(z_i, z_j, 0.2, nothing)


# ---- what clients agree on -----------------------------------------------------------------------


def manifests(chosen: Settings, double: dict[str, list[tuple[int, int]]]) -> list[Manifest]:
    """Return manifests of clients of which some have equal rows at the given places."""
    found = []
    for name in chosen.clients:
        data = client_data(name, chosen)
        x = data.x.copy()
        for one, other in double.get(name, []):
            x[other] = x[one]
        found.append(describe(name, chosen, replace(data, x=x, span=2 if name == "m1" else 1)))
    return found


def test_events_that_are_equal_to_any_client_get_one_code_for_all() -> None:
    chosen = toy_settings(objective={"false_negatives": "mask"})
    sent = manifests(chosen, {"m0": [(3, 9), (20, 21)], "m1": [(9, 40)]})
    topology = build_topology(chosen)
    agreement = agree([Manifest.from_bytes(one.to_bytes()) for one in sent], chosen, topology)
    there = ClientAgreement.from_bytes(agreement.for_client("m2", topology).to_bytes())
    assert there.codes is not None
    assert there.span == 2
    ids = there.lists["train"].tolist()
    groups: dict[int, list[int]] = {}
    for event, code in zip(ids, there.codes.tolist(), strict=True):
        groups.setdefault(code, []).append((event - 3) // 7)
    assert [group for group in groups.values() if len(group) > 1] == [[3, 9, 40], [20, 21]]


def test_nothing_is_told_of_equal_events_where_they_are_not_masked() -> None:
    chosen = toy_settings()
    sent = manifests(chosen, {"m0": [(3, 9)]})
    assert all(not one.twins for one in sent)
    agreement = agree(sent, chosen, build_topology(chosen))
    assert agreement.codes is None


def test_a_mask_needs_contrast_in_pairs() -> None:
    with pytest.raises(
        ConfigError, match="false_negatives: mask needs contrast: pairs, not volume"
    ):
        toy_settings(method="gram", objective={"false_negatives": "mask"}, graph={"dim": 8})


@pytest.mark.parametrize(
    ("masks", "lie", "problem"),
    [
        ("mask", {"codes": None}, "which events are equal where the settings do not, or does not"),
        ("keep", {"codes": np.arange(4)}, "which events are equal where the settings do not"),
        ("keep", {"span": 9}, "which events are equal where the settings do not"),
        ("mask", {"codes": np.arange(4)}, "it has 4 codes of equal events, not one for each"),
        ("mask", {"span": 2**40}, "its events overlap over 1099511627776 ids"),
        ("mask", {"span": 0}, "its events overlap over 0 ids"),
    ],
)
def test_a_relay_that_lies_about_equal_events_is_refused(
    masks: str, lie: dict[str, Any], problem: str
) -> None:
    chosen = toy_settings(objective={"false_negatives": masks})
    topology = build_topology(chosen)
    sent = manifests(chosen, {"m0": [(3, 9)]} if masks == "mask" else {})
    agreement = agree(sent, chosen, topology).for_client("m0", topology)
    own = sent[0].events
    accept(agreement, "m0", chosen, own, sent[0].labels)
    with pytest.raises(ProtocolError, match=re.escape(problem)):
        accept(replace(agreement, **lie), "m0", chosen, own, sent[0].labels)

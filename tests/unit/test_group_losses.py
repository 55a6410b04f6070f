"""Contrastive terms over all clients against numpy loops and against geometry."""

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sheafalign_fl.sheaf.group import (
    area_loss,
    centroid_loss,
    product_loss,
    symmetric_cross_entropy,
    volume_loss,
)

Loss = Callable[[Sequence[Tensor], float], Tensor]
TAU = 0.2


def embeddings(clients: int, events: int = 6, dim: int = 5) -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(clients)
    return [rng.normal(size=(events, dim)) for _ in range(clients)]


def slow_entropy(logits: NDArray[np.float64]) -> float:
    count, total = len(logits), 0.0
    for b in range(count):
        total += np.log(sum(np.exp(logits[b, c]) for c in range(count))) - logits[b, b]
        total += np.log(sum(np.exp(logits[c, b]) for c in range(count))) - logits[b, b]
    return total / (2 * count)


def direction(v: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = v / np.sqrt(np.sum(v**2))
    return unit


def test_cross_entropy_of_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 4))
    assert float(symmetric_cross_entropy(torch.from_numpy(logits))) == pytest.approx(
        slow_entropy(logits), abs=1e-12
    )
    assert float(symmetric_cross_entropy(torch.zeros(7, 7))) == pytest.approx(np.log(7), abs=1e-6)


@pytest.mark.parametrize("clients", [2, 3, 5])
def test_centroid_loss(clients: int) -> None:
    z, events, expected = embeddings(clients), range(6), 0.0
    centroids = [direction(np.mean([direction(own[b]) for own in z], axis=0)) for b in events]
    for own in z:
        logits = np.array(
            [[centroids[b] @ direction(own[c]) / TAU for c in events] for b in events]
        )
        expected += slow_entropy(logits)
    assert float(centroid_loss([torch.from_numpy(own) for own in z], TAU)) == pytest.approx(
        expected, abs=1e-10
    )


@pytest.mark.parametrize("clients", [2, 3, 4])
def test_volume_loss(clients: int) -> None:
    """Volumes by singular values of the vectors themselves, not by a Gram matrix: their product."""
    z, events = embeddings(clients), 6
    logits = np.zeros((events, events))
    for b, c in product(range(events), repeat=2):
        vectors = np.stack([direction(z[0][b]), *(direction(own[c]) for own in z[1:])])
        volume = float(np.prod(np.linalg.svd(vectors, compute_uv=False)))
        logits[b, c] = -np.sqrt(volume**2 + 1e-6) / TAU
    found = volume_loss([torch.from_numpy(own) for own in z], TAU)
    assert float(found) == pytest.approx(slow_entropy(logits), abs=1e-10)


def test_two_clients_span_the_sine_of_their_angle() -> None:
    """The matching event lies on the anchor (area 0), the other one at a right angle (area 1)."""
    z = torch.eye(2, dtype=torch.float64)
    expected = np.log(1 + np.exp((np.sqrt(1e-6) - np.sqrt(1 + 1e-6)) / TAU))
    assert float(volume_loss([z, 3 * z], TAU)) == pytest.approx(expected, abs=1e-12)


def test_area_loss() -> None:
    """Areas by Heron's formula from the lengths of the three sides."""
    z, events = [[direction(own[b]) for b in range(6)] for own in embeddings(3)], 6
    logits = np.zeros((events, events))
    for b, c in product(range(events), repeat=2):
        corners = z[0][b], z[1][c], z[2][c]
        sides = [math.dist(corners[k], corners[k - 1]) for k in range(3)]
        half = sum(sides) / 2
        area = math.sqrt(half * math.prod(half - side for side in sides))
        logits[b, c] = -math.sqrt(4 * area**2 + 1e-6) / 2 / TAU
    found = area_loss([torch.from_numpy(np.stack(own)) for own in z], TAU)
    assert float(found) == pytest.approx(slow_entropy(logits), abs=1e-10)


def test_of_two_clients_there_is_no_triangle() -> None:
    assert float(area_loss([torch.eye(3), torch.eye(3)], TAU)) == 0


@pytest.mark.parametrize("clients", [2, 3, 4])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_product_loss(clients: int, smoothing: float) -> None:
    """Symile's equation with one logit, one anchor and one negative at a time."""
    events, dim = 6, 5
    z = [[direction(own[b]) for b in range(events)] for own in embeddings(clients, events, dim)]
    terms: list[float] = []
    for anchor in range(clients):
        others = [own for k, own in enumerate(z) if k != anchor]
        for b in range(events):
            logits = []
            for c in range(events):
                taken = [own[b if c == b else c - shift] for shift, own in enumerate(others)]
                inner = sum(
                    math.prod([z[anchor][b][k], *(v[k] for v in taken)]) for k in range(dim)
                )
                logits.append(inner * math.sqrt(dim) ** (clients - 2) / TAU)
            share = math.log(math.fsum(map(math.exp, logits)))
            terms.append((1 - smoothing) * (share - logits[b]))
            terms[-1] += smoothing * math.fsum(share - logit for logit in logits) / events
    found = product_loss([torch.from_numpy(np.stack(own)) for own in z], TAU, smoothing)
    assert float(found) == pytest.approx(math.fsum(terms) / len(terms), abs=1e-10)


def test_no_negative_of_a_product_is_the_event_itself() -> None:
    """With one-hot codes of events the product is 1 for the same event at all, and 0 otherwise."""
    for clients, events in product((2, 3, 4, 5), (2, 3, 7)):
        z = torch.eye(events, dtype=torch.float64)
        scale = events ** ((clients - 2) / 2) / TAU
        expected = math.log(1 + (events - 1) * math.exp(-scale))
        assert float(product_loss([z] * clients, TAU)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("loss", [centroid_loss, volume_loss, area_loss, product_loss])
def test_a_gradient_where_all_embeddings_coincide_is_finite(loss: Loss) -> None:
    z = torch.from_numpy(embeddings(2)[0]).requires_grad_()
    loss([z, z.detach(), z.detach()], TAU).backward()  # type: ignore[no-untyped-call]
    gradient = z.grad
    assert gradient is not None
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("loss", [centroid_loss, volume_loss, area_loss, product_loss])
def test_lengths_do_not_matter(loss: Loss) -> None:
    z = [torch.from_numpy(own) for own in embeddings(3)]
    longer = [own * factor for own, factor in zip(z, (0.01, 3.0, 200.0), strict=True)]
    assert float(loss(z, TAU)) == pytest.approx(float(loss(longer, TAU)), abs=1e-10)


def test_smoothed_targets_spread_over_what_is_not_left_out() -> None:
    """Against torch's own where nothing is left out, and row by row where something is."""
    torch.manual_seed(4)
    logits = torch.randn(5, 5, dtype=torch.float64)
    target = torch.arange(5)
    expected = sum(
        torch.nn.functional.cross_entropy(rows, target, label_smoothing=0.3)
        for rows in (logits, logits.T)
    )
    assert symmetric_cross_entropy(logits, 0.3).item() == pytest.approx(float(expected) / 2)
    same = torch.zeros(5, 5, dtype=torch.bool)
    same[1, 3] = same[3, 1] = True
    left_out = logits.masked_fill(same, -torch.inf).requires_grad_()
    loss = symmetric_cross_entropy(left_out, 0.3)
    total = 0.0
    for rows in (logits.tolist(), logits.T.tolist()):
        for k, row in enumerate(rows):
            there = [m for m in range(5) if not same[k, m]]
            share = math.log(math.fsum(math.exp(row[m]) for m in there))
            total += 0.7 * (share - row[k])
            total += 0.3 * math.fsum(share - row[m] for m in there) / len(there)
    assert loss.item() == pytest.approx(total / 10)
    loss.backward()  # type: ignore[no-untyped-call]
    assert left_out.grad is not None
    assert torch.isfinite(left_out.grad).all()

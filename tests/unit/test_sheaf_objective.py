"""The objective: its symmetries, its gradients, and the invariant that everything rests on."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sheafalign_fl.config.schema import MapSettings, ObjectiveSettings
from sheafalign_fl.sheaf import (
    EdgeBatch,
    EdgeMaps,
    EdgeTerms,
    LinearMaps,
    contrastive_loss,
    edge_maps,
    edge_terms,
    laplacian_loss,
    procrustes_loss,
    weighted_terms,
)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Return z_ij, z_ji of shape (B, d_e) and h_i of shape (B, d_i)."""
    events, edge_dim, dim = (
        draw(st.integers(2, 6)),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 6)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.01, 1.0, 30.0]))
    shapes = ((events, edge_dim), (events, edge_dim), (events, dim))
    z_ij, z_ji, h = (torch.from_numpy(scale * rng.normal(size=shape)) for shape in shapes)
    return z_ij, z_ji, h


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def cosine(a: list[float], b: list[float]) -> float:
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def linear(dim: int, edge_dim: int, seed: int = 0) -> LinearMaps:
    torch.manual_seed(seed)
    return LinearMaps(dim, edge_dim, "normal").double()


# ---- properties ----------------------------------------------------------------------------------


@given(batches(), st.floats(0.05, 5))
@settings(deadline=None, max_examples=15)
def test_an_edge_has_the_same_alignment_loss_from_both_ends(
    batch: tuple[Tensor, Tensor, Tensor], tau: float
) -> None:
    z_ij, z_ji, _ = batch
    torch.testing.assert_close(contrastive_loss(z_ij, z_ji, tau), contrastive_loss(z_ji, z_ij, tau))
    torch.testing.assert_close(laplacian_loss(z_ij, z_ji), laplacian_loss(z_ji, z_ij))


@given(batches(), st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_neither_the_order_of_events_nor_a_rotation_matters(
    batch: tuple[Tensor, Tensor, Tensor], seed: int
) -> None:
    z_ij, z_ji, _ = batch
    rng = np.random.default_rng(seed)
    order = torch.from_numpy(rng.permutation(len(z_ij)))
    rotation = torch.from_numpy(np.linalg.qr(rng.normal(size=(z_ij.shape[1],) * 2))[0])
    for a, b in ((z_ij[order], z_ji[order]), (z_ij @ rotation, z_ji @ rotation)):
        torch.testing.assert_close(contrastive_loss(a, b, 0.1), contrastive_loss(z_ij, z_ji, 0.1))
        torch.testing.assert_close(laplacian_loss(a, b), laplacian_loss(z_ij, z_ji))


@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
@settings(deadline=None, max_examples=25)
def test_the_procrustes_loss_is_the_laplacian_at_the_best_of_all_rotations(
    seed: int, dim: int
) -> None:
    """No other orthogonal matrix does better, a rotated copy costs nothing, ends agree."""
    rng = np.random.default_rng(seed)
    z_ij, z_ji = (torch.from_numpy(rng.normal(size=(7, dim))) for _ in range(2))
    best = procrustes_loss(z_ij, z_ji)
    for _ in range(20):
        other = torch.from_numpy(np.linalg.qr(rng.normal(size=(dim, dim)))[0])
        assert best <= laplacian_loss(z_ij, z_ji @ other) + 1e-12
        assert float(procrustes_loss(z_ij, z_ij @ other)) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(best, procrustes_loss(z_ji, z_ij))


def test_what_is_paired_matters() -> None:
    z = torch.eye(4, dtype=torch.float64)
    assert contrastive_loss(z, z, 0.05).item() < 1e-7
    assert contrastive_loss(z, z.roll(1, 0), 0.05).item() == pytest.approx(20, rel=1e-6)
    assert laplacian_loss(z, z).item() == 0
    assert laplacian_loss(z, z.roll(1, 0)).item() == 2


@given(batches(), st.floats(0.01, 100), st.floats(0.01, 100))
@settings(deadline=None, max_examples=15)
def test_only_directions_count_where_lengths_are_taken_out(
    batch: tuple[Tensor, Tensor, Tensor], one: float, other: float
) -> None:
    z_ij, z_ji, _ = batch
    scaled = one * z_ij, other * z_ji
    torch.testing.assert_close(contrastive_loss(*scaled, 0.1), contrastive_loss(z_ij, z_ji, 0.1))
    torch.testing.assert_close(
        laplacian_loss(*scaled, normalised=True),
        laplacian_loss(z_ij, z_ji, normalised=True),
        atol=1e-9,
        rtol=1e-9,
    )
    torch.testing.assert_close(
        laplacian_loss(one * z_ij, one * z_ji), one**2 * laplacian_loss(z_ij, z_ji)
    )


@given(batches())
@settings(deadline=None, max_examples=15)
def test_temperature_goes_from_the_hardest_negative_to_no_opinion(
    batch: tuple[Tensor, Tensor, Tensor],
) -> None:
    z_ij, z_ji, _ = batch
    count = len(z_ij)
    assert contrastive_loss(z_ij, z_ji, 1e9).item() == pytest.approx(math.log(count), rel=1e-6)
    similar = [[cosine(a, b) for b in z_ji.tolist()] for a in z_ij.tolist()]
    margins = [max(row) - row[k] for k, row in enumerate(similar)]
    margins += [max(column) - column[k] for k, column in enumerate(zip(*similar, strict=True))]
    cold = 1e-4
    # log-sum-exp lies between the largest logit and the largest plus log B.
    loss, bound = contrastive_loss(z_ij, z_ji, cold).item() * cold, math.fsum(margins) / (2 * count)
    assert bound - 1e-9 <= loss <= bound + cold * math.log(count) + 1e-9


# ---- one edge ------------------------------------------------------------------------------------


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def terms_of(objective: ObjectiveSettings, maps: EdgeMaps, h: Tensor, z_ji: Tensor) -> EdgeTerms:
    return edge_terms(
        weighted_terms(objective), EdgeBatch(objective, maps, h, maps.restrict(h), z_ji)
    )


def gradients(
    maps: EdgeMaps, h: Tensor, objective: ObjectiveSettings, z_ji: Tensor
) -> dict[str, Tensor | None]:
    terms_of(objective, maps, h, z_ji).total.backward()  # type: ignore[no-untyped-call]
    return {
        "h": h.grad,
        "z_ji": z_ji.grad,
        **{name: value.grad for name, value in maps.named_parameters()},
    }


def test_each_term_trains_what_it_is_meant_to() -> None:
    """Alignment trains P and encoder, reconstruction Q too; cross-reconstruction adds to Q only."""
    torch.manual_seed(0)
    h, z_ji = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)

    def run(**weights: float) -> dict[str, Tensor | None]:
        settings_ = {
            "laplacian": 1.0,
            "contrastive": 0.0,
            "reconstruction": 0.0,
            "cross_reconstruction": 0.0,
            **weights,
        }
        objective = ObjectiveSettings(**settings_)  # type: ignore[arg-type]
        return gradients(
            linear(4, 3), h.clone().requires_grad_(), objective, z_ji.clone().requires_grad_()
        )

    plain = run()
    assert plain["z_ji"] is None
    assert plain["Q"] is None
    assert plain["P"] is not None
    crossed = run(cross_reconstruction=0.7)
    assert crossed["Q"] is not None
    assert crossed["z_ji"] is None
    for name in ("P", "h"):
        torch.testing.assert_close(crossed[name], plain[name], atol=0, rtol=0)
    rebuilt = run(reconstruction=0.7)
    assert rebuilt["Q"] is not None
    assert rebuilt["P"] is not None
    assert not torch.allclose(rebuilt["P"], plain["P"])


def test_gradients_of_the_laplacian_and_of_reconstruction_have_their_closed_form() -> None:
    torch.manual_seed(1)
    h, z_ji, maps = leaf(5, 4), leaf(5, 3), linear(4, 3)
    found = gradients(
        maps,
        h,
        ObjectiveSettings(
            laplacian=1.0,
            contrastive=0.0,
            reconstruction=0.5,
            cross_reconstruction=0.0,
            normalised_laplacian=False,
        ),
        z_ji,
    )
    P, Q = maps.P.detach(), maps.Q.detach()
    x, z = h.detach(), h.detach() @ P.T
    error = z @ Q.T - x  # (B, d_i)
    d_z = 2 / 5 * (z - z_ji.detach()) + 0.5 * 2 / error.numel() * error @ Q
    torch.testing.assert_close(found["Q"], 0.5 * 2 / error.numel() * error.T @ z)
    torch.testing.assert_close(found["P"], d_z.T @ x)
    torch.testing.assert_close(found["h"], d_z @ P - 0.5 * 2 / error.numel() * error)


def test_gradients_agree_with_finite_differences() -> None:
    torch.manual_seed(2)
    z_ji = torch.randn(4, 3, dtype=torch.float64)
    objective = ObjectiveSettings(
        laplacian=1.0, temperature=0.5, cross_reconstruction=0.0, normalised_laplacian=True
    )

    def total(h: Tensor, P: Tensor, Q: Tensor) -> Tensor:
        maps = linear(5, 3)
        del maps.P, maps.Q
        maps.P, maps.Q = P, Q  # type: ignore[assignment]
        return terms_of(objective, maps, h, z_ji).total

    assert torch.autograd.gradcheck(total, (leaf(4, 5), leaf(3, 5), leaf(5, 3)))


def test_nothing_needs_a_gradient_where_gradients_are_off() -> None:
    maps, h = linear(4, 3), torch.randn(5, 4, dtype=torch.float64)
    with torch.no_grad():
        terms = terms_of(ObjectiveSettings(cross_reconstruction=1.0), maps, h, maps.restrict(h))
    assert not terms.total.requires_grad
    assert terms.values["laplacian"].item() == 0


@pytest.mark.parametrize("family", ["linear", "orthogonal"])
@pytest.mark.parametrize("normalised", [False, True])
def test_the_gradient_from_values_alone_is_the_gradient_of_the_joint_objective(
    family: str, normalised: bool
) -> None:
    """The central invariant: a client that knows only its neighbours' z_ji takes the joint step."""
    torch.manual_seed(3)
    dims, edges = {"a": 4, "b": 5, "c": 3}, [("a", "b", 3), ("b", "c", 2), ("c", "a", 4)]
    encoders = {name: torch.nn.Linear(6, dim).double() for name, dim in dims.items()}
    maps = {
        (i, j): edge_maps(MapSettings(family=family), dims[i], dim).double()
        for one, other, dim in edges
        for i, j in ((one, other), (other, one))
    }
    with torch.no_grad():
        for owned in maps.values():
            for parameter in owned.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    x = {name: torch.randn(5, 6, dtype=torch.float64) for name in dims}
    objective = ObjectiveSettings(
        laplacian=0.7,
        contrastive=1.3,
        reconstruction=0.2,
        cross_reconstruction=0.0,
        normalised_laplacian=normalised,
    )
    h = {name: encoders[name](x[name]) for name in dims}
    z = {(i, j): maps[i, j].restrict(h[i]) for i, j in maps}
    joint = h["a"].new_zeros(())
    for i, j, _ in edges:
        joint = joint + 0.7 * laplacian_loss(z[i, j], z[j, i], normalised=normalised)
        joint = joint + 1.3 * contrastive_loss(z[i, j], z[j, i], objective.temperature)
        for end in ((i, j), (j, i)):
            joint = joint + 0.2 * (z[end] @ maps[end].dual().T - h[end[0]]).square().mean()
    for client in dims:
        own = [*encoders[client].parameters()]
        for (i, _), owned in maps.items():
            own += owned.parameters() if i == client else []
        expected = torch.autograd.grad(joint, own, retain_graph=True)
        h_i = encoders[client](x[client])
        local = h_i.new_zeros(())
        for (i, j), owned in maps.items():
            if i == client:
                local = local + terms_of(objective, owned, h_i, z[j, i]).total
        for mine, theirs in zip(torch.autograd.grad(local, own), expected, strict=True):
            assert theirs.abs().max() > 1e-6
            torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-10)

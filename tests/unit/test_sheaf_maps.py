"""Restriction and dual maps: shapes, initial values, and what each family keeps while it learns."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sheafalign_fl.config.schema import MapSettings, ObjectiveSettings
from sheafalign_fl.sheaf import EdgeMaps, edge_maps

dims = st.integers(1, 9)


def make(
    family: str, dim: int, edge_dim: int, initial: str = "orthogonal", seed: int = 0
) -> EdgeMaps:
    torch.manual_seed(seed)
    return edge_maps(
        MapSettings(family=family, initial=initial),  # type: ignore[arg-type]
        dim,
        edge_dim,
    )


def gram_error(P: Tensor) -> float:
    """Return how far the rows of P (its columns, if there are more rows) are from orthonormal."""
    P = P.detach().double()
    gram = P @ P.T if P.shape[0] <= P.shape[1] else P.T @ P
    worst = 0.0
    for i in range(len(gram)):
        for j in range(len(gram)):
            worst = max(worst, abs(float(gram[i, j]) - (i == j)))
    return worst


@pytest.mark.parametrize("family", ["linear", "orthogonal"])
@pytest.mark.parametrize("initial", ["normal", "orthogonal", "xavier"])
@given(dim=dims, edge_dim=dims, events=st.integers(0, 5))
@settings(deadline=None, max_examples=8)
def test_shapes(family: str, initial: str, dim: int, edge_dim: int, events: int) -> None:
    maps = make(family, dim, edge_dim, initial)
    assert maps.restriction().shape == (edge_dim, dim)
    assert maps.dual().shape == (dim, edge_dim)
    assert (maps.dim, maps.edge_dim) == (dim, edge_dim)
    h, z = torch.randn(events, dim), torch.randn(events, edge_dim)
    assert maps.restrict(h).shape == (events, edge_dim)
    assert maps.lift(z).shape == (events, dim)


@given(dims, dims, st.sampled_from(["linear", "orthogonal"]))
@settings(deadline=None, max_examples=15)
def test_rows_are_mapped_one_by_one(dim: int, edge_dim: int, family: str) -> None:
    maps = make(family, dim, edge_dim).double()
    h, z = torch.randn(4, dim, dtype=torch.float64), torch.randn(4, edge_dim, dtype=torch.float64)
    P, Q = maps.restriction().tolist(), maps.dual().tolist()
    restricted, lifted = maps.restrict(h).tolist(), maps.lift(z).tolist()
    for k in range(4):
        for row in range(edge_dim):
            slow = math.fsum(P[row][column] * h[k, column].item() for column in range(dim))
            assert restricted[k][row] == pytest.approx(slow, abs=1e-12)
        for row in range(dim):
            slow = math.fsum(Q[row][column] * z[k, column].item() for column in range(edge_dim))
            assert lifted[k][row] == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize("family", ["linear", "orthogonal"])
def test_maps_come_from_the_global_generator(family: str) -> None:
    one, again, other = (
        make(family, 5, 3, seed=1),
        make(family, 5, 3, seed=1),
        make(family, 5, 3, seed=2),
    )
    assert torch.equal(one.restriction(), again.restriction())
    assert torch.equal(one.dual(), again.dual())
    assert not torch.allclose(one.restriction(), other.restriction())


# ---- linear --------------------------------------------------------------------------------------


def test_normal_is_the_paper_s_distribution() -> None:
    maps = make("linear", 300, 200, "normal")
    for matrix in (maps.restriction(), maps.dual()):
        values = matrix.detach().double()
        count = (
            values.numel()
        )  # 60,000: the mean's deviation is 0.1 / sqrt(n), the deviation's 0.1 / sqrt(2 n)
        assert abs(values.mean().item()) < 5 * 0.1 / math.sqrt(count)
        assert abs(values.std().item() - 0.1) < 5 * 0.1 / math.sqrt(2 * count)
        assert 0.40 < values.abs().max().item() < 0.60  # a uniform of this deviation ends at 0.17
    assert not torch.allclose(maps.restriction(), maps.dual().T)


def test_xavier_is_uniform_up_to_its_bound() -> None:
    maps = make("linear", 300, 200, "xavier")
    bound = math.sqrt(6 / 500)
    for matrix in (maps.restriction(), maps.dual()):
        values = matrix.detach().double()
        assert 0.999 * bound < values.abs().max().item() <= bound * (1 + 1e-6)
        assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert abs(values.mean().item()) < 5 * bound / math.sqrt(3 * values.numel())


@given(dims, dims, st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_orthogonal_starts_as_a_projection(dim: int, edge_dim: int, seed: int) -> None:
    maps = make("linear", dim, edge_dim, "orthogonal", seed)
    P = maps.restriction().detach()
    assert gram_error(P) < 1e-5
    assert torch.equal(maps.dual().detach(), P.T)
    projection = maps.dual().detach() @ P
    torch.testing.assert_close(projection @ projection, projection, atol=1e-5, rtol=0)


def test_the_two_maps_learn_apart() -> None:
    maps = make("linear", 5, 3)
    assert {name for name, _ in maps.named_parameters()} == {"P", "Q"}
    optimiser = torch.optim.SGD(maps.parameters(), lr=0.1)
    P, Q = maps.restriction().detach().clone(), maps.dual().detach().clone()
    maps.restrict(torch.randn(4, 5)).square().sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    assert not torch.equal(maps.restriction(), P)
    assert torch.equal(maps.dual(), Q)


# ---- orthogonal ----------------------------------------------------------------------------------


@given(dims, dims, st.integers(0, 999), st.floats(0, 30))
@settings(deadline=None, max_examples=15)
def test_every_value_of_the_parameters_gives_an_orthogonal_map(
    dim: int, edge_dim: int, seed: int, scale: float
) -> None:
    maps = make("orthogonal", dim, edge_dim, seed=seed).double()
    with torch.no_grad():
        for parameter in maps.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    assert gram_error(maps.restriction()) < 1e-6  # the fixed factor is drawn in single precision
    if edge_dim >= dim:  # nothing is lost, so lifting undoes restricting
        h = torch.randn(3, dim, dtype=torch.float64)
        torch.testing.assert_close(maps.lift(maps.restrict(h)), h, atol=1e-5, rtol=0)


def test_an_orthogonal_map_can_learn_any_rotation_near_it() -> None:
    torch.manual_seed(5)
    maps = make("orthogonal", 3, 3, seed=5).double()
    skew = torch.tensor([[0.0, 0.6, -0.3], [-0.6, 0.0, 0.4], [0.3, -0.4, 0.0]], dtype=torch.float64)
    target = (maps.restriction() @ torch.linalg.matrix_exp(skew)).detach()
    optimiser = torch.optim.Adam(maps.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        (maps.restriction() - target).square().sum().backward()
        optimiser.step()
    torch.testing.assert_close(maps.restriction().detach(), target, atol=1e-4, rtol=0)


def test_the_fixed_factor_is_saved_with_the_parameters() -> None:
    one, other = make("orthogonal", 5, 3, seed=1), make("orthogonal", 5, 3, seed=2)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.restriction(), other.restriction())


def test_a_learnt_temperature_that_a_step_took_too_low_comes_back_and_moves_again() -> None:
    maps = edge_maps(MapSettings(), 4, 3, 0.05)
    assert maps.log_temperature is not None
    with torch.no_grad():
        maps.log_temperature.fill_(-20)
    maps.limit_temperature()
    temperature = maps.temperature(0.1)
    assert isinstance(temperature, Tensor)
    assert temperature.item() == pytest.approx(0.01)
    temperature.backward()  # type: ignore[no-untyped-call]
    assert maps.log_temperature.grad is not None
    assert maps.log_temperature.grad.item() > 0
    with pytest.raises(ValueError, match="cannot start below"):
        ObjectiveSettings(learnable_temperature=True, temperature=0.005)

"""Encoders: any input shape, events alone, the same bits again; what cannot be one is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sheafalign_fl.config.schema import ClientSettings
from sheafalign_fl.encoders import (
    ENCODERS,
    ImageEncoder,
    SignalEncoder,
    VectorEncoder,
    build_encoder,
)
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.learner.factories import new_encoder
from sheafalign_fl.seeding import torch_seeded
from tests.conftest import toy_settings

HERE = "tests.unit.test_encoders"
SHAPES: dict[str, tuple[int, ...]] = {"vector": (7,), "signal": (3, 20), "image": (2, 9, 12)}

vectors = st.tuples(st.integers(1, 50))
signals = st.tuples(st.integers(1, 5), st.integers(4, 70))
images = st.tuples(st.integers(1, 4), st.integers(4, 24), st.integers(4, 24))
shapes = vectors | signals | images


def build(
    shape: tuple[int, ...], dim: int = 6, encoder: str = "auto", seed: int = 0, **options: Any
) -> nn.Module:
    with torch_seeded(seed, "test"):
        return build_encoder(
            "x", ClientSettings(dim=dim, encoder=encoder, encoder_options=options), shape
        )


def refusal(shape: tuple[int, ...], encoder: str = "auto", **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        build(shape, encoder=encoder, **options)
    message = str(caught.value)
    assert message.startswith(f"client 'x': encoder '{encoder}'")
    return message


# ---- built-in ------------------------------------------------------------------------------------


@given(shapes, st.integers(1, 20), st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_outputs_have_one_row_for_each_event(shape: tuple[int, ...], dim: int, events: int) -> None:
    encoder = build(shape, dim)
    assert type(encoder) is {1: VectorEncoder, 2: SignalEncoder, 3: ImageEncoder}[len(shape)]
    output = encoder(torch.randn(events, *shape))
    assert output.shape == (events, dim)
    assert torch.isfinite(output).all()


@given(shapes, st.integers(0, 2**31 - 1))
@settings(deadline=None, max_examples=30)
def test_an_event_s_embedding_does_not_depend_on_the_rest_of_the_batch(
    shape: tuple[int, ...], seed: int
) -> None:
    encoder = build(shape).double()
    x = torch.randn(4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        together = encoder(x)
        for k in range(4):
            torch.testing.assert_close(encoder(x[k : k + 1])[0], together[k], atol=1e-10, rtol=1e-8)
        louder = torch.cat([x[:1], 100 * x[1:]])
        torch.testing.assert_close(encoder(louder)[0], together[0], atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_forward_passes_are_the_same_to_the_bit_and_change_nothing(kind: str) -> None:
    encoder = build(SHAPES[kind], encoder=kind)
    encoder.train()
    x = torch.randn(5, *SHAPES[kind])
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    first = encoder(x)
    torch.rand(3)
    assert torch.equal(encoder(x), first)
    assert torch.equal(encoder.eval()(x), first)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_weights_come_from_the_generator_alone(kind: str) -> None:
    one, again, other = (build(SHAPES[kind], seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_every_parameter_learns(kind: str) -> None:
    encoder = build(SHAPES[kind], encoder=kind)
    encoder(torch.randn(6, *SHAPES[kind])).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("shape", "options", "count"),
    [  # weights and biases of each layer, then scales and offsets of its norm, then the head
        ((7,), {"hidden": 8}, (7 * 8 + 8 + 16) + (8 * 8 + 8 + 16) + (8 * 5 + 5)),
        ((7,), {"hidden": 8, "depth": 1}, (7 * 8 + 8 + 16) + (8 * 5 + 5)),
        ((7,), {"depth": 0}, 7 * 5 + 5),
        (
            (3, 20),
            {"widths": [8, 6], "grid": 3},
            (3 * 8 * 5 + 8 + 16) + (8 * 6 * 5 + 6 + 12) + (6 * 3 * 5 + 5),
        ),
        (
            (3, 20),
            {"widths": [8, 6], "kernel": 3},
            (3 * 8 * 3 + 8 + 16) + (8 * 6 * 3 + 6 + 12) + (6 * 5 * 5 + 5),
        ),
        ((2, 9, 12), {"widths": [4], "grid": 2}, (2 * 4 * 9 + 4 + 8) + (4 * 2 * 2 * 5 + 5)),
        ((2, 9, 12), {"widths": [4], "grid": 9}, (2 * 4 * 9 + 4 + 8) + (4 * 5 * 6 * 5 + 5)),
    ],
)
def test_options_give_the_parameters_that_they_promise(
    shape: tuple[int, ...], options: dict[str, Any], count: int
) -> None:
    encoder = build(shape, 5, **options)
    assert encoder(torch.randn(2, *shape)).shape == (2, 5)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == count


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3))
@settings(deadline=None, max_examples=25)
def test_any_number_of_channels_can_be_normalised(widths: list[int]) -> None:
    encoder = build((2, 16), widths=widths)
    norms = [module for module in encoder.modules() if isinstance(module, nn.GroupNorm)]
    for width, norm in zip(widths, norms, strict=True):
        assert norm.num_channels == width
        assert norm.num_groups == max(groups for groups in (1, 2, 4, 8) if width % groups == 0)


def test_a_signal_s_embedding_tells_when_and_an_image_s_where() -> None:
    early, late = torch.zeros(1, 1, 64), torch.zeros(1, 1, 64)
    early[..., 4], late[..., 60] = 5, 5
    signal = build((1, 64))
    assert (signal(early) - signal(late)).abs().max() > 1e-3
    left, right = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    left[..., 8, 2], right[..., 8, 13] = 5, 5
    image = build((1, 16, 16))
    assert (image(left) - image(right)).abs().max() > 1e-3


def test_initial_weights_depend_on_the_seed_and_the_client_and_on_nothing_else() -> None:
    clients = {"a": {"dim": 5}, "b": {"dim": 5}, "c": {"dim": 5}}
    chosen = toy_settings(clients=clients, seed=3)
    first = new_encoder("a", chosen, (4,)).state_dict()
    torch.rand(11)
    new_encoder("b", chosen, (4,))
    fewer = toy_settings(clients={"z": {"dim": 9}, "a": {"dim": 5}}, seed=3, graph={"dim": 2})
    again = new_encoder("a", fewer, (4,)).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    for other in (
        new_encoder("b", chosen, (4,)),
        new_encoder("a", toy_settings(clients=clients, seed=4), (4,)),
    ):
        assert not torch.equal(next(iter(other.parameters())), next(iter(first.values())))


# ---- one's own -----------------------------------------------------------------------------------


def linear(input_shape: tuple[int, ...], dim: int, *, gain: float = 1.0) -> nn.Module:
    layer = nn.Linear(input_shape[0], dim)
    nn.init.constant_(layer.weight, gain)
    return layer


def not_a_module(input_shape: tuple[int, ...], dim: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x[:, :dim]


def one_more(input_shape: tuple[int, ...], dim: int) -> nn.Module:
    return nn.Linear(input_shape[0], dim + 1)


def extra_axis(input_shape: tuple[int, ...], dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], dim), nn.Unflatten(1, (dim, 1)))


class Pair(nn.Module):
    def __init__(self, input_shape: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), x


def crashing(input_shape: tuple[int, ...], dim: int) -> nn.Module:
    return nn.Linear(input_shape[0] + 3, dim)


def deep_batch_norm(input_shape: tuple[int, ...], dim: int) -> nn.Module:
    inner = nn.Sequential(
        nn.Unflatten(1, (1, input_shape[0])), nn.Sequential(nn.BatchNorm1d(1)), nn.Flatten()
    )
    return nn.Sequential(inner, nn.Linear(input_shape[0], dim))


def lazy_batch_norm(input_shape: tuple[int, ...], dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], dim), nn.LazyBatchNorm1d())


def running_instance_norm(input_shape: tuple[int, ...], dim: int) -> nn.Module:
    norm = nn.InstanceNorm1d(1, track_running_stats=True)
    return nn.Sequential(
        nn.Unflatten(1, (1, input_shape[0])), norm, nn.Flatten(), nn.Linear(input_shape[0], dim)
    )


def spectral(input_shape: tuple[int, ...], dim: int) -> nn.Module:
    layer: nn.Module = nn.utils.parametrizations.spectral_norm(nn.Linear(input_shape[0], dim))
    return layer


def raising(input_shape: tuple[int, ...], dim: int, *, kind: str) -> nn.Module:
    raise {
        "key": KeyError,
        "runtime": RuntimeError,
        "value": ValueError,
        "zero": ZeroDivisionError,
    }[kind]("broken")


def test_an_encoder_is_found_by_its_dotted_path_and_gets_its_options() -> None:
    encoder = build((4,), 3, f"{HERE}:linear", gain=2.5)
    assert isinstance(encoder, nn.Linear)
    assert (encoder.weight == 2.5).all()


@pytest.mark.parametrize(
    ("shape", "encoder", "message"),
    [
        ((4,), "vectr", "did you mean 'vector'?"),
        ((4,), "transformer", f"known: {', '.join(ENCODERS)}, auto, or package.module:attribute"),
        ((4,), "signal", "takes inputs (C, T), but the data has shape (4,)"),
        ((2, 8), "image", "takes inputs (C, H, W), but the data has shape (2, 8)"),
        ((2, 8, 8), "vector", "takes inputs (F,), but the data has shape (2, 8, 8)"),
        ((), "auto", "no built-in encoder takes inputs of shape ()"),
        ((1, 2, 3, 4, 5), "auto", "no built-in encoder takes inputs of shape (1, 2, 3, 4, 5)"),
        ((4,), f"{HERE}:absent", "has no callable 'absent'"),
        ((4,), f"{HERE}:HERE", "has no callable 'HERE'"),
        ((4,), "no.such.module:factory", "'no.such.module' cannot be imported"),
        ((4,), ":factory", "is no dotted path"),
        ((4,), "module:", "is no dotted path"),
        ((4,), f"{HERE}:not_a_module", "returned function, not a torch.nn.Module"),
        ((4,), f"{HERE}:one_more", "must return (B, 6) but for B = 2 returned (2, 7)"),
        ((4,), f"{HERE}:extra_axis", "must return (B, 6) but for B = 2 returned (2, 6, 1)"),
        ((4,), f"{HERE}:Pair", "must return (B, 6) but for B = 2 returned tuple"),
        ((4,), f"{HERE}:crashing", "fails on inputs of shape (4,)"),
        ((4,), f"{HERE}:deep_batch_norm", "uses batch norm"),
        ((4,), f"{HERE}:lazy_batch_norm", "uses batch norm"),
    ],
)
def test_what_cannot_be_an_encoder_is_refused_with_the_reason(
    shape: tuple[int, ...], encoder: str, message: str
) -> None:
    assert message in refusal(shape, encoder)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((4,), {"hiden": 8}),
        ((4,), {"hidden": "x"}),
        ((2, 8), {"widths": 3}),
        ((2, 8), {"hidden": 8}),
    ],
)
def test_options_of_the_wrong_name_or_type_are_refused(
    shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    assert f"cannot be made with options {options}" in refusal(shape, **options)


@pytest.mark.parametrize(
    ("shape", "options"),
    [((4,), {"hidden": -1}), ((2, 8), {"widths": []}), ((2, 8, 8), {"widths": [-4]})],
)
def test_options_of_impossible_values_are_refused(
    shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    assert f"cannot be made with options {options}" in refusal(shape, **options)


@pytest.mark.parametrize("grid", [0, -1])
def test_a_grid_without_cells_is_refused(grid: int) -> None:
    """Nothing of the input would reach the embedding."""
    refusal((2, 16), grid=grid)


@pytest.mark.parametrize("kind", ["value", "key", "runtime", "zero"])
def test_a_factory_that_raises_is_refused_whatever_it_raises(kind: str) -> None:
    assert "cannot be made" in refusal((4,), f"{HERE}:raising", kind=kind)


@pytest.mark.parametrize("factory", ["running_instance_norm", "spectral"])
def test_an_encoder_that_a_forward_pass_changes_is_refused(factory: str) -> None:
    """Its running statistics would be updated twice for each batch, as batch norm's would be."""
    refusal((4,), f"{HERE}:{factory}")


def test_the_encoders_that_go_by_shape_are_among_the_built_in_ones() -> None:
    assert set(SHAPES) <= set(ENCODERS)
    assert all(ENCODERS[name].takes(len(shape)) for name, shape in SHAPES.items())
    assert not any(info.takes(axes) for info in ENCODERS.values() for axes in (0, 5))

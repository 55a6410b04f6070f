"""Encoders for sensors: any input size, events alone, the same bits; what each must tell apart."""

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sheafalign_fl.config.schema import ClientSettings
from sheafalign_fl.encoders import ENCODERS, build_encoder
from sheafalign_fl.encoders.registry import EncoderInfo
from sheafalign_fl.encoders.table import encoder_costs
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.learner.factories import new_encoder
from sheafalign_fl.seeding import torch_seeded
from tests.conftest import toy_settings

EXAMPLES: list[tuple[str, tuple[int, ...]]] = [
    *((info.name, info.example) for info in ENCODERS.values()),
    ("points", (3, 40)),
    ("beam", (4, 64)),
]
examples = pytest.mark.parametrize(("name", "shape"), EXAMPLES)
SIZES: dict[str, st.SearchStrategy[tuple[int, ...]]] = {
    "camera": st.tuples(st.integers(1, 6), st.integers(9, 40), st.integers(9, 40)),
    "depth": st.tuples(st.integers(1, 3), st.integers(9, 40), st.integers(9, 40)),
    "range-image": st.tuples(st.integers(1, 3), st.integers(5, 20), st.integers(33, 90)),
    "points": st.tuples(st.integers(3, 5), st.integers(1, 30))
    | st.tuples(st.integers(1, 9), st.integers(3, 5), st.integers(1, 30)),
    "scan": st.tuples(st.integers(1, 4), st.integers(9, 100)),
    "radar": st.tuples(st.integers(1, 3), st.integers(9, 40), st.integers(9, 40)),
    "beam": st.tuples(st.integers(5, 80)) | st.tuples(st.integers(1, 6), st.integers(5, 80)),
    "inertial": st.tuples(st.integers(1, 9), st.integers(9, 100)),
    "skeleton": st.tuples(st.integers(2, 3), st.integers(1, 25), st.integers(9, 60)),
    "csi": st.tuples(st.integers(1, 9), st.integers(17, 60), st.integers(1, 60))
    | st.tuples(st.integers(1, 9), st.integers(1, 60), st.integers(17, 60)),
    "video": st.tuples(
        st.integers(1, 6), st.integers(1, 3), st.integers(9, 30), st.integers(9, 30)
    ),
    "audio": st.tuples(st.integers(1, 2), st.integers(2560, 6000)),
    "linear": st.tuples(st.integers(1, 800)),
}
TOO_SMALL = {
    "camera": (3, 8, 30),
    "depth": (1, 30, 8),
    "range-image": (1, 16, 32),
    "points": (2, 10),
    "scan": (1, 8),
    "radar": (1, 8, 8),
    "beam": (4,),
    "inertial": (6, 8),
    "skeleton": (3, 17, 8),
    "csi": (1, 3, 3),
    "video": (4, 3, 8, 30),
    "audio": (1, 2559),
}


def build(
    name: str, shape: tuple[int, ...], dim: int = 128, seed: int = 0, **options: Any
) -> nn.Module:
    client = ClientSettings(dim=dim, encoder=name, encoder_options=options)
    with torch_seeded(seed, "test"):
        return build_encoder("x", client, shape).double()


def events(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(
        count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def apart(encoder: nn.Module, one: Tensor, other: Tensor) -> float:
    """Return how far the embeddings of two events lie apart, as a fraction of their length."""
    with torch.no_grad():
        u, v = encoder(one[None])[0], encoder(other[None])[0]
    return float((u - v).norm() / v.norm())


# ---- all of them ---------------------------------------------------------------------------------


@examples
def test_a_row_s_embedding_is_that_of_the_event_alone(name: str, shape: tuple[int, ...]) -> None:
    encoder = build(name, shape)
    x = events(5, shape)
    with torch.no_grad():
        together = encoder(x)
        for count in (1, 2, 5):
            part = encoder(x[:count])
            assert part.shape == (count, 128)
            torch.testing.assert_close(part, together[:count], atol=1e-11, rtol=1e-9)
        for k in range(5):
            torch.testing.assert_close(encoder(x[k : k + 1])[0], together[k], atol=1e-11, rtol=1e-9)
        louder = torch.cat([x[:1], 100 * x[1:]])
        torch.testing.assert_close(encoder(louder)[0], together[0], atol=1e-11, rtol=1e-9)


@examples
def test_a_repeated_forward_pass_has_the_same_bits_and_changes_nothing(
    name: str, shape: tuple[int, ...]
) -> None:
    encoder = build(name, shape).float().train()
    x = events(3, shape).float()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    first = encoder(x)
    torch.rand(3)
    assert torch.equal(encoder(x), first)
    assert torch.equal(encoder.eval()(x), first)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


@examples
def test_every_parameter_gets_a_gradient(name: str, shape: tuple[int, ...]) -> None:
    encoder = build(name, shape)
    encoder(events(3, shape)).square().sum().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 1e-9, key


@pytest.mark.parametrize("info", ENCODERS.values(), ids=lambda info: info.name)
def test_they_are_small_and_their_description_is_true(info: EncoderInfo) -> None:
    encoder = build(info.name, info.example)
    assert 10_000 <= sum(parameter.numel() for parameter in encoder.parameters()) <= 300_000
    assert type(encoder).__module__.startswith("sheafalign_fl.encoders.")
    assert info.takes(len(info.example))
    assert [axes for axes in range(6) if info.takes(axes)] == [
        len(re.findall("[A-Z]", shape)) for shape in info.shapes
    ]


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_inputs_may_have_any_size_from_the_smallest_on(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SIZES)))
    shape = data.draw(SIZES[name])
    dim = data.draw(st.integers(1, 20))
    encoder = build(name, shape, dim)
    for count in (1, 3):
        output = encoder(events(count, shape))
        assert output.shape == (count, dim)
        assert torch.isfinite(output).all()


@pytest.mark.parametrize(("name", "shape"), TOO_SMALL.items())
def test_inputs_that_are_too_small_are_refused_with_what_is_needed(
    name: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(
        ValueError,
        match=rf"{name} (inputs must (be .* or larger|have .* or more), not|need at least)",
    ):
        ENCODERS[name].factory(shape, 8)
    with pytest.raises(ConfigError, match=rf"encoder '{name}': cannot be made .*{shape[-1]}"):
        build(name, shape)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("camera", {"widths": [16, 32], "blocks": 1, "grid": 3}),
        ("depth", {"widths": [16]}),
        ("range-image", {"widths": [16, 32, 32], "grid": [4, 4]}),
        ("points", {"widths": [16, 24, 40], "hidden": 8, "grid": 1}),
        ("scan", {"circular": True, "kernel": 5}),
        ("beam", {"widths": [16, 16, 16], "kernel": 3}),
        ("inertial", {"blocks": 2, "kernel": 9}),
        ("skeleton", {"parts": 7, "grid": 2}),
        ("csi", {"widths": [16, 32, 32, 32]}),
    ],
)
def test_options_are_taken(name: str, options: dict[str, Any]) -> None:
    shape = ENCODERS[name].example
    assert build(name, shape, 6, **options)(events(1, shape)).shape == (1, 6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("scan", {"kernel": 4}),
        ("camera", {"grid": 0}),
        ("camera", {"widths": []}),
        ("linear", {"hidden": 8}),
    ],
)
def test_options_that_cannot_be_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be made with options"):
        build(name, ENCODERS[name].example, **options)


# ---- what they tell apart ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["camera", "depth", "range-image", "scan", "radar", "beam", "inertial", "csi"]
)
def test_it_matters_where_something_is(name: str) -> None:
    shape = ENCODERS[name].example
    here, there = torch.zeros(2, *shape, dtype=torch.float64)
    place = max(range(len(shape)), key=lambda axis: shape[axis])
    here.movedim(place, 0)[shape[place] // 8] = 3
    there.movedim(place, 0)[-shape[place] // 8] = 3
    assert apart(build(name, shape), here, there) > 1e-2


@pytest.mark.parametrize("name", ["range-image", "radar", "depth", "scan"])
def test_the_level_matters(name: str) -> None:
    """How far away everything is, and how loud, is information: the norms must not take it away."""
    near, far = (
        torch.full(ENCODERS[name].example, level, dtype=torch.float64) for level in (0.2, 1.0)
    )
    assert apart(build(name, ENCODERS[name].example), near, far) > 1e-2


def test_a_scan_all_around_has_no_ends() -> None:
    encoder = build("scan", (1, 96), circular=True, grid=1)
    x = events(1, (1, 96))[0]
    assert apart(encoder, x, x.roll(8, 1)) < 1e-9
    assert apart(build("scan", (1, 96), grid=1), x, x.roll(8, 1)) > 1e-6


@given(st.integers(0, 2**31 - 1), st.sampled_from([(3, 17), (5, 9), (4, 4, 12)]))
@settings(deadline=None, max_examples=15)
def test_the_order_of_points_is_of_no_account(seed: int, shape: tuple[int, ...]) -> None:
    encoder = build("points", shape, 16)
    x = events(1, shape, seed)[0]
    order = torch.randperm(shape[-1], generator=torch.Generator().manual_seed(seed))
    assert apart(encoder, x[..., order], x) < 1e-10


def test_padding_of_a_cloud_is_of_no_account_and_a_cloud_may_be_empty() -> None:
    x = events(1, (2, 4, 9))[0]
    padded = torch.cat([x, torch.zeros(2, 4, 7, dtype=torch.float64)], dim=2)
    with torch.no_grad():
        encoder, wider = build("points", (2, 4, 9)), build("points", (2, 4, 16))
        torch.testing.assert_close(encoder(x[None]), wider(padded[None]), atol=1e-11, rtol=1e-9)
        assert torch.isfinite(encoder(torch.zeros(1, 2, 4, 9, dtype=torch.float64))).all()


def test_a_narrow_network_of_one_frame_still_sees_it() -> None:
    encoder = build("points", (3, 30), hidden=8)
    assert apart(encoder, *events(2, (3, 30))) > 1e-2


def test_where_a_cloud_is_matters() -> None:
    x = events(1, (3, 30))[0]
    assert apart(build("points", (3, 30)), x, x + 2) > 1e-2


@pytest.mark.parametrize(
    ("name", "shape", "axis"),
    [
        ("points", (2, 3, 20), 0),
        ("points", (5, 3, 20), 0),
        ("points", (12, 3, 20), 0),
        ("beam", (4, 64), 0),
        ("inertial", (6, 64), 1),
        ("skeleton", (3, 17, 40), 2),
        ("csi", (3, 30, 40), 2),
        ("camera", (6, 32, 32), 0),
    ],
)
def test_the_order_of_time_matters(name: str, shape: tuple[int, ...], axis: int) -> None:
    x = events(1, shape)[0]
    assert apart(build(name, shape), x, x.flip(axis)) > 1e-2


def test_joints_are_told_apart() -> None:
    x = events(1, (3, 17, 20))[0]
    assert apart(build("skeleton", (3, 17, 20)), x, x.roll(1, 1)) > 1e-2


# ---- choosing one --------------------------------------------------------------------------------


def kind(encoder: str, preferred: str | None, shape: tuple[int, ...] = (3, 32, 32)) -> str:
    return type(
        build_encoder("x", ClientSettings(encoder=encoder, dim=8), shape, preferred)
    ).__name__


def test_auto_takes_what_the_source_recommends_and_else_goes_by_shape() -> None:
    assert kind("auto", "radar") == "RadarEncoder"
    assert kind("auto", None) == "ImageEncoder"
    assert kind("camera", "radar") == "CameraEncoder"
    assert kind("image", "radar") == "ImageEncoder"
    assert kind("auto", "auto") == "ImageEncoder"
    settings = toy_settings(clients={"a": {"dim": 5}, "b": {"dim": 5, "encoder": "signal"}})
    assert type(new_encoder("a", settings, (2, 40), "scan")) is ENCODERS["scan"].factory
    assert type(new_encoder("b", settings, (2, 40), "scan")) is ENCODERS["signal"].factory


@pytest.mark.parametrize(
    ("preferred", "message"),
    [
        (
            "rader",
            r"'rader' \(which the data source recommends\): unknown encoder 'rader'; "
            r"did you mean 'radar'\?",
        ),
        (
            "scan",
            r"'scan' \(which the data source recommends\): takes inputs \(C, A\), "
            r"but the data has shape",
        ),
    ],
)
def test_a_recommendation_that_does_not_fit_is_refused(preferred: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind("auto", preferred)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_wrong_number_of_axes_is_refused_with_the_shapes_that_fit(name: str) -> None:
    info = ENCODERS[name]
    axes = next(axes for axes in (1, 2, 3) if not info.takes(axes))
    with pytest.raises(ConfigError) as caught:
        build(name, (16,) * axes)
    assert f"takes inputs {' or '.join(info.shapes)}, but the data has shape" in str(caught.value)


def test_the_table_counts_parameters_and_leaves_torch_as_it_was() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    costs = encoder_costs(1)
    assert [cost.info for cost in costs] == list(ENCODERS.values())
    for cost in costs:
        encoder = build(cost.info.name, cost.info.example)
        assert cost.parameters == sum(p.numel() for p in encoder.parameters())
        assert cost.forward_ms > 0
        assert cost.step_ms > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)

"""Methods of the literature: what each one prescribes, and that the user's own settings win."""

from typing import Any, get_args

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.config import Settings, decode, encode, parse_settings, to_yaml
from sheafalign_fl.config.methods import METHODS, MethodName, apply_method, merge
from sheafalign_fl.engines.check import check
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.sheaf import laplacian_loss
from tests.conftest import toy_settings

CLIENTS = ["camera", "lidar", "gps"]
GROUP = {"centrobind": "centroid", "gram": "volume", "triangle": "area", "symile": "product"}
CONSTANT = ("imagebind", "clip-pairs", *GROUP)
methods = st.sampled_from(get_args(MethodName))


def of(method: str, **content: Any) -> Settings:
    return parse_settings({"clients": CLIENTS, "method": method, **content})


def test_every_method_can_be_named_and_is_valid() -> None:
    assert set(METHODS) == set(get_args(MethodName))
    for method in METHODS:
        assert of(method).method == method


def test_sheafalign_is_the_default_and_what_it_prescribes_costs_no_byte() -> None:
    found = of("sheafalign")
    assert found == parse_settings({"clients": CLIENTS})
    for section, prescribed in METHODS["sheafalign"].items():
        set_ = getattr(found, section).model_dump()
        assert {name: set_[name] for name in prescribed} == prescribed
    # Bytes follow from these, which it leaves alone.
    assert not {"batch_size", "batches", "exchanges"} & set(METHODS["sheafalign"]["training"])
    assert METHODS["sheafalign"].keys() == {"objective", "training"}
    # What makes it SheafAlign: learnt maps into smaller spaces, and dual maps that learn to come
    # back.
    assert found.maps.family == "linear"
    assert found.graph.dim < min(client.dim for client in found.clients.values())
    assert min(found.objective.contrastive, found.objective.reconstruction) > 0


def test_what_a_run_of_before_did_not_say_it_did_not_do() -> None:
    """Settings that were resolved by an earlier version say nothing of what is prescribed now."""
    now = of("sheafalign")
    content = now.model_dump(mode="json")
    before = {
        name: {
            key: value
            for key, value in section.items()
            if key not in METHODS["sheafalign"].get(name, {})
        }
        if name in METHODS["sheafalign"]
        else section
        for name, section in content.items()
    }
    read = parse_settings(before, resolved=True)
    assert (read.training.clip, read.training.warmup, read.objective.variance) == (None, 0.0, 0.0)
    assert parse_settings(before) == now == parse_settings(content, resolved=True)
    assert decode(encode(now)) == now


def test_paper_is_what_the_paper_says() -> None:
    """arXiv 2510.20540, section IV, and DESIGN section 1 and 2."""
    found = of("paper")
    assert (found.graph.topology, found.graph.dim) == ("complete", 64)
    assert {client.dim for client in found.clients.values()} == {128}
    assert (found.maps.family, found.maps.initial) == ("linear", "normal")
    objective = found.objective
    assert (objective.laplacian, objective.contrastive, objective.reconstruction) == (1.0, 1.0, 0.1)
    assert (objective.temperature, objective.contrast) == (0.1, "pairs")
    assert objective.cross_reconstruction == 0
    assert not any(
        (objective.normalised_laplacian, objective.learnable_temperature, objective.stop_gradient)
    )
    training = found.training
    assert (training.optimiser, training.learning_rate, training.batch_size) == ("adam", 1e-4, 128)
    assert (training.weight_decay, training.decay) == (0, "none")
    assert (training.batches, training.local_steps, training.stale) == (1, 1, False)
    assert found.codec == "float32"


@pytest.mark.parametrize("method", CONSTANT)
def test_a_single_space_is_a_constant_sheaf(method: str) -> None:
    """DESIGN section 2: identity maps, d_e = d, lambda = gamma = 0."""
    found = of(method)
    assert found.maps.family == "identity"
    assert {client.dim for client in found.clients.values()} == {found.graph.dim}
    objective = found.objective
    assert (objective.laplacian, objective.contrastive) == (0, 1)
    assert (objective.reconstruction, objective.cross_reconstruction) == (0, 0)
    assert objective.contrast == GROUP.get(method, "pairs")


def test_graphs_of_single_space_methods() -> None:
    star = build_topology(of("imagebind"))
    assert star.neighbours("camera") == {"lidar": 128, "gps": 128}  # the first client is the anchor
    assert star.neighbours("gps") == {"camera": 128}
    assert build_topology(of("imagebind", graph={"centre": "gps"})).neighbours("gps") == {
        "camera": 128,
        "lidar": 128,
    }
    for method in ("clip-pairs", *GROUP):
        assert len(build_topology(of(method)).edges) == 3


@given(st.sampled_from(CONSTANT), st.integers(1, 300))
@settings(deadline=None, max_examples=30)
def test_in_a_single_space_d_e_follows_d_i(method: str, dim: int) -> None:
    assert of(method, clients={name: {"dim": dim} for name in CLIENTS}).graph.dim == dim
    assert of(method).graph.dim == of(method, clients=dict.fromkeys(CLIENTS)).graph.dim == 128
    unequal = {name: {"dim": dim + k} for k, name in enumerate(CLIENTS)}
    mixed = of(method, clients=unequal)
    assert mixed.graph.dim == 64  # there is no dimension to follow, and the check below refuses it


def test_a_single_space_of_unequal_stalks_is_one_clear_line() -> None:
    unequal = toy_settings(method="imagebind", graph={"topology": "star", "dim": 10})
    with pytest.raises(
        ConfigError, match="need d_e = d_i on every edge, but d_e = 10 and d_i = 12"
    ):
        check(unequal)


def test_heads_are_one_projection_a_client_and_nothing_else() -> None:
    heads, pairs = of("clip-heads", graph={"dim": 16}), of("clip-pairs")
    assert heads.maps.family == "shared"
    assert heads.objective == pairs.objective
    assert heads.graph.topology == pairs.graph.topology
    unequal = toy_settings(
        method="clip-heads",
        graph={
            "topology": "edges",
            "edges": [{"between": ["m0", "m1"]}, {"between": ["m1", "m2"], "dim": 9}],
        },
    )
    with pytest.raises(ConfigError, match="shared needs one dimension on all edges of 'm1', not"):
        check(unequal)
    with pytest.raises(ConfigError, match="learnable_temperature is an edge's"):
        of("clip-heads", objective={"learnable_temperature": True})


def test_a_triangle_is_of_three_clients() -> None:
    for count in (2, 4):
        with pytest.raises(ConfigError, match=f"so it needs 3 clients, not {count}"):
            of("triangle", clients=[*CLIENTS, "radar"][:count])


def test_c_vfl_sends_few_bits_and_takes_several_steps_on_them() -> None:
    found, pairs = of("c-vfl"), of("clip-pairs")
    assert (found.codec, found.training.local_steps) == ("int4", 10)
    assert found.objective == pairs.objective
    assert of("c-vfl", codec="top-8", training={"local_steps": 2}).codec == "top-8"


def test_sheaf_frl_glues_by_rotations_alone() -> None:
    objective = of("sheaf-frl").objective
    assert (objective.procrustes, objective.contrastive, objective.laplacian) == (0.2, 0, 0)
    with pytest.raises(ConfigError, match="nothing would align"):
        of("sheaf-frl", objective={"procrustes": 0})


def test_the_laplacian_of_a_complete_graph_is_the_distance_to_the_clients_mean() -> None:
    """So CoMFed's latent consensus is an objective of edges, which needs no place for a mean."""
    found = of("comfed")
    assert (found.maps.family, found.graph.topology) == ("shared", "complete")
    assert not found.objective.normalised_laplacian
    torch.manual_seed(0)
    z = torch.randn(4, 7, 3, dtype=torch.float64)
    edges = [laplacian_loss(z[i], z[j]) for i in range(4) for j in range(i)]
    consensus = (z - z.mean(0)).square().sum(dim=2).mean(dim=1).sum()
    assert float(torch.stack(edges).sum()) == pytest.approx(4 * float(consensus))


def test_random_has_no_exchange_and_an_untrained_sheaf() -> None:
    found = of("random")
    assert found.training.exchanges == 0
    plain = parse_settings({"clients": CLIENTS, "training": {"exchanges": 0}}, resolved=True)
    assert found.digest() == plain.digest()


# ---- what the user says wins ---------------------------------------------------------------------

OVERRIDES: list[dict[str, Any]] = [
    {"training": {"learning_rate": 0.25, "exchanges": 7}},
    {"training": {"optimiser": "sgd"}, "codec": "float16"},
    {"graph": {"dim": 128}},
    {"objective": {"temperature": 0.7, "laplacian": 2.5}},
    {"objective": {"reconstruction": 3.0, "cross_reconstruction": 1.0}},
    {"clients": {"camera": {"dim": 128}, "gps": {}, "radar": {}}, "seed": 0},
    {"evaluation": {"metrics": ["probe"], "split": "validation"}},
    {"engine": "pooled", "name": "other"},
]


@given(methods, st.lists(st.sampled_from(OVERRIDES), max_size=4))
@settings(deadline=None, max_examples=60)
def test_overrides_win_and_the_rest_stays(
    method: MethodName, changes: list[dict[str, Any]]
) -> None:
    own: dict[str, Any] = {}
    for change in changes:
        own = merge(own, change)
    found = of(method, **own)
    dumped, prescribed = found.model_dump(mode="json"), flat(METHODS[method])
    given_ = flat({key: value for key, value in own.items() if key != "clients"})
    for key, value in {**prescribed, **given_}.items():
        assert at(dumped, key) == value, key
    # Nothing but the two has changed, except that d_e follows d_i.
    plain = parse_settings({"clients": own.get("clients", CLIENTS)}, resolved=True)
    bare = flat(plain.model_dump(mode="json"))
    changed = {key for key, value in flat(dumped).items() if bare.get(key) != value}
    assert changed <= {*prescribed, *given_, "method", "graph.dim"}


@given(methods, st.lists(st.sampled_from(OVERRIDES), max_size=4))
@settings(deadline=None, max_examples=60)
def test_resolved_settings_load_back_to_equal_ones(
    method: str, changes: list[dict[str, Any]]
) -> None:
    own: dict[str, Any] = {}
    for change in changes:
        own = merge(own, change)
    found = of(method, **own)
    read = parse_settings(yaml.safe_load(to_yaml(found)))
    assert read == found
    assert read.digest() == found.digest()
    assert decode(encode(found)) == found


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted key -> value."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= (
            flat(value, f"{prefix}{key}.")
            if isinstance(value, dict) and value
            else {f"{prefix}{key}": value}
        )
    return found


def at(content: dict[str, Any], dotted: str) -> Any:
    value: Any = content
    for key in dotted.split("."):
        value = value[key]
    return value


def test_nothing_that_is_given_is_changed() -> None:
    content: dict[str, Any] = {
        "clients": CLIENTS,
        "method": "imagebind",
        "graph": {"centre": "gps"},
    }
    before = yaml.safe_dump(content)
    prescribed = yaml.safe_dump(dict(METHODS))
    merged = apply_method(content)
    merged["graph"]["topology"] = "ring"
    merged["objective"] = None
    assert yaml.safe_dump(content) == before
    assert yaml.safe_dump(dict(METHODS)) == prescribed


# ---- the digest ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_digest_is_of_the_values_and_not_of_the_methods_name(method: MethodName) -> None:
    named = of(method)
    written_out = parse_settings(
        {"clients": CLIENTS, **merge(METHODS[method], {"graph": {"dim": named.graph.dim}})},
        resolved=True,
    )
    assert written_out.method == "sheafalign"
    assert written_out.digest() == named.digest()
    changed = of(method, objective={"temperature": 0.3})
    assert changed.digest() != named.digest()


def test_methods_that_differ_have_different_digests() -> None:
    assert len({of(method).digest() for method in METHODS}) == len(METHODS)


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["imagebnd", "", 3, None, ["paper"], {"paper": 1}])
def test_an_unknown_method_is_one_clear_line(method: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        of(method)
    assert "'method'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_line_about_an_unknown_method_names_those_that_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        of("imagebnd")
    assert all(name in str(caught.value) for name in METHODS)
    assert "imagebnd" in str(caught.value)


@pytest.mark.parametrize("section", ["graph", "maps", "objective", "training", "clients"])
@pytest.mark.parametrize("value", [None, 3, "x", [1]])
@pytest.mark.parametrize("method", METHODS)
def test_a_section_that_is_none_is_one_clear_line(method: str, section: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        of(method, **{section: value})
    assert section in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", GROUP)
@pytest.mark.parametrize(
    "change",
    [
        {"graph": {"topology": "star"}},
        {"graph": {"topology": "ring"}},
        {"maps": {"family": "linear"}},
        {"maps": {"family": "orthogonal"}},
    ],
)
def test_a_contrast_of_all_clients_needs_all_pairs_in_one_space(
    method: str, change: dict[str, Any]
) -> None:
    with pytest.raises(
        ConfigError, match=f"contrast '{GROUP[method]}' compares all clients with each other"
    ):
        of(method, **change)
    with pytest.raises(ConfigError, match="needs contrast: pairs"):
        of(method, objective={"learnable_temperature": True})
    of(method, **change, objective={"contrast": "pairs"})  # without it both are fine

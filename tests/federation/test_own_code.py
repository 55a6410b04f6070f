"""A user's own code on every axis, by dotted path and passed in, trains as what is built in."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from sheafalign_fl.codecs import FloatCodec
from sheafalign_fl.config import GraphSettings, Settings
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.errors import ConfigError, SheafAlignError
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.sheaf.group import centroid_loss
from sheafalign_fl.sheaf.maps import LinearMaps
from tests.conftest import toy_settings
from tests.toy import copying_encoder

HERE = "tests.federation.test_own_code"


class OwnFloat32(FloatCodec):
    """float32 by another name."""

    def __init__(self) -> None:
        super().__init__("own", "f4")


def own_ring(clients: Sequence[str], graph: GraphSettings, seed: int) -> Iterable[tuple[int, int]]:
    """Return a ring, written down in another order than the built-in one's."""
    return reversed([(index, (index + 1) % len(clients)) for index in range(len(clients))])


def beyond(clients: Sequence[str], graph: GraphSettings, seed: int) -> Iterable[tuple[int, int]]:
    """Return an edge to a client that there is not."""
    return [(0, len(clients))]


def no_maps(dim: int, edge_dim: int, initial: str) -> nn.Module:
    """Return what are no maps."""
    return nn.Linear(dim, edge_dim)


Axis = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
"""The same by a built-in name, by a dotted path, and as an object."""
AXES: dict[str, Axis] = {
    "codec": ({"codec": "float32"}, {"codec": f"{HERE}:OwnFloat32"}, {"codec": OwnFloat32}),
    "topology": (
        {"graph": {"topology": "ring"}},
        {"graph": {"topology": f"{HERE}:own_ring"}},
        {"graph": {"topology": own_ring}},
    ),
    "maps": (
        {"maps": {"family": "linear"}},
        {"maps": {"family": "sheafalign_fl.sheaf.maps:LinearMaps"}},
        {"maps": {"family": LinearMaps}},
    ),
    "optimiser": (
        {"training": {"optimiser": "sgd"}},
        {"training": {"optimiser": "torch.optim:SGD"}},
        {"training": {"optimiser": torch.optim.SGD}},
    ),
    "contrast": tuple(
        {
            "clients": {name: {"dim": 8} for name in ("m0", "m1", "m2")},
            "maps": {"family": "identity"},
            "objective": {"contrast": contrast},
        }
        for contrast in ("centroid", "sheafalign_fl.sheaf.group:centroid_loss", centroid_loss)
    ),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("axis", AXES)
def test_own_code_trains_to_the_same_bits_as_what_is_built_in(
    axis: str, run_folder: Callable[[Settings], RunFolder]
) -> None:
    digests = []
    for sections in AXES[axis]:
        run_inprocess(settings := toy_settings(**sections), folder := run_folder(settings))
        digests.append(folder.load_summary().weights_digest)
    assert digests[0] == digests[1] == digests[2]


def test_a_function_inside_a_function_can_be_an_encoder(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    def build(input_shape: Sequence[int], dim: int) -> nn.Module:
        return copying_encoder(input_shape, dim)

    digests = []
    for encoder in (build, "tests.toy:copying_encoder"):
        clients = {"m0": {"dim": 10, "encoder": encoder}, "m1": {"dim": 12}}
        run_inprocess(settings := toy_settings(clients=clients), folder := run_folder(settings))
        digests.append(folder.load_summary().weights_digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"graph": {"topology": f"{HERE}:beyond"}}, "names a client that there is not"),
        ({"maps": {"family": f"{HERE}:no_maps"}}, "not EdgeMaps"),
        ({"codec": f"{HERE}:own_ring"}, "is no codec"),
        ({"codec": f"{HERE}:absent"}, "has no callable 'absent'"),
        ({"codec": "no_such_package:x"}, "cannot be imported"),
    ],
)
def test_own_code_that_does_not_fit_is_refused_in_one_line(
    sections: dict[str, Any], reason: str, run_folder: Callable[[Settings], RunFolder]
) -> None:
    settings = toy_settings(**sections)
    with pytest.raises(SheafAlignError, match=reason):
        run_inprocess(settings, run_folder(settings))


@pytest.mark.parametrize(
    ("sections", "mend"),
    [
        ({"graph": {"topology": "rign"}}, "did you mean 'ring'"),
        ({"maps": {"family": "lineer"}}, "did you mean 'linear'"),
        ({"training": {"optimiser": "adams"}}, "did you mean 'adam"),
        ({"objective": {"contrast": "quads"}}, "known: pairs, centroid, volume|did you mean"),
    ],
)
def test_a_misspelling_is_mended_when_the_configuration_is_read(
    sections: dict[str, Any], mend: str
) -> None:
    with pytest.raises(ConfigError, match=mend):
        toy_settings(**sections)

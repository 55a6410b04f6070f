"""The handshake's content against slow set arithmetic, and every refusal."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.agreement import LISTS, ClientAgreement, Manifest, agree, decode_ids, encode_ids
from sheafalign_fl.config import Settings
from sheafalign_fl.errors import DataError, HandshakeError
from sheafalign_fl.manifest import client_data, describe
from sheafalign_fl.schedule import BatchSchedule
from sheafalign_fl.topology import build_topology
from tests.conftest import toy_settings


def manifests(settings_: Settings) -> dict[str, Manifest]:
    return {name: describe(name, settings_, client_data(name, settings_)) for name in settings_.clients}


@pytest.fixture(scope="module")
def toy() -> Settings:
    lacking = {"m0": 0.3, "m2": 0.2}
    return toy_settings(
        data={"source": "tests.toy:source", "options": {"lacking": lacking}},
        graph={"topology": "path", "dim": 4},
        evaluation={"every": 0, "events": 30, "train_events": 50},
    )


def test_lists_and_masks_equal_set_arithmetic(toy: Settings) -> None:
    topology, found = build_topology(toy), manifests(toy)
    agreement = agree(list(found.values()), toy, topology)
    for split in ("train", "validation", "test"):
        held = {name: set(manifest.events[split].tolist()) for name, manifest in found.items()}
        either = (held["m0"] & held["m1"]) | (held["m1"] & held["m2"])
        listed = agreement.lists[split]
        if split == "train":
            assert listed.tolist() == sorted(either)
        else:
            assert set(listed.tolist()) <= either
        for edge in topology.edges:
            slow = [event in held[edge.source] and event in held[edge.target] for event in listed.tolist()]
            assert agreement.shared(edge, split).tolist() == slow
    assert len(agreement.lists["test"]) == 30
    assert len(agreement.lists["validation"]) == 15
    assert set(agreement.lists["probe"].tolist()) <= set(agreement.lists["train"].tolist())
    assert agreement.label == "quadrant"


def test_what_a_client_is_told_survives_the_wire(toy: Settings) -> None:
    topology, found = build_topology(toy), manifests(toy)
    agreement = agree(list(found.values()), toy, topology)
    told = agreement.for_client("m1", topology)
    read = ClientAgreement.from_bytes(told.to_bytes())
    assert read.neighbours == {"m0": 4, "m2": 4}
    for name in LISTS:
        np.testing.assert_array_equal(read.lists[name], agreement.lists[name])
        for neighbour in read.neighbours:
            np.testing.assert_array_equal(read.shared[neighbour][name], told.shared[neighbour][name])


def test_a_manifest_survives_the_wire(toy: Settings) -> None:
    manifest = manifests(toy)["m0"]
    read = Manifest.from_bytes(manifest.to_bytes())
    assert replace(read, events={}) == replace(manifest, events={})
    for split, ids in manifest.events.items():
        np.testing.assert_array_equal(read.events[split], ids)
    with pytest.raises(HandshakeError, match="no readable manifest"):
        Manifest.from_bytes(manifest.to_bytes()[:-4])


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), st.lists(st.text(max_size=9), max_size=20))
@settings(deadline=None)
def test_event_ids_survive_the_wire(numbers: list[int], texts: list[str]) -> None:
    ids = np.array(numbers, dtype=np.int64)
    np.testing.assert_array_equal(decode_ids(encode_ids(ids)), ids)
    # NumPy's text arrays do not keep trailing NULs, on the wire or off it.
    words = np.array([text.replace("\0", "") for text in texts if text.isprintable()], dtype=np.str_)
    assert decode_ids(encode_ids(words)).tolist() == words.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "0.0.0"}, "software version is 0.0.0"),
        ({"protocol": 99}, "protocol version is 99"),
        ({"digest": "0" * 64}, "configuration digest is 0000"),
        ({"dim": 3}, "stalk dimension is 3, the relay's is 12"),
        ({"modality": "sonar"}, "modality is sonar"),
        ({"name": "m9"}, "names no such client"),
        ({"name": "m0", "modality": "m0", "dim": 10}, "claimed by two nodes"),
    ],
)
def test_a_client_that_does_not_fit_is_refused_with_the_reason(
    change: dict[str, Any], message: str, toy: Settings
) -> None:
    found = manifests(toy)
    found["m1"] = replace(found["m1"], **change)
    with pytest.raises(HandshakeError, match=message):
        agree(list(found.values()), toy, build_topology(toy))


def test_a_client_that_nobody_runs_is_named(toy: Settings) -> None:
    found = manifests(toy)
    with pytest.raises(HandshakeError, match="no node runs the client m2"):
        agree([found["m0"], found["m1"]], toy, build_topology(toy))


def test_events_and_labels_that_do_not_fit_are_named(toy: Settings) -> None:
    topology, found = build_topology(toy), manifests(toy)

    def refused(message: str, **change: Any) -> None:
        changed = {**found, "m2": replace(found["m2"], **change)}
        with pytest.raises(DataError, match=message):
            agree(list(changed.values()), toy, topology)

    events = found["m2"].events
    refused("use one kind", events={split: ids.astype(np.str_) for split, ids in events.items()})
    refused("no shared training events", events={split: -ids - 1 for split, ids in events.items()})
    few = np.intersect1d(events["train"], found["m1"].events["train"])[:5]
    refused("shares only 5 training", events={**events, "train": few})
    refused("fewer than 2 test", events={**events, "test": events["test"][:0]})
    refused("give the labels as integers", classes={"quadrant": ("b", "a", "c", "d")})


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3), st.integers(0, 200))
@settings(deadline=None)
def test_batches_are_epochs_without_repetition(count: int, size: int, seed: int, exchange: int) -> None:
    if size > count:
        with pytest.raises(ValueError, match="cannot be drawn"):
            BatchSchedule(count, size, seed)
        return
    schedule = BatchSchedule(count, size, seed)
    per_epoch = count // size
    first = exchange - exchange % per_epoch
    epoch = np.concatenate([schedule.positions(first + index) for index in range(per_epoch)])
    assert len(set(epoch.tolist())) == len(epoch) == per_epoch * size
    assert set(epoch.tolist()) <= set(range(count))
    np.testing.assert_array_equal(schedule.positions(exchange), BatchSchedule(count, size, seed).positions(exchange))


@pytest.mark.parametrize(("one", "other"), [("train", "test"), ("train", "validation"), ("validation", "test")])
@pytest.mark.parametrize("clients", [["m0", "m1"], ["m0", "m1", "m2", "m3"]])
def test_an_event_is_in_one_split_for_all_clients(one: str, other: str, clients: list[str]) -> None:
    """Else, if two clients fit on an event that two others are tested on, these would fit on it too."""
    settings_ = toy_settings(clients=clients)
    found = manifests(settings_)
    event = found["m0"].events[one][-1]
    for name in clients[len(clients) // 2 :]:
        events = {
            **found[name].events,
            one: found[name].events[one][:-1],
            other: np.union1d(found[name].events[other], [event]),
        }
        found[name] = replace(found[name], events=events)
    first, last = clients[0], clients[len(clients) // 2]
    with pytest.raises(DataError) as caught:
        agree(list(found.values()), settings_, build_topology(settings_))
    assert f"event {event} is for {one} at client '{first}' and for {other} at client '{last}'" in str(caught.value)
    assert "\n" not in str(caught.value)

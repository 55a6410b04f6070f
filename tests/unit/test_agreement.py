"""The handshake on federations made by hand: any graph, events, ids of both kinds; refusals."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.errors import DataError, HandshakeError
from sheafalign_fl.learner.manifest import client_data, describe
from sheafalign_fl.protocol.agreement import LISTS, Agreement, ClientAgreement
from sheafalign_fl.protocol.ids import decode_ids, encode_ids
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.negotiation import agree, check_manifest
from sheafalign_fl.protocol.topology import Topology, build_topology
from sheafalign_fl.protocol.verbs import PROTOCOL_VERSION
from sheafalign_fl.version import __version__
from tests.conftest import toy_settings

SPLITS = ("train", "validation", "test")
Held = dict[str, dict[str, set[Any]]]
"""Client -> split -> ids of its events."""


def array(ids: set[Any]) -> Any:
    """Return ids as a client would send them: sorted, of one kind."""
    kind = np.str_ if any(isinstance(event, str) for event in ids) else np.int64
    return np.array(sorted(ids), dtype=kind)


def manifest(name: str, chosen: Settings, held: Mapping[str, set[Any]], **changes: Any) -> Manifest:
    facts: dict[str, Any] = {
        "name": name,
        "modality": chosen.clients[name].modality,
        "dim": chosen.clients[name].dim,
        "encoder": "VectorEncoder",
        "parameters": 12,
        "device": "cpu",
        "input_shape": (3, 4),
        "notes": ("two rows dropped", "ü"),
        "labels": ("blocked",),
        "classes": {"blocked": ("no", "yes")},
        "version": __version__,
        "protocol": PROTOCOL_VERSION,
        "digest": chosen.digest(),
        "events": {split: array(held[split]) for split in SPLITS},
    }
    return Manifest(**{**facts, **changes})


@dataclass
class Federation:
    """Settings, the graph, who holds which events, and all manifests."""

    settings: Settings
    topology: Topology
    held: Held
    manifests: dict[str, Manifest]

    def agree(self) -> Agreement:
        return agree(list(self.manifests.values()), self.settings, self.topology)

    def refused(self, client: str, **changes: Any) -> str:
        """Return the reason why the federation does not come about if one manifest is changed."""
        others = [found for name, found in self.manifests.items() if name != client]
        with pytest.raises((HandshakeError, DataError)) as caught:
            agree(
                [*others, replace(self.manifests[client], **changes)], self.settings, self.topology
            )
        message = str(caught.value)
        assert len(message.splitlines()) == 1
        return f"{type(caught.value).__name__}: {message}"


def federation(held: Held, text: bool = False, **sections: Any) -> Federation:
    if text:
        held = {
            name: {split: {f"e{event}" for event in ids} for split, ids in by_split.items()}
            for name, by_split in held.items()
        }
    content: dict[str, Any] = {
        "clients": {name: {"dim": 4} for name in held},
        "training": {"batch_size": 2},
    }
    chosen = parse_settings({**content, **sections})
    found = {name: manifest(name, chosen, by_split) for name, by_split in held.items()}
    return Federation(chosen, build_topology(chosen), held, found)


@st.composite
def federations(draw: st.DrawFn) -> Federation:
    names = ["a", "b", "c", "d"][: draw(st.integers(2, 4))]
    # Events that everyone has, so that each edge shares a batch and 2 of any 28 test events; beside
    # them, anything.
    common = {"train": {0, 1, 2}, "validation": set(), "test": set(range(100, 130))}
    spare = {
        "train": st.integers(3, 40),
        "validation": st.integers(50, 90),
        "test": st.integers(130, 155),
    }
    held: Held = {
        name: {split: common[split] | draw(st.sets(spare[split], max_size=25)) for split in SPLITS}
        for name in names
    }
    return federation(
        held,
        text=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
        graph={"topology": draw(st.sampled_from(["complete", "ring", "path", "star"])), "dim": 3},
        evaluation={"events": draw(st.integers(28, 70)), "train_events": draw(st.integers(1, 30))},
    )


def either_edge(found: Federation, split: str) -> set[Any]:
    """Return the events that both ends of some edge have, one by one."""
    events: set[Any] = set()
    for edge in found.topology.edges:
        for event in found.held[edge.source][split]:
            if event in found.held[edge.target][split]:
                events.add(event)
    return events


@given(federations())
@settings(deadline=None, max_examples=80)
def test_lists_are_the_events_of_some_edge_and_samples_of_them(found: Federation) -> None:
    agreement = found.agree()
    evaluation = found.settings.evaluation
    assert agreement.lists["train"].tolist() == sorted(either_edge(found, "train"))
    sampled = {
        "probe": ("train", evaluation.train_events),
        "test": ("test", evaluation.events),
        "validation": ("validation", max(1, evaluation.events // 2)),
    }
    for name, (split, most) in sampled.items():
        drawn, whole = (
            agreement.lists[name].tolist(),  # type: ignore[index]
            either_edge(found, split),
        )
        assert drawn == sorted(set(drawn))
        assert set(drawn) <= whole
        assert len(drawn) == min(most, len(whole))
    assert agreement.label == "blocked"


@given(federations())
@settings(deadline=None, max_examples=60)
def test_masks_say_event_by_event_who_has_what(found: Federation) -> None:
    agreement = found.agree()
    for name in LISTS:
        split, events = ("train" if name == "probe" else name), agreement.lists[name].tolist()
        for client, by_split in found.held.items():
            assert agreement.has[client][name].tolist() == [
                event in by_split[split] for event in events
            ]
        for client in found.topology.clients:
            told = agreement.for_client(client, found.topology)
            assert dict(told.neighbours) == found.topology.neighbours(client)
            assert set(told.shared) == set(told.neighbours)
            for neighbour in told.neighbours:
                mine, theirs = found.held[client][split], found.held[neighbour][split]
                slow = [event in mine and event in theirs for event in events]
                assert told.shared[neighbour][name].tolist() == slow
                back = agreement.for_client(neighbour, found.topology).shared[client][name]
                assert back.tolist() == slow


@given(federations())
@settings(deadline=None, max_examples=40)
def test_the_order_of_the_manifests_does_not_matter(found: Federation) -> None:
    forth, back = (
        found.agree(),
        agree(list(found.manifests.values())[::-1], found.settings, found.topology),
    )
    for name in LISTS:
        np.testing.assert_array_equal(forth.lists[name], back.lists[name])


@given(federations())
@settings(deadline=None, max_examples=40)
def test_manifests_and_agreements_survive_the_wire(found: Federation) -> None:
    for name, sent in found.manifests.items():
        read = Manifest.from_bytes(sent.to_bytes())
        assert replace(read, events={}) == replace(sent, events={})
        assert read.events.keys() == sent.events.keys()
        for split in SPLITS:
            assert read.events[split].tolist() == sorted(found.held[name][split])
    agreement = found.agree()
    for client in found.topology.clients:
        told = agreement.for_client(client, found.topology)
        heard = ClientAgreement.from_bytes(told.to_bytes())
        assert heard.neighbours == told.neighbours
        assert list(heard.neighbours) == list(told.neighbours)  # the order of a client's parameters
        for list_name in LISTS:
            assert heard.lists[list_name].tolist() == told.lists[list_name].tolist()
            for neighbour in told.neighbours:
                mask = heard.shared[neighbour][list_name]
                assert mask.dtype == np.bool_
                assert mask.tolist() == told.shared[neighbour][list_name].tolist()


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    st.lists(st.text(max_size=9), max_size=20),
)
@settings(deadline=None)
def test_event_ids_survive_the_wire(numbers: list[int], texts: list[str]) -> None:
    ids = np.array(numbers, dtype=np.int64)
    np.testing.assert_array_equal(decode_ids(encode_ids(ids)), ids)
    # NumPy's text arrays do not keep trailing NULs, on the wire or off it.
    words = np.array(
        [text.replace("\0", "") for text in texts if text.isprintable()], dtype=np.str_
    )
    assert decode_ids(encode_ids(words)).tolist() == words.tolist()


def test_the_manifest_of_a_client_survives_the_wire_and_fits() -> None:
    chosen = toy_settings()
    found = {name: describe(name, chosen, client_data(name, chosen)) for name in chosen.clients}
    for sent in found.values():
        read = Manifest.from_bytes(sent.to_bytes())
        assert replace(read, events={}) == replace(sent, events={})
        check_manifest(read, chosen)
    assert agree(list(found.values()), chosen, build_topology(chosen)).label == "quadrant"


@given(st.lists(st.booleans(), max_size=70))
@settings(deadline=None)
def test_masks_of_any_length_survive_the_wire(mask: list[bool]) -> None:
    ids = np.arange(len(mask), dtype=np.int64)
    told = ClientAgreement(
        {"b": 1}, {"train": ids}, {"b": {"train": np.array(mask, dtype=np.bool_)}}
    )
    assert ClientAgreement.from_bytes(told.to_bytes()).shared["b"]["train"].tolist() == mask


def plenty(count: int = 400, **sections: Any) -> Federation:
    events: dict[str, set[Any]] = {
        split: set(range(k * count, (k + 1) * count)) for k, split in enumerate(SPLITS)
    }
    return federation({"a": dict(events), "b": dict(events), "c": dict(events)}, **sections)


def test_samples_come_from_the_seed() -> None:
    small = {"events": 20, "train_events": 20}
    drawn = [plenty(evaluation=small, seed=seed).agree().lists for seed in (0, 0, 1)]
    for name in ("probe", "test", "validation"):
        assert drawn[0][name].tolist() == drawn[1][name].tolist() != drawn[2][name].tolist()
    assert drawn[0]["train"].tolist() == drawn[2]["train"].tolist()


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours", "taken"),
    [
        ("0.1.0", "0.1.0", True),
        ("0.1.0", "0.1.9", True),
        ("0.1.9", "0.1.0", True),
        ("0.1.1.post2", "0.1.1", True),
        ("0.2.0", "0.1.0", False),
        ("0.1.0", "0.2.0", False),
        ("1.1.0", "0.1.0", False),
        ("0.10.0", "0.1.0", False),
    ],
)
def test_releases_of_one_series_work_together_as_docs_deployment_says(
    theirs: str, ours: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sheafalign_fl.protocol.negotiation.__version__", ours)
    fits = plenty()
    found = replace(fits.manifests["b"], version=theirs)
    if taken:
        check_manifest(found, fits.settings)
    else:
        with pytest.raises(HandshakeError, match=f"its software version is {theirs}, .* is {ours}"):
            check_manifest(found, fits.settings)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"version": "9.9"},
            "HandshakeError: client 'b' is refused: its software version is 9.9, the relay's is",
        ),
        (
            {"protocol": 7},
            "HandshakeError: client 'b' is refused: its protocol version is 7, the relay's is",
        ),
        (
            {"digest": "f" * 64},
            "HandshakeError: client 'b' is refused: its configuration digest is ffff",
        ),
        (
            {"dim": 5},
            "HandshakeError: client 'b' is refused: its stalk dimension is 5, the relay's is 4",
        ),
        (
            {"modality": "sonar"},
            "HandshakeError: client 'b' is refused: its modality is sonar, the relay's is b",
        ),
        (
            {"name": "z"},
            "HandshakeError: client 'z' is refused: the configuration names no such client",
        ),
        ({"name": "a", "modality": "a"}, "HandshakeError: client 'a' is claimed by two nodes"),
        (
            {"classes": {"blocked": ("yes", "no")}},
            "DataError: the label 'blocked' has the classes yes, no for client 'b'",
        ),
    ],
)
def test_a_client_that_does_not_fit_is_named_with_the_reason(
    changes: dict[str, Any], reason: str
) -> None:
    assert plenty().refused("b", **changes).startswith(reason)


def test_all_clients_that_nobody_runs_are_named() -> None:
    found = plenty()
    for present, message in (
        (["b"], "no node runs the clients a, c$"),
        (["a", "b"], "no node runs the client c$"),
    ):
        with pytest.raises(HandshakeError, match=message):
            agree([found.manifests[name] for name in present], found.settings, found.topology)


def test_a_client_claimed_twice_is_refused_even_if_all_are_there() -> None:
    found = plenty()
    with pytest.raises(HandshakeError, match="client 'b' is claimed by two nodes"):
        agree([*found.manifests.values(), found.manifests["b"]], found.settings, found.topology)


def test_ids_of_two_kinds_are_refused_and_both_clients_named() -> None:
    found = plenty()
    words = {split: ids.astype(np.str_) for split, ids in found.manifests["b"].events.items()}
    reason = found.refused("b", events=words)
    assert "event ids of client 'b' are text" in reason
    assert "those of 'a' are integers" in reason


def test_a_split_without_events_does_not_make_ids_of_another_kind() -> None:
    held: Held = {
        name: {"train": {1, 2, 3}, "validation": set(), "test": {7, 8}} for name in ("a", "b")
    }
    found = federation(held, text=True)
    assert (
        found.manifests["a"].events["validation"].dtype.kind == "i"
    )  # an empty array of the other kind
    assert found.agree().lists["train"].tolist() == ["e1", "e2", "e3"]


@pytest.mark.parametrize(("shared", "size"), [(0, 2), (1, 2), (9, 10)])
def test_a_batch_larger_than_what_an_edge_shares_is_refused(shared: int, size: int) -> None:
    found = plenty(training={"batch_size": size})
    events = dict(found.manifests["c"].events)
    events["train"] = np.array([*range(shared), *range(-50, 0)], dtype=np.int64)
    events["train"].sort()
    reason = found.refused("c", events=events)
    assert "the edge a-c" in reason
    assert (
        "no shared training events" if shared == 0 else f"shares only {shared} training events"
    ) in reason
    events["train"] = np.arange(size, dtype=np.int64)
    agree(
        [found.manifests["a"], found.manifests["b"], replace(found.manifests["c"], events=events)],
        found.settings,
        found.topology,
    )


def test_an_edge_without_test_events_cannot_be_measured() -> None:
    found = plenty()
    events = {**found.manifests["c"].events, "test": found.manifests["a"].events["test"][:1]}
    assert "the edge a-c shares fewer than 2 test events" in found.refused("c", events=events)


@pytest.mark.parametrize(
    "metrics", [["transfer"], ["probe"], ["missing"], ["probe", "transfer", "missing"]]
)
def test_metrics_that_need_labels_are_refused_where_there_are_none(metrics: list[str]) -> None:
    found = plenty(evaluation={"metrics": metrics})
    found.manifests = {
        name: replace(sent, labels=(), classes={}) for name, sent in found.manifests.items()
    }
    with pytest.raises(DataError) as caught:
        found.agree()
    assert f"{', '.join(metrics)} need labels but no client has any" in str(caught.value)


def test_metrics_that_need_no_labels_do_without() -> None:
    found = plenty(evaluation={"metrics": ["retrieval", "consistency"]})
    found.manifests = {
        name: replace(sent, labels=(), classes={}) for name, sent in found.manifests.items()
    }
    assert found.agree().label is None


def test_the_label_is_the_one_asked_for_or_one_that_both_ends_of_an_edge_have() -> None:
    labels: dict[str, dict[str, Any]] = {
        "a": {"labels": (), "classes": {}},
        "b": {"labels": ("speed", "blocked"), "classes": {"blocked": ("no", "yes")}},
        "c": {"labels": ("blocked",), "classes": {}},
    }

    def label(**evaluation: Any) -> str | None:
        found = plenty(evaluation=evaluation)
        found.manifests = {
            name: replace(sent, **labels[name]) for name, sent in found.manifests.items()
        }
        return found.agree().label

    assert label() == "blocked"  # 'speed' comes first, but c does not know it
    labels["c"]["labels"] = ("blocked", "speed")
    assert label() == "speed"
    assert label(label="blocked") == "blocked"
    with pytest.raises(
        DataError, match=r"no client has a label 'colour'; the data has speed, blocked$"
    ):
        label(label="colour")


def test_a_sample_too_small_for_an_edge_is_named_as_the_reason() -> None:
    """Edge a-c shares three test events, but only 50 are drawn of the 2,003 that edges share."""
    test = {"a": set(range(1000, 3000)) | {1, 2, 3}, "b": set(range(1000, 3000)), "c": {1, 2, 3}}
    held: Held = {
        name: {"train": {10, 11, 12}, "validation": set(), "test": ids}
        for name, ids in test.items()
    }
    graph = {"topology": "edges", "edges": [{"between": ["a", "b"]}, {"between": ["a", "c"]}]}
    with pytest.raises(
        DataError,
        match=r"^evaluation\.events: 50 samples only [01] of the 3 test events .* edge a-c ",
    ):
        federation(held, graph=graph, evaluation={"events": 50}).agree()
    whole = federation(held, graph=graph, evaluation={"events": 2003})
    assert whole.agree().shared(whole.topology.edges[1], "test").sum() == 3


@pytest.mark.parametrize("text", [False, True], ids=["integers", "text"])
@pytest.mark.parametrize(
    ("one", "other"), [("train", "test"), ("train", "validation"), ("validation", "test")]
)
def test_an_event_in_two_splits_is_refused_with_all_that_is_needed_to_find_it(
    one: str, other: str, text: bool
) -> None:
    held: Held = {
        name: {"train": {1, 2, 3}, "validation": {4, 5}, "test": {6, 7}} for name in ("a", "b", "c")
    }
    held["a"] = {**held["a"], one: held["a"][one] | {8, 9}}
    held["c"] = {**held["c"], other: held["c"][other] | {8, 9, 10}}
    # a and c are no neighbours: b would still carry what c has learnt of the event to a.
    with pytest.raises(DataError) as caught:
        federation(held, text=text, graph={"topology": "path"}).agree()
    event = "e8" if text else "8"
    assert str(caught.value) == (
        f"2 events are in different splits for different clients (first: {event}, which is in "
        f"{one} for 'a' but in "
        f"{other} for 'c'); an event must be in the same split for all clients"
    )


def test_an_event_in_three_splits_is_counted_once() -> None:
    held: Held = {
        name: {"train": {1, 2, 3}, "validation": {4, 5}, "test": {6, 7}} for name in ("a", "b", "c")
    }
    for name, split in zip(held, SPLITS, strict=True):
        held[name] = {**held[name], split: held[name][split] | {9}}
    with pytest.raises(
        DataError, match=r"^1 event is in different .*: 9, which is in train for 'a' but in val"
    ):
        federation(held).agree()


# ---- what comes off the wire ---------------------------------------------------------------------


def rewritten(sent: Manifest, **changes: Any) -> bytes:
    """Return the bytes of a manifest with fields of its JSON replaced; None leaves a field out."""
    facts = {**json.loads(zlib.decompress(sent.to_bytes())), **changes}
    return zlib.compress(
        json.dumps({name: value for name, value in facts.items() if value is not None}).encode()
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"name": None},
        {"name": ["a"]},
        {"events": None},
        {"surplus": 3},
        {"events": {"train": "zz"}},
        {"events": {"train": "69"}},
        {"events": {"train": "69ff"}},
        {"events": [1]},
        {"events": {split: (b"U" + b'[["x"]]').hex() for split in SPLITS}},
        {"classes": ["x"]},
        {"labels": 3},
        {"input_shape": True},
    ],
)
def test_a_manifest_that_lacks_or_garbles_a_field_is_not_read(changes: dict[str, Any]) -> None:
    with pytest.raises(HandshakeError, match="no readable manifest"):
        Manifest.from_bytes(rewritten(plenty(9).manifests["a"], **changes))


@pytest.mark.parametrize(
    "content", [b"", b"x", zlib.compress(b"["), zlib.compress(b"[]"), zlib.compress(b"3")]
)
def test_bytes_that_are_no_manifest_are_not_read(content: bytes) -> None:
    with pytest.raises(HandshakeError, match="no readable manifest"):
        Manifest.from_bytes(content)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_truncated_manifest_is_not_read(data: st.DataObject) -> None:
    whole = plenty(20).manifests["a"].to_bytes()
    with pytest.raises(HandshakeError):
        Manifest.from_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_without_labels_what_needs_none_is_measured() -> None:
    found = plenty(evaluation={"metrics": ["retrieval", "probe", "missing", "consistency"]})
    labelled = found.agree()
    found.manifests = {
        name: replace(sent, labels=(), classes={}) for name, sent in found.manifests.items()
    }
    asked = found.settings.evaluation.metrics
    assert labelled.measured(asked) == asked
    assert found.agree().measured(asked) == ("retrieval", "consistency")


def test_why_an_edge_has_no_test_events_is_what_its_clients_say() -> None:
    found = plenty()
    events = {**found.manifests["c"].events, "test": np.array([], dtype=np.int64)}
    notes = ("no validation events: x", "no test events: the recording is 3 s long")
    reason = found.refused("c", events=events, notes=notes)
    assert reason.endswith("on it (c: no test events: the recording is 3 s long)")

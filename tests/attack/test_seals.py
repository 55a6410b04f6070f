"""With seals, what a client answers follows from what it agreed to, never from a message.

Every attack here speaks to the real ClientApp with real keys. The first one gave embeddings and
labels away, bit for bit, when a message could name the metrics.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sheafalign_fl.protocol.agreement import LEAST_SEALED, ClientAgreement, ListName
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.messages import Scalar
from sheafalign_fl.protocol.negotiation import agree
from sheafalign_fl.protocol.rows import unpack_losses
from sheafalign_fl.protocol.verbs import (
    AGREE,
    DESCRIBE,
    EVALUATE_EMBED,
    EVALUATE_SCORE,
    EXCHANGE,
    FINISH,
)
from tests.attack.lying_relay import SECRET, LyingRelay, inverted, sealed_settings

MISSING = {"metrics": "missing", "list": "test", "projection": "m1"}
LABELS = {"labels": '["quadrant"]', "edge_labels": '{"m1": "quadrant"}'}


@pytest.fixture
def relay(tmp_path: Path) -> LyingRelay:
    """Return a relay whose clients have agreed to a sealed run."""
    made = LyingRelay(sealed_settings(), tmp_path)
    made.handshake()
    return made


def trained(relay: LyingRelay) -> None:
    for _ in relay.whole_run(finish=False):
        pass


def refusal(answer: tuple[Mapping[str, Scalar], Mapping[str, bytes]]) -> str:
    """Return why a client refuses; the answer holds nothing else."""
    fields, frames = answer
    assert set(fields) == {"failed", "exit_code"}
    assert not frames
    return str(fields["failed"])


def test_a_message_that_asks_for_embeddings_is_refused_and_scores_are_those_agreed_on(
    relay: LyingRelay,
) -> None:
    trained(relay)
    when: dict[str, Scalar] = {"exchange": 4, "final": True}
    sent = relay.everybody(EVALUATE_EMBED, when)
    for answer in relay.everybody(EVALUATE_SCORE, when | MISSING | LABELS, sent).values():
        assert "evaluation order that cannot be read" in refusal(answer)
    for fields, frames in relay.everybody(EVALUATE_SCORE, when, sent).values():
        assert set(fields) == {"scores"}
        assert not frames
        scores = json.loads(str(fields["scores"]))
        assert {metric for metric, rows in scores.items() if rows} == {"retrieval", "probe"}


def test_nothing_unsealed_leaves_in_a_whole_run_but_scores_losses_and_times(
    relay: LyingRelay,
) -> None:
    allowed: dict[str, set[str]] = {
        EXCHANGE: {"timing", "losses"},
        EVALUATE_EMBED: set(),
        EVALUATE_SCORE: {"scores"},
        FINISH: {"digest"},
    }
    seen = 0
    for verb, (fields, frames) in relay.whole_run():
        assert set(fields) <= allowed[verb]
        assert all(Frame.unpack(packed).seal for packed in frames.values())
        packed = fields.get("losses")
        losses = unpack_losses("m0", packed) if isinstance(packed, bytes) else []
        assert all(len(loss.terms) == 5 for loss in losses)
        rows = json.loads(str(fields.get("scores", "{}")))
        assert all(
            isinstance(value, float | int | None) or name in ("source", "target", "client")
            for group in rows.values()
            for row in group
            for name, value in row.items()
        )
        seen += len(frames)
    assert seen == 4 * (1 + 3 + 3)  # four directed edges: first, three more, three evaluations


@pytest.mark.parametrize("verb", [EVALUATE_EMBED, EVALUATE_SCORE])
@pytest.mark.parametrize(
    "when",
    [
        {"exchange": 4, "final": True, "early": True},
        {"exchange": 3, "final": False},
        {"exchange": 0, "final": False},
        {"exchange": 6, "final": False},
        {"exchange": -2, "final": False},
        {"exchange": 2, "final": True},
        {"exchange": 2, "list": "train"},
        {"exchange": "2", "final": False},
        {"exchange": True, "final": True},
        {},
    ],
    ids=str,
)
def test_evaluations_that_are_not_due_are_refused(
    relay: LyingRelay, verb: str, when: dict[str, Scalar]
) -> None:
    fields = {name: value for name, value in when.items() if name != "early"}
    if "early" in when:  # after the run's end there is no way back to an earlier one
        trained(relay)
        fields = {"exchange": 2, "final": False}
    assert "evaluation" in refusal(relay.ask("m0", verb, fields))


@pytest.mark.parametrize("fields", [{"embed": 4}, {"step": 4}, {"checkpoint": 5}, {"restore": 9}])
def test_exchanges_that_the_run_does_not_have_are_refused(
    relay: LyingRelay, fields: dict[str, Scalar]
) -> None:
    assert "beyond the run's 4 exchanges" in refusal(relay.ask("m0", EXCHANGE, fields))


def test_an_exchange_that_is_past_is_not_embedded_again(relay: LyingRelay) -> None:
    trained(relay)
    assert "which is past" in refusal(relay.ask("m0", EXCHANGE, {"embed": 1}))


# ---- the run that was agreed on ------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb", [DESCRIBE, AGREE, EXCHANGE, EVALUATE_EMBED, EVALUATE_SCORE, FINISH]
)
def test_a_node_with_keys_does_nothing_for_a_run_without_seals(tmp_path: Path, verb: str) -> None:
    """Not only the handshake's first question asks for it: a relay may leave that one out."""
    relay = LyingRelay(sealed_settings(), tmp_path)
    agreement = relay.handshake().for_client("m0", relay.topology)
    relay.configure(sealed_settings(security={"sealed": False}))
    fields: dict[str, Scalar] = {"agreement": agreement.to_bytes(), "folder": "x", "run": "run"}
    when: dict[str, Scalar] = {"exchange": 2, "final": False}
    fields |= {"embed": 0} if verb == EXCHANGE else when
    assert "sealed runs only" in refusal(relay.ask("m0", verb, fields))


@pytest.mark.parametrize(
    "other",
    [{"seed": 5}, {"evaluation": {"metrics": ["retrieval", "transfer"]}}, {"codec": "float64"}],
    ids=str,
)
def test_settings_that_change_after_the_handshake_are_refused(
    relay: LyingRelay, other: dict[str, Any]
) -> None:
    relay.configure(sealed_settings(**other))
    assert "agreed to is another one" in refusal(relay.ask("m0", EXCHANGE, {"embed": 0}))


def test_a_restarted_client_keeps_to_the_settings_that_it_agreed_to(relay: LyingRelay) -> None:
    relay.contexts["m0"].state.config_records.clear()
    assert relay.ask("m0", EXCHANGE, {"embed": 0})[1]
    relay.contexts["m0"].state.config_records.clear()
    relay.configure(sealed_settings(seed=5))
    assert "agreed to is another one" in refusal(relay.ask("m0", EXCHANGE, {"embed": 0}))


def test_one_agreement_a_run(tmp_path: Path) -> None:
    """A second one set weights back and let frames open that had been opened before."""
    relay = LyingRelay(sealed_settings(), tmp_path)
    agreed = relay.handshake().for_client("m1", relay.topology)
    sent = relay.everybody(EXCHANGE, {"embed": 0})
    stepped = relay.everybody(EXCHANGE, {"step": 0, "embed": 1}, sent)
    assert relay.tell("m1", agreed) == ({}, {})  # asked twice: nothing changes
    again = relay.ask("m1", EXCHANGE, {"step": 0, "embed": 1}, {"m0": sent["m0"][1]["m1"]})[0]
    assert again["losses"] == stepped["m1"][0]["losses"]  # told from memory, not stepped again
    other = replace(agreed, nonces={**agreed.nonces, "m0": "ab" * 16})
    assert "one handshake a run" in refusal(relay.tell("m1", other))
    assert "one handshake a run" in refusal(relay.tell("m1", agreed, run="1" * 32))


# ---- agreements that lie -------------------------------------------------------------------------


def _lists(agreement: ClientAgreement, lists: Mapping[ListName, Any]) -> ClientAgreement:
    """Return the agreement with other lists, all of which everybody is said to have."""
    changed: dict[ListName, Any] = {**agreement.lists, **lists}
    shared = {
        peer: {name: np.ones(len(ids), dtype=np.bool_) for name, ids in changed.items()}
        for peer in agreement.shared
    }
    return replace(agreement, lists=changed, shared=shared)


LIES: dict[str, Callable[[ClientAgreement], ClientAgreement]] = {
    "another neighbour": lambda a: replace(a, neighbours={**a.neighbours, "m2": 8}),
    "another dimension": lambda a: replace(a, neighbours={"m1": 10}),
    "no neighbour": lambda a: replace(a, neighbours={}),
    "a stranger": lambda a: replace(a, shared={**a.shared, "m2": a.shared["m1"]}),
    "an unknown label": lambda a: replace(a, labels=("quadrant", "diagnosis")),
    "an edge's own label": lambda a: replace(a, labels=(), edge_labels={"m1": "quadrant"}),
    "a stranger's label": lambda a: replace(a, edge_labels={"m2": "quadrant"}),
    "test events to train on": lambda a: _lists(a, {"train": a.lists["test"]}),
    "training events to test on": lambda a: _lists(a, {"test": a.lists["train"][:60]}),
    "other events for the probe": lambda a: _lists(a, {"probe": a.lists["train"][:20]}),
    "events twice": lambda a: _lists(a, {"test": np.repeat(a.lists["test"], 2)}),
    "unsorted events": lambda a: _lists(a, {"test": a.lists["test"][::-1]}),
    "too many events": lambda a: _lists(a, {"test": np.arange(1_000_000, 1_000_200)}),
    "events that it lacks": lambda a: _lists(a, {"test": np.arange(1_000_000, 1_000_050)}),
    "masks the other way round": inverted,
}


@pytest.mark.parametrize("lie", LIES)
def test_agreements_that_the_settings_do_not_provide_for_are_refused(
    tmp_path: Path, lie: str
) -> None:
    settings = sealed_settings(options={"lacking": {"m0": 0.2}})
    relay = LyingRelay(settings, tmp_path)
    told = [relay.ask(client, DESCRIBE)[0]["manifest"] for client in relay.contexts]
    manifests = [Manifest.from_bytes(data) for data in told if isinstance(data, bytes)]
    agreed = agree(manifests, settings, relay.topology).for_client("m0", relay.topology)
    assert "agree" in refusal(relay.tell("m0", LIES[lie](agreed)))


def test_a_label_that_was_not_asked_for_is_not_used(tmp_path: Path) -> None:
    relay = LyingRelay(sealed_settings(evaluation={"label": "other"}), tmp_path)
    manifest = relay.ask("m0", DESCRIBE)[0]["manifest"]
    assert isinstance(manifest, bytes)
    others = sealed_settings()
    honest = LyingRelay(others, tmp_path / "honest").handshake().for_client("m0", relay.topology)
    assert "scores client 'm0' by quadrant" in refusal(relay.tell("m0", honest))


def test_where_edges_are_sealed_nobody_but_a_neighbour_is_sent_an_embedding(tmp_path: Path) -> None:
    clients = {name: {"dim": 8} for name in ("m0", "m1", "m2")}
    settings = sealed_settings(clients=clients, maps={"family": "identity"})
    relay = LyingRelay(settings, tmp_path)
    assert relay.handshake().non_neighbours == ()
    sent = relay.everybody(EVALUATE_EMBED, {"exchange": 2, "final": False})
    assert {client: set(frames) for client, (_, frames) in sent.items()} == {
        "m0": {"m1"}, "m1": {"m0", "m2"}, "m2": {"m1"},
    }  # fmt: skip


def test_a_score_of_few_events_would_tell_of_each_and_is_not_given(tmp_path: Path) -> None:
    """The relay says that the others have few of the test events, which no client can check."""
    relay = LyingRelay(sealed_settings(), tmp_path)
    told = [relay.ask(client, DESCRIBE)[0]["manifest"] for client in relay.contexts]
    manifests = [Manifest.from_bytes(data) for data in told if isinstance(data, bytes)]
    agreed = agree(manifests, relay.settings, relay.topology)
    few = agreed.lists["test"][: LEAST_SEALED - 1]
    for client in relay.contexts:
        honest = agreed.for_client(client, relay.topology)
        assert relay.tell(client, _lists(honest, {"test": few})) == ({}, {})
    answers = [fields for verb, (fields, _) in relay.whole_run() if verb == EVALUATE_SCORE]
    scores = [json.loads(str(fields["scores"])) for fields in answers]
    rows = [row for groups in scores for group in groups.values() for row in group]
    assert rows  # of validation events, of which there are enough
    assert all(row.get("events", 50) >= LEAST_SEALED for row in rows)
    for groups in scores[-len(relay.contexts) :]:  # the last evaluation is on test events
        assert not any(groups.values())


# ---- texts ---------------------------------------------------------------------------------------


def test_the_manifest_says_nothing_of_the_data_but_ids_and_sizes(tmp_path: Path) -> None:
    relay = LyingRelay(sealed_settings(), tmp_path)
    data = relay.ask("m0", DESCRIBE)[0]["manifest"]
    assert isinstance(data, bytes)
    manifest = Manifest.from_bytes(data)
    assert SECRET not in repr(manifest)
    assert manifest.notes == ()
    assert len(manifest.classes["quadrant"]) == 1


@pytest.mark.parametrize("fault", ["foreseen", "unforeseen"])
def test_errors_of_the_data_stay_in_the_node_s_own_log(
    tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    relay = LyingRelay(sealed_settings(options={"fault": fault}), tmp_path)
    reason = refusal(relay.ask("m0", DESCRIBE))
    assert "client 'm0' cannot go on" in reason
    assert SECRET not in reason
    assert "/home" not in reason
    assert SECRET in caplog.text


def test_no_path_of_the_machine_is_told(relay: LyingRelay, tmp_path: Path) -> None:
    (tmp_path / "state" / "m0" / "sessions").rename(tmp_path / "elsewhere")
    relay.contexts["m0"].node_config["keys"] = str(tmp_path / "keys" / "clients" / "m1")
    relay.contexts["m0"].state.config_records.clear()
    sessions = tmp_path / "state" / "m0" / "sessions"
    sessions.mkdir()
    (sessions / f"{relay.contexts['m0'].run_id}.json").write_text("{")
    reason = refusal(relay.ask("m0", EXCHANGE, {"embed": 0}))
    assert str(tmp_path) not in reason

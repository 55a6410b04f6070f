"""Going on learning: from another run's weights, with frozen clients, and longer than was asked."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sheafalign_fl.config import Settings
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.engines.launch import resume
from sheafalign_fl.engines.pooled import run_pooled
from sheafalign_fl.errors import ConfigError, HandshakeError, UserError
from sheafalign_fl.learner.node import Node
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings
from tests.federation.oracle import joint_training, largest_difference
from tests.federation.runs import SMALL, final_weights, training_payload

pytestmark = pytest.mark.slow

MakeFolder = Callable[[Settings], RunFolder]
EXACT: dict[str, Any] = {
    "graph": {"topology": "complete", "dim": 5},
    "codec": "float64",
}
THREE = {"m0": {"dim": 10}, "m1": {"dim": 12}, "m2": {"dim": 14}}


def exact(clients: dict[str, Any], exchanges: int, **more: Any) -> Settings:
    training = {"exchanges": exchanges, "batch_size": 32, "dtype": "float64"}
    return toy_settings(**{**EXACT, "clients": clients, "training": training, **more})


@pytest.fixture
def earlier(run_folder: MakeFolder) -> RunFolder:
    """A run of three clients that has learnt for a while."""
    settings = exact(THREE, 8)
    run_inprocess(settings, folder := run_folder(settings))
    return folder


def run(settings: Settings, run_folder: MakeFolder) -> RunFolder:
    """Run settings as a launcher does: with what a check knows of them."""
    settings = check(settings).settings
    run_inprocess(settings, folder := run_folder(settings))
    return folder


def still(clients: dict[str, Any], *names: str) -> dict[str, Any]:
    return {n: {**c, **({"freeze": True} if n in names else {})} for n, c in clients.items()}


def test_without_an_exchange_the_weights_are_those_of_the_other_run(
    earlier: RunFolder, run_folder: MakeFolder
) -> None:
    begun = run(exact(THREE, 0, init_from=str(earlier.path)), run_folder)
    one, other = earlier.load_summary(), begun.load_summary()
    assert one.weights_digest == other.weights_digest
    assert [client.start for client in other.clients] == [f"{earlier.path.name}, 8 exchanges"] * 3


CASES: dict[str, tuple[dict[str, Any], tuple[str, ...], dict[str, Any]]] = {
    "nobody frozen": (THREE, (), {}),
    "one of three": (THREE, ("m1",), {}),
    "a fourth sensor": ({**THREE, "m3": {"dim": 9}}, ("m0", "m1", "m2"), {}),
    "a fourth and one that moves": ({**THREE, "m3": {"dim": 9}}, ("m0", "m2"), {}),
    "missing events": (
        {**THREE, "m3": {"dim": 9}},
        ("m0", "m2"),
        {"data": {"source": "tests.toy:source", "options": {"lacking": {"m0": 0.2, "m3": 0.3}}}},
    ),
    "clipped adamw": (
        {**THREE, "m3": {"dim": 9}},
        ("m0",),
        {
            "training": {
                "exchanges": 5, "batch_size": 32, "dtype": "float64", "clip": 0.3,
                "optimiser": "adamw", "weight_decay": 0.1,
            },
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "exchanges"), [("a fourth sensor", 1), *((case, 5) for case in CASES)]
)
def test_going_on_equals_joint_training_without_the_gradients_of_frozen_clients(
    case: str, exchanges: int, earlier: RunFolder, run_folder: MakeFolder
) -> None:
    clients, frozen, more = CASES[case]
    settings = exact(still(clients, *frozen), exchanges, init_from=str(earlier.path), **more)
    start = final_weights(earlier.settings(), earlier)
    found = final_weights(settings, folder := run(settings, run_folder))
    assert largest_difference(found, joint_training(settings, start)) <= 1e-12
    for client in frozen:
        for name, value in start[client].items():
            assert found[client][name].equal(value), (client, name)
    # Who is not frozen has moved, and so have a frozen client's maps towards somebody new.
    for client in set(clients) - set(frozen):
        names = [name for name in found[client] if name in start.get(client, {})]
        assert not all(found[client][n].equal(start[client][n]) for n in names) or not names
    if "m3" in clients and frozen:
        untrained = joint_training(exact(clients, 0), start)
        assert not found[frozen[0]]["maps.m3.P"].equal(untrained[frozen[0]]["maps.m3.P"])
    sent = training_payload(folder)
    assert {source for _, source, _ in sent} == set(clients)  # frozen ones send too


def test_a_frozen_client_s_digest_is_that_of_before(
    earlier: RunFolder, run_folder: MakeFolder
) -> None:
    settings = exact(still(THREE, "m0", "m2"), 5, init_from=str(earlier.path))
    before, after = earlier.load_summary(), run(settings, run_folder).load_summary()
    same = {n for n in THREE if before.weights_digest[n] == after.weights_digest[n]}
    assert same == {"m0", "m2"}


@pytest.mark.parametrize("freeze", [True, False])
def test_a_frozen_encoder_drops_nothing(freeze: bool) -> None:
    noisy = {"encoder": "tests.toy:dropout_encoder", "dim": 9, "freeze": freeze}
    checked = check(toy_settings(clients={"m0": noisy, "m1": {}}))
    theirs = checked.agreement.for_client("m0", checked.topology)
    node = Node("m0", checked.settings, checked.data["m0"], theirs)
    one, other = (node.encode(np.arange(20), exchange) for exchange in (0, 1))
    assert one.equal(other) == freeze


def test_an_edge_s_learnt_temperature_rests_if_one_end_is_frozen(run_folder: MakeFolder) -> None:
    objective = {"learnable_temperature": True}
    first = run(exact(THREE, 4, objective=objective), run_folder)
    clients = still({**THREE, "m3": {"dim": 9}}, "m0")
    settings = exact(clients, 4, objective=objective, init_from=str(first.path))
    found = final_weights(settings, run(settings, run_folder))
    start = final_weights(first.settings(), first)
    for i, j in [("m0", "m1"), ("m1", "m0"), ("m2", "m0"), ("m0", "m2")]:
        name = f"maps.{j}.log_temperature"
        assert found[i][name].equal(start[i][name])
    for i, j in [("m1", "m2"), ("m0", "m3"), ("m1", "m3")]:  # learnt, and equal at both ends
        one, other = (found[a][f"maps.{b}.log_temperature"] for a, b in ((i, j), (j, i)))
        assert abs(float(one - other)) <= 1e-12
    assert not found["m1"]["maps.m2.log_temperature"].equal(start["m1"]["maps.m2.log_temperature"])


def test_pooled_training_freezes_the_same_weights(
    earlier: RunFolder, run_folder: MakeFolder
) -> None:
    clients = still({**THREE, "m3": {"dim": 9}}, "m0", "m1", "m2")
    settings = exact(clients, 4, init_from=str(earlier.path))
    federated = final_weights(settings, run(settings, run_folder))
    pooled = check(settings.model_copy(update={"engine": "pooled"})).settings
    run_pooled(pooled, folder := run_folder(pooled))
    assert largest_difference(federated, final_weights(pooled, folder)) <= 1e-12


def test_a_frozen_client_that_started_from_nothing_keeps_its_encoder_alone(
    run_folder: MakeFolder,
) -> None:
    settings = exact(still(THREE, "m0"), 3)
    start = joint_training(exact(THREE, 0))
    found = final_weights(settings, run(settings, run_folder))
    for name, value in found["m0"].items():
        assert value.equal(start["m0"][name]) == name.startswith("encoder."), name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"clients": {**THREE, "m1": {"dim": 11}}}, "encoder of client 'm1' .* of shape"),
        ({"graph": {"topology": "complete", "dim": 6}}, "maps towards 'm1' of client 'm0' .*'P'"),
        ({"maps": {"family": "orthogonal"}}, "maps towards 'm1' of client 'm0' .* no weight 'A'"),
        (
            {"clients": {**THREE, "m2": {"dim": 14, "encoder": "linear"}}},
            "encoder of client 'm2'",
        ),
        ({"objective": {"learnable_temperature": True}}, "no weight 'log_temperature'"),
        (
            {"clients": {**THREE, "m3": {"dim": 9, "freeze": True}}},
            "clients.m3.freeze: run .* has no weights of client 'm3'",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    changes: dict[str, Any], reason: str, earlier: RunFolder
) -> None:
    arguments: dict[str, Any] = {"clients": THREE, **changes}
    settings = exact(arguments.pop("clients"), 2, init_from=str(earlier.path), **arguments)
    with pytest.raises(ConfigError, match=reason) as caught:
        check(settings)
    assert len(str(caught.value).splitlines()) == 1


def test_a_run_that_is_none_of_these_clients_is_refused(earlier: RunFolder) -> None:
    others = exact({"m4": {"dim": 9}, "m5": {"dim": 8}}, 2, init_from=str(earlier.path))
    with pytest.raises(HandshakeError, match="no client has weights of the run"):
        check(others)
    for path in (earlier.path / "nowhere", earlier.path.parent):
        with pytest.raises(UserError, match="is no run folder"):
            check(exact(THREE, 2, init_from=str(path)))
    state = earlier.checkpoint_dir(8) / "m1.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(UserError, match=r"state of client 'm1' .* is damaged"):
        check(exact(THREE, 2, init_from=str(earlier.path)))


def test_a_run_goes_on_after_the_one_it_started_from_is_gone(
    earlier: RunFolder, run_folder: MakeFolder, no_reports: None
) -> None:
    def more(exchanges: int) -> Settings:
        clients = still({**THREE, "m3": {"dim": 9}}, "m0")
        return exact(clients, exchanges, init_from=str(earlier.path))

    whole, short = run(more(7), run_folder), run(more(4), run_folder)
    earlier.path.rename(earlier.path.with_name("elsewhere"))
    resume(short.path, changes={"training": {"exchanges": 7}})
    one, other = whole.load_summary(), short.load_summary()
    assert one.weights_digest == other.weights_digest
    assert [client.start for client in one.clients] == [client.start for client in other.clients]
    assert one.clients[3].start == ""
    with pytest.raises(UserError, match="is no run folder"):
        check(more(7))


def test_a_run_on_a_relay_that_is_unknown_here_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"name of a run on a relay, its nodes look .* \(--relay\)"):
        check(exact(THREE, 2, init_from="street"))


# ---- longer --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("training", "every"),
    [
        ({}, 0),
        ({"error_feedback": True, "batches": 2, "local_steps": 2, "optimiser": "sgd"}, 3),
        ({"replay": 2, "replay_from": 0.0}, 3),
    ],
    ids=["plain", "feedback", "replay"],
)
def test_a_longer_run_ends_in_the_bits_of_one_that_was_longer_at_once(
    training: dict[str, Any], every: int, run_folder: MakeFolder, no_reports: None
) -> None:
    def settings(exchanges: int) -> Settings:
        return toy_settings(
            training={**training, "exchanges": exchanges, "learning_rate": 0.01},
            codec="float16",
            evaluation={"every": 4},
            checkpoint={"every": every},
            clients=dict.fromkeys(("m0", "m1", "m2"), SMALL),
        )

    run_inprocess(settings(11), whole := run_folder(settings(11)))
    run_inprocess(settings(5), short := run_folder(settings(5)))
    assert short.load_summary().weights_digest != whole.load_summary().weights_digest
    resume(short.path, changes={"training": {"exchanges": 11}})
    one, other = whole.load_summary(), short.load_summary()
    assert one.weights_digest == other.weights_digest
    assert one.quality == other.quality
    assert other.exchanges == short.settings().training.exchanges == 11
    assert one.config_digest == other.config_digest
    assert training_payload(whole) == training_payload(short)


@pytest.mark.parametrize(
    ("training", "changes", "reason"),
    [
        ({"decay": "cosine"}, {"exchanges": 9}, "along a cosine over 5 exchanges"),
        ({"warmup": 0.4}, {"exchanges": 9}, "training.warmup is a fraction"),
        ({"replay": 1, "replay_from": 0.5}, {"exchanges": 9}, "training.replay_from is a fraction"),
        ({"stale": True}, {"exchanges": 9}, "with training.stale the next batch"),
        ({}, {"exchanges": 4}, "4 is less than the run's 5"),
        ({}, {"learning_rate": 0.1}, "only training.exchanges and training.patience"),
    ],
)
def test_a_run_whose_past_would_have_been_another_is_refused(
    training: dict[str, Any],
    changes: dict[str, Any],
    reason: str,
    run_folder: MakeFolder,
    no_reports: None,
) -> None:
    settings = toy_settings(training={**training, "exchanges": 5})
    run_inprocess(settings, folder := run_folder(settings))
    with pytest.raises(UserError, match=reason) as caught:
        resume(folder.path, changes={"training": changes})
    assert len(str(caught.value).splitlines()) == 1
    assert folder.settings() == settings
    assert folder.load_summary().exchanges == 5  # nothing was changed

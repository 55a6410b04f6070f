"""Replay: exact against one process that keeps the same constants, whatever happens on the way."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from flwr.app import Context, Message
from rich.console import Console
from safetensors.torch import load as load_tensors

from sheafalign_fl.cli.listings import print_checked
from sheafalign_fl.codecs import CODECS
from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.engines.pooled import JointTraining
from sheafalign_fl.learner.replay import ReplayMemory, remembered, replayed
from sheafalign_fl.learner.schedule import BatchSchedule
from sheafalign_fl.numbers import human_bytes
from sheafalign_fl.runs.folder import RunFolder, read_rows
from tests.federation.oracle import Code, largest_difference, simulated_protocol
from tests.federation.runs import final_weights, training_payload
from tests.federation.test_absence import misbehaving
from tests.federation.test_protocol_options import Coarse, half, options, rounded

TRAININGS: dict[str, dict[str, Any]] = {
    "plain": {"replay": 2, "replay_from": 0.0},
    "late and few": {"replay": 3, "replay_from": 0.4, "replay_batches": 2},
    "several batches": {"replay": 4, "replay_from": 0.0, "batches": 3, "local_steps": 2},
    "stale": {"replay": 1, "replay_from": 0.2, "stale": True},
    "recipe": {
        "replay": 2,
        "optimiser": "adamw",
        "weight_decay": 1.0,
        "decay": "cosine",
        "warmup": 0.2,
        "clip": 0.3,
    },
}
OBJECTIVE = {"variance": 0.1, "covariance": 0.1, "label_smoothing": 0.1}


def weights_of(settings: Settings, folder: RunFolder, **options_: Any) -> dict[str, Any]:
    run_inprocess(settings, folder, **options_)
    return final_weights(settings, folder)


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.4], ids=["all events", "missing events"])
@pytest.mark.parametrize("training", TRAININGS.values(), ids=TRAININGS)
def test_replay_is_what_one_process_with_the_same_constants_does(
    training: dict[str, Any], missing: float, run_folder: Callable[[Settings], RunFolder]
) -> None:
    settings = options(training, missing, objective=OBJECTIVE)
    weights = weights_of(settings, run_folder(settings))
    assert largest_difference(weights, simulated_protocol(settings)[0]) <= 1e-12
    without = options({**training, "replay": 0}, missing, objective=OBJECTIVE)
    assert largest_difference(weights, simulated_protocol(without)[0]) > 1e-4


@pytest.mark.parametrize("feedback", [False, True], ids=["plain", "error feedback"])
@pytest.mark.parametrize(("codec", "code"), [("float16", half), ("coarse", rounded)])
def test_what_is_kept_is_what_the_codec_had_left(
    codec: str,
    code: Code,
    feedback: bool,
    run_folder: Callable[[Settings], RunFolder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(CODECS, "coarse", Coarse())
    training = {"replay": 2, "replay_from": 0.0, "error_feedback": feedback}
    settings = options(training, 0.3, codec=codec)
    weights = weights_of(settings, run_folder(settings))
    assert largest_difference(weights, simulated_protocol(settings, code)[0]) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["imagebind", "clip-pairs", "clip-heads", "centrobind", "gram", "triangle", "symile"]
)
def test_every_method_replays(method: str, run_folder: Callable[[Settings], RunFolder]) -> None:
    training = {"replay": 2, "replay_from": 0.0}
    settings = options(training, 0.3, method=method, graph={"dim": 8}, objective={})
    weights = weights_of(settings, run_folder(settings))
    assert largest_difference(weights, simulated_protocol(settings)[0]) <= 1e-12


def test_a_client_that_fails_and_returns_replays_what_it_was_there_for(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = options({"replay": 3, "replay_from": 0.0, "exchanges": 12}, 0.2)

    def fail(message: Message, context: Context, exchange: int) -> None:
        if exchange in (4, 5):
            raise OSError("no power")

    folder = run_folder(settings)
    weights = weights_of(settings, folder, client_app=misbehaving("m1", fail))
    absent = [row["absent"] for row in read_rows(folder.metrics) if row["kind"] == "exchange"]
    assert [exchange for exchange, names in enumerate(absent) if names == ["m1"]] == [5, 6]
    expected, _ = simulated_protocol(settings, failing={"m1": {4, 5}})
    assert largest_difference(weights, expected) <= 1e-12
    assert largest_difference(weights, simulated_protocol(settings)[0]) > 1e-4


def test_it_costs_no_byte_and_shows_the_losses_of_new_batches_alone(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    found = []
    for replay in (0, 2):
        settings = options({"replay": replay, "replay_from": 0.85})  # in the last exchange
        run_inprocess(settings, folder := run_folder(settings))
        rows = [row["losses"] for row in read_rows(folder.metrics) if row["kind"] == "exchange"]
        found.append((training_payload(folder), rows, folder.load_summary().weights_digest))
    assert found[0][:2] == found[1][:2]
    assert found[0][2] != found[1][2]


def test_dropout_is_drawn_anew_and_the_same_again(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    encoder = {"encoder": "tests.toy:built_in_with_dropout", "dim": 8}
    settings = options({"replay": 2}, clients=dict.fromkeys(("m0", "m1", "m2"), encoder))
    digests = []
    for _ in range(2):
        run_inprocess(settings, folder := run_folder(settings))
        digests.append(folder.load_summary().weights_digest)
    assert digests[0] == digests[1]


# ---- what is replayed, what is remembered --------------------------------------------------------


def _settings(**training: Any) -> Settings:
    content = {"clients": ["a", "b"], "training": {"exchanges": 40, "batch_size": 5, **training}}
    return parse_settings(content)


@pytest.mark.parametrize(("batches", "most"), [(1, None), (3, None), (1, 4), (2, 3)])
def test_batches_are_drawn_from_the_past_that_is_remembered(batches: int, most: int | None) -> None:
    settings = _settings(replay=3, replay_from=0.25, batches=batches, replay_batches=most)
    schedule = BatchSchedule.of(settings.training, 35, settings.seed)
    drawn: set[int] = set()
    for exchange in range(40):
        numbers = replayed(settings, schedule, exchange)
        age = {exchange * batches - number for number in numbers}
        assert len(set(numbers)) == len(numbers) == (3 if exchange >= 10 else 0)
        assert all(1 <= old <= (most or 7) for old in age)
        drawn |= age
    assert drawn == set(range(1, (most or 7) + 1))
    assert remembered(settings, schedule) == (most or 7)


def test_memory_is_bounded_and_comes_back() -> None:
    memory = ReplayMemory(3)
    for number in range(10):
        memory.keep(number, {"b": torch.full((2, 4), number)} if number != 8 else {})
    assert {number for number in range(10) if memory.recall(number)} == {7, 9}
    other = ReplayMemory(3)
    other.keep(0, {"c": torch.zeros(1)})
    other.load(memory.state(), torch.device("cpu"))
    assert not other.recall(0)
    for number in (7, 9):
        assert torch.equal(other.recall(number)["b"], torch.full((2, 4), number))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("most", [None, 3])
def test_the_memory_that_is_stated_is_what_is_kept(
    dtype: str, most: int | None, run_folder: Callable[[Settings], RunFolder]
) -> None:
    for missing in (0.0, 0.3):
        training = {"replay": 1, "replay_from": 0.0, "replay_batches": most, "exchanges": 14}
        settings = options({**training, "dtype": dtype}, missing)
        stated = check(settings).replay_bytes
        run_inprocess(settings, folder := run_folder(settings))
        for client in settings.clients:
            saved = load_tensors(folder.load_client(14, client))
            kept = [z for name, z in saved.items() if name.startswith("replay.")]
            held = sum(z.numel() * z.element_size() for z in kept)
            assert held == stated[client] if missing == 0 else 0 < held < stated[client]
    console = Console(file=io.StringIO(), width=200)
    print_checked(check(settings), console)
    most_of_all = human_bytes(max(stated.values()))
    assert f"remembers {most_of_all} at most" in console.file.getvalue()  # type: ignore[attr-defined]
    assert set(check(options({"replay": 0}, 0.0)).replay_bytes.values()) == {0}


def test_pooled_training_replays_with_fresh_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has everybody's encoder at hand; it takes as many steps, on the same batches."""
    from sheafalign_fl.learner.manifest import client_data
    from sheafalign_fl.protocol.topology import build_topology

    settings = options({"replay": 2, "replay_from": 0.0}, engine="pooled")
    topology, agreement = build_topology(settings), check(settings).agreement
    data = {client: client_data(client, settings) for client in topology.clients}
    joint = JointTraining(settings, topology, agreement, data)
    seen: list[list[int]] = []
    objective = joint.objective

    def noting(positions: Any, *arguments: Any) -> torch.Tensor:
        seen.append(positions.tolist())
        return objective(positions, *arguments)

    monkeypatch.setattr(joint, "objective", noting)
    schedule = BatchSchedule.of(settings.training, len(agreement.lists["train"]), settings.seed)
    for exchange in range(4):
        joint.step(exchange)
        numbers = [exchange, *replayed(settings, schedule, exchange)]
        assert seen == [schedule.batch(number).tolist() for number in numbers]
        seen.clear()

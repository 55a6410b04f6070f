"""Several batches or passes in an exchange, a stale schedule, error feedback: against plain torch.

Under these options a federation is not joint training, so the oracle is the protocol itself,
written down a second time (`tests.federation.oracle.simulated_protocol`): one optimiser for each
client, neighbours' values as constants.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sheafalign_fl.codecs import CODECS, Codec
from sheafalign_fl.config import Settings
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import InProcessGrid, run_inprocess
from sheafalign_fl.flower.records import unpack
from sheafalign_fl.learner.schedule import BatchSchedule
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.verbs import EXCHANGE
from sheafalign_fl.runs.folder import RunFolder, read_rows
from tests.conftest import toy_settings
from tests.federation.oracle import joint_training, largest_difference, simulated_protocol
from tests.federation.runs import SMALL, final_weights, training_payload

pytestmark = pytest.mark.slow

COARSE_STEP = 0.125


class Coarse(Codec):
    """Rounds to multiples of one eighth, one signed byte each."""

    name = "coarse"

    def encode(self, values: NDArray[np.floating]) -> bytes:
        return np.clip(np.round(values / COARSE_STEP), -127, 127).astype(np.int8).tobytes()

    def decode(self, payload: bytes, events: int, dim: int) -> NDArray[np.floating]:
        return (
            np.frombuffer(payload, dtype=np.int8).reshape(events, dim).astype(np.float64)
            * COARSE_STEP
        )

    def payload_bytes(self, events: int, dim: int) -> int:
        return events * dim


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, "coarse", Coarse())


def half(z: Tensor) -> Tensor:
    # NumPy rounds once; torch goes through float32, which rounds twice and now and then elsewhere.
    return torch.from_numpy(z.numpy().astype(np.float16).astype(z.numpy().dtype))


def rounded(z: Tensor) -> Tensor:
    return torch.round(z / COARSE_STEP) * COARSE_STEP


def options(training: dict[str, Any], missing: float = 0.0, **sections: Any) -> Settings:
    """Return settings of three small clients.

    They have 60 training events, so that a few exchanges are several epochs.
    """
    lacking = {"m0": missing, "m1": 0.0, "m2": missing / 2}
    content: dict[str, Any] = {
        "data": {"source": "tests.toy:source", "options": {"events": 120}},
        "clients": {name: {**SMALL, "missing": fraction} for name, fraction in lacking.items()},
        "graph": {"dim": 5},
        "codec": "float64",
        "training": {
            "exchanges": 9,
            "batch_size": 8,
            "dtype": "float64",
            "learning_rate": 0.01,
            **training,
        },
    }
    return toy_settings(**{**content, **sections})


MISSING = pytest.mark.parametrize("missing", [0.0, 0.4], ids=["all events", "missing events"])
TRAININGS: dict[str, dict[str, Any]] = {
    "batches": {"batches": 3},
    "local steps": {"local_steps": 2},
    "batches and local steps": {
        "batches": 3,
        "local_steps": 2,
        "optimiser": "adamw",
        "weight_decay": 0.1,
    },
    "stale": {"stale": True},
    "stale, batches and local steps": {
        "stale": True,
        "batches": 2,
        "local_steps": 3,
        "decay": "cosine",
    },
}


@MISSING
@pytest.mark.parametrize("training", TRAININGS.values(), ids=TRAININGS)
def test_weights_equal_those_of_the_protocol_in_plain_torch(
    training: dict[str, Any], missing: float, run_folder: Callable[[Settings], RunFolder]
) -> None:
    settings = options(
        training, missing, objective={"learnable_temperature": True, "cross_reconstruction": 0.2}
    )
    run_inprocess(settings, folder := run_folder(settings))
    expected, _ = simulated_protocol(settings)
    assert not folder.load_summary().absences
    assert largest_difference(final_weights(settings, folder), expected) <= 1e-12


@MISSING
@pytest.mark.parametrize("method", ["centrobind", "gram", "triangle", "symile"])
def test_group_contrasts_too(
    method: str, missing: float, run_folder: Callable[[Settings], RunFolder]
) -> None:
    settings = options(
        {"batches": 2, "local_steps": 2, "stale": True}, missing, method=method, graph={"dim": 8}
    )
    run_inprocess(settings, folder := run_folder(settings))
    assert (
        largest_difference(final_weights(settings, folder), simulated_protocol(settings)[0])
        <= 1e-12
    )


def test_batches_so_small_that_edges_sit_some_of_them_out(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = options({"batches": 3, "batch_size": 3, "local_steps": 2}, 0.6)
    run_inprocess(settings, folder := run_folder(settings))
    assert not folder.load_summary().absences
    assert (
        largest_difference(final_weights(settings, folder), simulated_protocol(settings)[0])
        <= 1e-12
    )


def test_the_oracle_of_one_step_is_joint_training() -> None:
    """The oracle of the tests above agrees with the other where both apply, and only there."""
    plain = options({})
    assert largest_difference(simulated_protocol(plain)[0], joint_training(plain)) <= 1e-12
    for training in ({"stale": True}, {"local_steps": 2}, {"batches": 2}):
        settings = options(training)
        assert largest_difference(simulated_protocol(settings)[0], joint_training(settings)) > 1e-6


def test_the_first_two_exchanges_of_a_stale_schedule_carry_initial_embeddings(
    run_folder: Callable[[Settings], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = options({"stale": True, "exchanges": 4})
    frames = _listen(monkeypatch)
    run_inprocess(settings, run_folder(settings))
    nothing_learnt = options(
        {"stale": True, "exchanges": 4, "learning_rate": 1e-300, "optimiser": "sgd"}
    )
    _, still = simulated_protocol(nothing_learnt)
    _, moving = simulated_protocol(settings)
    for exchange in range(4):
        for key, events in still.sent[exchange].items():
            found = frames[exchange, *key]
            np.testing.assert_allclose(
                found, torch.stack(list(moving.sent[exchange][key][0].values())), atol=1e-12
            )
            moved = np.abs(found - torch.stack(list(events[0].values())).numpy()).max()
            assert (moved <= 1e-12) == (exchange < 2)


@MISSING
@pytest.mark.parametrize(
    "training",
    [{"batches": 3}, {"local_steps": 2}, {"stale": True}],
    ids=["batches", "local steps", "stale"],
)
def test_payload_is_events_times_dim_times_itemsize(
    training: dict[str, Any], missing: float, run_folder: Callable[[Settings], RunFolder]
) -> None:
    graph = {
        "topology": "edges",
        "edges": [{"between": ["m0", "m1"], "dim": 3}, {"between": ["m1", "m2"], "dim": 9}],
    }
    settings = options(training, missing, graph=graph, codec="float16")
    run_inprocess(settings, folder := run_folder(settings))
    agreed = check(settings).agreement
    schedule = BatchSchedule(len(agreed.lists["train"]), 8, settings.seed)
    due: dict[tuple[int, str, str], int] = {}
    for exchange in range(settings.training.exchanges):
        batches = settings.training.batches
        positions = np.concatenate(
            [schedule.positions(exchange * batches + index) for index in range(batches)]
        )
        for source, target, dim in (
            ("m0", "m1", 3),
            ("m1", "m0", 3),
            ("m1", "m2", 9),
            ("m2", "m1", 9),
        ):
            events = sum(
                agreed.has[source]["train"][p] and agreed.has[target]["train"][p] for p in positions
            )
            due[exchange, source, target] = int(events) * dim * 2
    assert training_payload(folder) == due


def test_the_losses_of_an_exchange_are_means_over_its_steps(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    """With a learning rate of nothing all passes see the same values: their mean is one's."""
    rows = []
    for local_steps in (1, 3):
        settings = options(
            {
                "batches": 2,
                "local_steps": local_steps,
                "learning_rate": 1e-300,
                "optimiser": "sgd",
                "exchanges": 2,
            }
        )
        run_inprocess(settings, folder := run_folder(settings))
        rows.append(
            [row["losses"] for row in read_rows(folder.metrics) if row["kind"] == "exchange"]
        )
    assert rows[0][0][0]["events"] == 16
    for once, thrice in zip(rows[0], rows[1], strict=True):
        for one, three in zip(once, thrice, strict=True):
            assert {k: v for k, v in three.items() if not isinstance(v, float)} == {
                k: v for k, v in one.items() if not isinstance(v, float)
            }
            for term, value in one.items():
                if isinstance(value, float):
                    assert three[term] == pytest.approx(value, rel=1e-12)


# ---- error feedback ------------------------------------------------------------------------------


@MISSING
@pytest.mark.parametrize("codec", ["float16", "coarse"])
@pytest.mark.parametrize(
    "training",
    [{}, {"batches": 2}, {"batches": 3, "stale": True}],
    ids=["one batch", "two batches", "three batches, stale"],
)
@pytest.mark.usefixtures("coarse")
def test_residuals_follow_their_events_over_several_epochs(
    training: dict[str, Any],
    codec: str,
    missing: float,
    run_folder: Callable[[Settings], RunFolder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """60 events in batches of 8: nine exchanges are more than one epoch, or two, or nearly four.

    Some exchanges of several batches reach over the end of an epoch, so that an event comes twice
    in them.
    """
    settings = options({"error_feedback": True, **training}, missing, codec=codec)
    frames = _listen(monkeypatch)
    run_inprocess(settings, folder := run_folder(settings))
    expected, post = simulated_protocol(settings, {"float16": half, "coarse": rounded}[codec])
    for exchange, mail in enumerate(post.sent):
        for (source, target), batches in mail.items():
            arrived = torch.stack([z for batch in batches for z in batch.values()]).numpy()
            np.testing.assert_allclose(frames[exchange, source, target], arrived, atol=1e-9)
    assert largest_difference(final_weights(settings, folder), expected) <= 1e-12
    without = settings.model_copy(
        update={"training": settings.training.model_copy(update={"error_feedback": False})}
    )
    assert (
        largest_difference(
            simulated_protocol(without, {"float16": half, "coarse": rounded}[codec])[0], expected
        )
        > 1e-7
    )


@pytest.mark.usefixtures("coarse")
def test_what_arrives_of_a_constant_embedding_is_right_on_average(
    run_folder: Callable[[Settings], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learning rate of 0 keeps z as is; 60 events in batches of 20 return every 3 exchanges."""
    errors = {}
    for feedback in (False, True):
        training = {"exchanges": 60, "batch_size": 20, "learning_rate": 1e-300, "optimiser": "sgd"}
        settings = options({**training, "error_feedback": feedback}, codec="coarse")
        frames = _listen(monkeypatch)
        run_inprocess(settings, run_folder(settings))
        agreed = check(settings).agreement
        schedule = BatchSchedule(len(agreed.lists["train"]), 20, settings.seed)
        arrived: dict[int, list[NDArray[np.floating]]] = {}
        for exchange in range(60):
            for position, z in zip(
                schedule.positions(exchange), frames[exchange, "m0", "m1"], strict=True
            ):
                arrived.setdefault(int(position), []).append(z)
        _, post = simulated_protocol(
            options({"exchanges": 3, **{k: training[k] for k in training if k != "exchanges"}})
        )
        true = {event: z for mail in post.sent for event, z in mail["m0", "m1"][0].items()}
        ids = agreed.lists["train"].tolist()
        assert len(arrived) == len(ids) == 60
        assert all(len(rounds) == 20 for rounds in arrived.values())
        errors[feedback] = max(
            float(np.abs(np.mean(rounds, axis=0) - true[ids[position]].numpy()).max())
            for position, rounds in arrived.items()
        )
    # What is kept is at most half a step, so after n rounds the mean is off by at most
    # half a step / n.
    assert errors[True] <= COARSE_STEP / 2 / 20 + 1e-12
    assert errors[False] > COARSE_STEP / 4


def _listen(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, str, str], NDArray[np.floating]]:
    """Return a mapping that fills with what training frames hold.

    Its items are (exchange, source, destination) -> values, of every frame.
    """
    frames: dict[tuple[int, str, str], NDArray[np.floating]] = {}
    push = InProcessGrid.push_messages

    def listening(grid: InProcessGrid, messages: Any) -> Any:
        for message in (messages := list(messages)):
            if message.metadata.message_type == EXCHANGE:
                for packed in unpack(message)[1].values():
                    frame = Frame.unpack(packed)
                    frames[frame.exchange, frame.source, frame.destination] = frame.values()
        return push(grid, messages)

    monkeypatch.setattr(InProcessGrid, "push_messages", listening)
    return frames

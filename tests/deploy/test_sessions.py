"""What a deployed client does with a message seen before, and after its process was killed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from clients import client_app, session
from clients.session import Session
from sheafalign_fl.config import Settings
from sheafalign_fl.errors import RunError
from sheafalign_fl.learner.manifest import client_data, describe
from sheafalign_fl.learner.node import Node
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.negotiation import agree
from sheafalign_fl.protocol.seal import SealedEdges
from sheafalign_fl.protocol.timing import PARTS, StopWatch, read_times
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings


def nodes(settings: Settings) -> dict[str, Node]:
    topology = build_topology(settings)
    data = {name: client_data(name, settings) for name in settings.clients}
    agreement = agree([describe(name, settings, data[name]) for name in data], settings, topology)
    return {
        name: Node(name, settings, data[name], agreement.for_client(name, topology))
        for name in data
    }


@pytest.fixture
def two() -> dict[str, Node]:
    return nodes(toy_settings(clients={"m0": {"dim": 10}, "m1": {"dim": 12}}))


def seals() -> dict[str, SealedEdges]:
    keys = {"m0": X25519PrivateKey.generate(), "m1": X25519PrivateKey.generate()}
    nonces = {"m0": b"0" * 16, "m1": b"1" * 16}
    other = {"m0": "m1", "m1": "m0"}
    return {
        name: SealedEdges(name, key, {other[name]: keys[other[name]].public_key()}, nonces, "run")
        for name, key in keys.items()
    }


def frames(two: dict[str, Node], exchange: int, sealed: dict[str, SealedEdges]) -> dict[str, bytes]:
    """Return what m1 sends m0, and let m0 embed too."""
    two["m0"].embed(exchange)
    sent = client_app.send(two["m1"].embed(exchange), two["m1"], exchange, sealed["m1"])
    return {"m1": sent["m0"]}


def step(node: Node, exchange: int, packed: dict[str, bytes], seal: SealedEdges | None) -> Any:
    return client_app._step(node, exchange, packed, seal, StopWatch())


def test_sealed_frames_train_as_plain_ones_do(two: dict[str, Node]) -> None:
    plain, sealed = nodes(two["m0"].settings), seals()
    for exchange in range(3):
        losses = step(two["m0"], exchange, frames(two, exchange, sealed), sealed["m0"])
        plain["m0"].embed(exchange)
        z = plain["m1"].embed(exchange)["m0"]
        assert losses == plain["m0"].step(exchange, {"m1": z})
    assert two["m0"].weights_digest() == plain["m0"].weights_digest()


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda packed: packed[:-1],
    "oversized": lambda packed: packed + b"x",
    "altered": lambda packed: packed[:-1] + bytes([packed[-1] ^ 1]),
    "empty": lambda _: b"",
}


def _with_true_checksum(packed: bytes) -> bytes:
    frame = Frame.unpack(packed)
    values = bytes([frame.payload[0] ^ 1]) + frame.payload[1:]
    return Frame(**{**frame.__dict__, "payload": values}).pack()


def _unsealed(packed: bytes) -> bytes:
    return Frame(**{**Frame.unpack(packed).__dict__, "seal": b""}).pack()


SPOILT |= {"forged": _with_true_checksum, "unsealed": _unsealed}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_frame_is_refused_and_not_trained_on(two: dict[str, Node], how: str) -> None:
    sealed = seals()
    packed = {source: SPOILT[how](frame) for source, frame in frames(two, 0, sealed).items()}
    before = two["m0"].weights_digest()
    assert step(two["m0"], 0, packed, sealed["m0"]) == []
    assert two["m0"].weights_digest() == before
    told = [(verdict.sender, verdict.event, verdict.check) for verdict in two["m0"].gate.verdicts]
    assert told == [("m1", "refused", "frame")]


def test_a_frame_of_another_exchange_is_refused(two: dict[str, Node]) -> None:
    sealed = seals()
    old = frames(two, 0, sealed)
    step(two["m0"], 0, old, sealed["m0"])
    before = two["m0"].weights_digest()
    assert step(two["m0"], 1, old, sealed["m0"]) == []
    assert two["m0"].weights_digest() == before
    told = [(verdict.sender, verdict.event, verdict.check) for verdict in two["m0"].gate.verdicts]
    assert told == [("m1", "refused", "frame")]


def test_the_same_question_twice_is_one_step_and_the_same_answer(two: dict[str, Node]) -> None:
    sealed = seals()
    packed = frames(two, 0, sealed)
    answer = step(two["m0"], 0, packed, sealed["m0"])
    before = two["m0"].state()
    assert step(two["m0"], 0, packed, sealed["m0"]) == answer
    assert two["m0"].state() == before
    restarted = nodes(two["m0"].settings)["m0"]
    restarted.load_state(before)
    assert step(restarted, 0, packed, None) == answer  # it does not even open the frames
    assert restarted.state() == before


@pytest.mark.parametrize("deadline", [None, 5.0])
def test_a_state_that_is_too_old_is_only_good_enough_with_a_deadline(
    deadline: float | None,
) -> None:
    settings = toy_settings(
        clients={"m0": {"dim": 10}, "m1": {"dim": 12}},
        training={"exchanges": 6, "batch_size": 32, "deadline": deadline},
    )
    two = nodes(settings)
    sealed = seals()
    packed = frames(two, 4, sealed)
    two["m0"].restored = 2
    if deadline is None:
        with pytest.raises(RunError, match="state after 2 exchanges, but 4 are done"):
            step(two["m0"], 4, packed, sealed["m0"])
    else:
        assert step(two["m0"], 4, packed, sealed["m0"])
        assert two["m0"].restored is None


def test_sessions_are_kept_and_only_a_few(tmp_path: Path) -> None:
    for run_id in range(30):
        session.save(tmp_path, run_id, Session(f"run{run_id}", "00", "11"))
    assert session.load(tmp_path, 29) == Session("run29", "00", "11")
    assert session.load(tmp_path, 99) is None
    assert len(list((tmp_path / "sessions").iterdir())) == 20
    (tmp_path / "sessions" / "29.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        session.load(tmp_path, 29)


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.newest_state("m0") is None
    for exchanges in range(1, 12):
        folder.save_client(exchanges, "m0", bytes([exchanges]))
        session.prune(folder, keep=2)
    assert folder.newest_state("m0") == (11, bytes([11]))
    assert sorted(int(path.name) for path in folder.checkpoints.iterdir()) == [9, 10, 11]


def test_times_travel_as_they_were_measured() -> None:
    watch = StopWatch()
    with watch("compute"):
        np.ones(10).sum()
    times = read_times(watch.to_bytes())
    assert times is not None
    assert set(times) == {*PARTS, "whole"}
    assert 0 < times["compute"] <= times["whole"]
    assert read_times(b"short") is None
    assert read_times(None) is None

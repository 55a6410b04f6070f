"""A relay that lies about what was agreed, or plays the handshake again."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients import node_context
from sheafalign_fl.config import Settings
from sheafalign_fl.config.policy import LOCAL, under
from sheafalign_fl.deploy.issuing import init_keys
from sheafalign_fl.engines.check import check
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.learner.schedule import BatchSchedule
from sheafalign_fl.protocol.agreement import ClientAgreement
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.verbs import AGREE, DESCRIBE, EXCHANGE, FINISH
from sheafalign_fl.runs.folder import RunFolder
from tests.attack.deployment import ALLOWED, Client, deployed, policy_of

RUN = "0123456789abcdef" * 2
LACKING = {"events": 400, "lacking": {"m0": 0.2, "m1": 0.2, "m2": 0.2}}
THREE = {"m0": {"dim": 10}, "m1": {"dim": 12}, "m2": {"dim": 9}}


def content(**sections: Any) -> Settings:
    """Return settings of three clients that each lack a fifth of the events."""
    data = {"source": "tests.toy:source", "options": LACKING}
    return deployed(
        **{
            "data": data,
            "clients": THREE,
            "training": {"exchanges": 4, "batch_size": 16},
            **sections,
        }
    )


def honest(of: Settings, client: str = "m0") -> ClientAgreement:
    """Return what an honest relay tells `client`."""
    with under(LOCAL):
        found = check(of)
    return found.agreement.for_client(client, found.topology)


def order(agreement: ClientAgreement | bytes, run: str = RUN) -> dict[str, Any]:
    data = agreement if isinstance(agreement, bytes) else agreement.to_bytes()
    return {"agreement": data, "folder": "/nowhere", "run": run}


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(content(), tmp_path / "state", **policy_of(ALLOWED))


# ---- lists and masks -------------------------------------------------------------------------

Lie = Callable[[ClientAgreement], ClientAgreement]


def relisted(name: str, change: Callable[[ClientAgreement], Any]) -> Lie:
    """Return a lie about one list; its masks grow or shrink with it, true where they can be."""

    def lie(told: ClientAgreement) -> ClientAgreement:
        ids = np.asarray(change(told))
        masks: dict[str, Any] = {}
        for peer, own in told.shared.items():
            kept = np.isin(ids, told.lists[name][own[name]])  # type: ignore[index]
            masks[peer] = {**own, name: kept}
        lists: dict[Any, Any] = {**told.lists, name: ids}
        return replace(told, lists=lists, shared=masks)

    return lie


def remasked(name: str, change: Callable[[Any], Any]) -> Lie:
    def lie(told: ClientAgreement) -> ClientAgreement:
        shared: dict[str, Any] = {
            peer: {**masks, name: change(masks[name])}  # type: ignore[index]
            for peer, masks in told.shared.items()
        }
        return replace(told, shared=shared)

    return lie


def with_neighbours(change: Callable[[Mapping[str, int]], dict[str, int]]) -> Lie:
    return lambda told: replace(told, neighbours=change(told.neighbours))


LIES: dict[str, tuple[Lie, str]] = {
    "a test event in training": (
        relisted("train", lambda a: np.sort(np.append(a.lists["train"], a.lists["test"][:1]))),
        "test events are in the list 'train'",
    ),
    "all test events as the training list": (
        relisted("train", lambda a: a.lists["test"]),
        "test events are in the list 'train'",
    ),
    "a validation event in training": (
        relisted(
            "train", lambda a: np.sort(np.append(a.lists["train"], a.lists["validation"][:1]))
        ),
        "validation events are in the list 'train'",
    ),
    "training events in the test": (
        relisted("test", lambda a: np.sort(np.append(a.lists["test"], a.lists["train"][:9]))),
        "train events are in the list 'test'",
    ),
    "a test event to fit probes on": (
        relisted("probe", lambda a: np.sort(np.append(a.lists["probe"], a.lists["test"][:1]))),
        "test events are in the list 'probe'",
    ),
    "an event twice": (
        relisted("train", lambda a: np.sort(np.append(a.lists["train"], a.lists["train"][:1]))),
        "holds an event twice",
    ),
    "another order": (relisted("train", lambda a: a.lists["train"][::-1]), "is not sorted"),
    "ids of another kind": (
        relisted("train", lambda a: a.lists["train"].astype(np.str_)),
        "of another kind",
    ),
    "inverted masks": (remasked("train", np.logical_not), "does not have them"),
    "inverted masks of the test": (remasked("test", np.logical_not), "does not have them"),
    "everything shared": (remasked("train", np.ones_like), "does not have them"),
    "nothing shared": (remasked("train", np.zeros_like), "fewer than a batch"),
    "a short mask": (remasked("train", lambda mask: mask[:-9]), "over 1"),
    "a neighbour too many": (
        with_neighbours(lambda due: {**due, "m7": 8}),
        "by the settings they are",
    ),
    "no neighbours": (with_neighbours(lambda due: {}), "by the settings they are"),
    "another dimension": (
        with_neighbours(lambda due: dict.fromkeys(due, 9)),
        "by the settings they are",
    ),
    "a stranger": (
        lambda told: replace(told, shared={**told.shared, "m7": told.shared["m1"]}),
        "which is no neighbour",
    ),
    "a nonce where nothing is sealed": (
        lambda told: replace(told, nonces={"m0": "00" * 16}),
        "nonces",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_that_a_client_can_see_is_refused_before_anything_is_made(
    lie: str, client: Client, tmp_path: Path
) -> None:
    change, reason = LIES[lie]
    told = client.refusal(AGREE, order(change(honest(content()))))
    assert reason in told
    assert not (tmp_path / "state").exists()
    assert "it refused the agreement" in client.refusal(EXCHANGE, {"embed": 0})
    client.ask(AGREE, order(honest(content())))  # the truth is still welcome
    assert client.ask(EXCHANGE, {"embed": 0})[1].keys() == {"m1", "m2"}


def test_a_neighbour_whose_key_is_unknown_is_refused(tmp_path: Path) -> None:
    init_keys(tmp_path / "keys", ["m0", "lidar"], [])
    own: dict[str, bool | str] = {
        "keys": str(tmp_path / "keys" / "clients" / "m0"),
        "unsealed": True,
    }
    client = Client(content(), tmp_path / "state", "m0", **own, **policy_of(ALLOWED))
    told = client.refusal(AGREE, order(honest(content())))
    assert "'m1' is none of the peers whose keys this client has" in told


@given(data=st.data())
@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_bytes_come_as_an_agreement_one_line_refuses_them(
    data: st.DataObject, client: Client
) -> None:
    """Or they are what an honest relay says."""
    whole = honest(content()).to_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255))
    damaged = whole[:place] + bytes([byte]) + whole[place + 1 :]
    try:
        same = ClientAgreement.from_bytes(damaged).to_bytes() == whole
    except ProtocolError:
        same = False
    assert same or len(client.refusal(AGREE, order(damaged)).splitlines()) == 1


@pytest.mark.parametrize("run", ["../../x", "/tmp/x", "", ".", "A" * 32, "0" * 31, "a\n"])
def test_a_run_s_name_leads_nowhere(run: str, client: Client, tmp_path: Path) -> None:
    victim = tmp_path / "x" / "checkpoints" / "000001"
    victim.mkdir(parents=True)
    assert "32 hexadecimal digits" in client.refusal(AGREE, order(honest(content()), run))
    assert victim.is_dir()
    assert not (tmp_path / "state").exists()


NO_NAMES = ["..", ".", "../x", "/tmp/x", "x/y", "-x", "x\n", "x\0y", "a name", "x" * 300]


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_run_to_go_on_with_leads_out_of_no_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``..`` a client had read checkpoints beside its own states."""
    read: list[Path] = []
    monkeypatch.setattr(RunFolder, "newest_state", lambda folder, _: read.append(folder.path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "state" / "checkpoints").mkdir(parents=True)
    client = Client(content(init_from="an-earlier-run"), tmp_path / "state", **policy_of(ALLOWED))
    client.context.run_config |= {"run-dir": name, "resume": True}
    for verb, fields in ((DESCRIBE, {}), (AGREE, order(honest(content())))):
        assert "which is no name" in client.refusal(verb, fields)
    assert read == []


@pytest.mark.parametrize("folder", ["..", "/", "", "runs/..", "runs/a name", "x\n", "x" * 300])
def test_a_run_whose_folder_has_no_name_is_refused_before_anything_is_kept(
    folder: str, client: Client, tmp_path: Path
) -> None:
    lie = {**order(honest(content())), "folder": folder}
    assert "which is no name" in client.refusal(AGREE, lie)
    assert not (tmp_path / "state").exists()
    client.ask(AGREE, order(honest(content())))  # the truth is still welcome
    assert (tmp_path / "state" / RUN / "name").read_text() == "nowhere"


@pytest.mark.parametrize("field", ["restore", "checkpoint", "step", "embed"])
@pytest.mark.parametrize("number", [5, 10**9, -2, 2**62])
def test_an_order_names_no_exchange_beyond_the_run(
    field: str, number: int, client: Client, tmp_path: Path
) -> None:
    client.ask(AGREE, order(honest(content())))
    assert f"'{field}' is beyond the run's 4" in client.refusal(EXCHANGE, {field: number})
    assert not list(tmp_path.rglob("*.safetensors"))


# ---- one handshake a run ---------------------------------------------------------------------


def trained(client: Client) -> tuple[dict[str, bytes], str]:
    """Let a client agree and step once; return the frames it got and the digest of its weights."""
    client.ask(AGREE, order(honest(content())))
    _, sent = client.ask(EXCHANGE, {"embed": 0})
    frame = Frame.unpack(sent["m1"])
    swapped = replace(frame, source="m1", destination="m0")  # as good as any of that shape
    frames = {"m1": swapped.pack()}
    client.ask(EXCHANGE, {"step": 0, "checkpoint": 1, "embed": 1}, frames)
    return frames, digest(client)


def digest(client: Client) -> str:
    return node_context.node_of(client.context).weights_digest()


def another() -> ClientAgreement:
    """Return an agreement that the client would accept, if it had not agreed already."""
    told = honest(content())
    return remasked("train", lambda mask: mask & (np.arange(len(mask)) > 20))(told)


@pytest.mark.parametrize("process", ["the same", "restarted"])
def test_a_second_handshake_does_not_reset_the_weights(process: str, client: Client) -> None:
    frames, before = trained(client)
    if process == "restarted":
        client.restarted()
    for repeated in (order(another()), order(honest(content()), "f" * 32)):
        assert "one handshake a run" in client.refusal(AGREE, repeated)
        assert digest(client) == before
    client.ask(AGREE, order(honest(content())))  # the same again, as when an answer was lost
    assert digest(client) == before
    client.ask(EXCHANGE, {"step": 0}, frames)  # an old frame again: the step is not taken twice
    assert digest(client) == before


def test_a_state_is_not_set_back_in_a_run(client: Client) -> None:
    frames, _ = trained(client)
    client.ask(EXCHANGE, {"step": 1, "checkpoint": 2}, _next(frames, 1))
    before = digest(client)
    assert "not set back" in client.refusal(EXCHANGE, {"restore": 1, "embed": 1})
    client.restarted()
    assert "not set back" in client.refusal(EXCHANGE, {"restore": 1, "embed": 1})
    assert digest(client) == before


def test_a_resumed_run_goes_on_from_its_checkpoint(client: Client, tmp_path: Path) -> None:
    """A new run to Flower, of the same run folder: the one time that a state is set back."""
    _, before = trained(client)
    resumed = Client(content(), tmp_path / "state", **policy_of(ALLOWED))
    resumed.ask(AGREE, order(honest(content())))
    resumed.ask(EXCHANGE, {"restore": 1, "embed": 1})
    resumed.ask(EXCHANGE, {"restore": 1, "embed": 1})  # asked again, as after a restart
    assert digest(resumed) == before


@pytest.mark.parametrize("process", ["the same", "restarted"])
def test_a_run_that_is_over_stays_over(process: str, client: Client) -> None:
    _, before = trained(client)
    answer, _ = client.ask(FINISH)
    assert answer == {"digest": before}
    if process == "restarted":
        client.restarted()
    assert client.ask(FINISH)[0] == {"digest": before}  # the answer was lost
    for fields in ({"embed": 0}, {"step": 0}):
        assert "is over" in client.refusal(EXCHANGE, fields)
    assert "one handshake a run" in client.refusal(AGREE, order(another()))


def _next(frames: dict[str, bytes], exchange: int) -> dict[str, bytes]:
    """Return frames of `exchange` in the shape that the schedule has for it."""
    told, old = honest(content()), Frame.unpack(frames["m1"])

    schedule = BatchSchedule.of(content().training, len(told.lists["train"]), 0)
    events = int(schedule.shared(told.shared["m1"]["train"], exchange).sum())
    z = np.ones((events, old.dim), dtype=np.float32)
    return {"m1": Frame.of("train", exchange, "m1", "m0", old.codec, z).pack()}

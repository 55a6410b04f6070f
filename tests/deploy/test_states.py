"""Clients with state folders of their own: they start from their own state, and keep the best."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.client_app import app as client_app
from sheafalign_fl.config import Settings
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.errors import HandshakeError, SheafAlignError
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings

THREE: dict[str, Any] = {"m0": {"dim": 10}, "m1": {"dim": 12}, "m2": {"dim": 14}}

pytestmark = [pytest.mark.usefixtures("no_reports"), pytest.mark.slow]


class _OwnFolders(ClientApp):
    """Gives each client a state folder, as a deployed node has one."""

    def __init__(self, states: Path) -> None:
        self._states = states

    def __call__(self, message: Message, context: Context) -> Message:
        client = str(context.node_config["client"])
        context.node_config["state-dir"] = str(self._states / client)
        return client_app(message, context)


def deployed(settings: Settings, folder: Path, states: Path) -> RunFolder:
    """Run with state folders below `states`; the run's own folder holds no client's state."""
    made = RunFolder(folder)
    made.create(settings)
    run_inprocess(settings, made, client_app=_OwnFolders(states))
    assert not list(made.checkpoints.glob("*/*.safetensors"))
    return made


def settings(clients: dict[str, Any], exchanges: int = 6, **more: Any) -> Settings:
    training = {"exchanges": exchanges, "learning_rate": 0.02}
    return toy_settings(clients=clients, training=training, **more)


def frozen(*names: str) -> dict[str, Any]:
    return {n: {**c, **({"freeze": True} if n in names else {})} for n, c in THREE.items()}


def test_each_client_starts_from_its_own_state_of_the_run_of_that_name(tmp_path: Path) -> None:
    first = deployed(settings(THREE), tmp_path / "street", tmp_path / "states")
    deployed(settings(THREE, 3), tmp_path / "square", tmp_path / "states")
    clients = {**frozen("m0", "m2"), "m3": {"dim": 9}}
    more = settings(clients, init_from="street")
    found = deployed(more, tmp_path / "more", tmp_path / "states").load_summary()
    assert [c.start for c in found.clients] == ["street, 6 exchanges"] * 3 + [""]
    # On one machine, from the run folder, it ends in the same bits.
    here = RunFolder(tmp_path / "here")
    here.create(settings(THREE))
    run_inprocess(here.settings(), here)
    assert here.load_summary().weights_digest == first.load_summary().weights_digest
    local = check(settings(clients, init_from=str(here.path))).settings
    again = RunFolder(tmp_path / "again")
    again.create(local)
    run_inprocess(local, again)
    assert again.load_summary().weights_digest == found.weights_digest


def test_of_two_runs_of_one_name_the_later_one_counts(tmp_path: Path) -> None:
    deployed(settings(THREE), tmp_path / "a" / "street", tmp_path / "states")
    later = deployed(settings(THREE, 2), tmp_path / "b" / "street", tmp_path / "states")
    for name in ("street", later.identity):
        begun = settings(THREE, 0, init_from=name)
        found = deployed(begun, tmp_path / name / "next", tmp_path / "states").load_summary()
        assert found.weights_digest == later.load_summary().weights_digest


@pytest.mark.parametrize(
    ("clients", "name", "reason"),
    [
        (THREE, "nowhere", "no client has weights of the run nowhere"),
        ({**THREE, "m3": {"dim": 9, "freeze": True}}, "street", "no weights of client 'm3'"),
        ({**THREE, "m1": {"dim": 9}}, "street", "encoder of client 'm1' had .* of shape"),
    ],
)
def test_what_a_node_does_not_have_or_cannot_use_is_told(
    clients: dict[str, Any], name: str, reason: str, tmp_path: Path
) -> None:
    deployed(settings(THREE, 2), tmp_path / "street", tmp_path / "states")
    more = settings(clients, init_from=name)
    with pytest.raises(SheafAlignError, match=reason) as caught:
        deployed(more, tmp_path / "more", tmp_path / "states")
    assert isinstance(caught.value, HandshakeError)


def test_the_best_checkpoint_is_kept_where_the_client_is(tmp_path: Path) -> None:
    best_of: Callable[..., Settings] = lambda **training: toy_settings(  # noqa: E731
        clients=THREE,
        training={"exchanges": 20, "learning_rate": 0.3, **training},
        evaluation={"every": 2},
        checkpoint={"every": 0, "keep": 1, "best": "R@10"},
    )
    run = deployed(best_of(), tmp_path / "run", tmp_path / "states")
    best = run.load_summary().best
    assert best is not None
    assert best.exchange < 16  # else it is among the newest anyway
    short = RunFolder(tmp_path / "short")
    short.create(best_of(exchanges=best.exchange))
    run_inprocess(short.settings(), short)
    for client in THREE:
        own = RunFolder(tmp_path / "states" / client / run.identity)
        assert own.best_exchange() == best.exchange
        kept = sorted(int(path.name) for path in own.checkpoints.iterdir())
        assert kept == [best.exchange, 18, 20]
        assert own.load_client(best.exchange, client) == short.load_client(best.exchange, client)
    assert json.loads((run.path / "best.json").read_text())["exchange"] == best.exchange

"""What several of these tests do with a run."""

from typing import Any

import pytest
from safetensors.torch import load as load_tensors
from torch import Tensor

from sheafalign_fl.config import Settings
from sheafalign_fl.protocol.verbs import EXCHANGE
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.ledger import read_ledger
from strategies.evaluation import Evaluation
from strategies.messenger import Messenger

_WEIGHTS = ("encoder.", "maps.")
SMALL: dict[str, Any] = {"dim": 8, "encoder_options": {"hidden": 24, "depth": 1}}
"""A client that is quickly trained."""


class PowerCut(BaseException):
    """Ends the process as far as the run can tell: nothing catches it."""


def cut_at(exchange: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the power when the relay is about to ask for `exchange`."""
    ask = Messenger.ask

    def cutting(
        self: Messenger, verb: str, orders: Any, group: str, *more: Any, **options: Any
    ) -> object:
        if verb == EXCHANGE and group == str(exchange):
            raise PowerCut
        return ask(self, verb, orders, group, *more, **options)

    monkeypatch.setattr(Messenger, "ask", cutting)


def cut_before_the_final_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the power when training is over and its last checkpoint is complete."""
    run = Evaluation.run

    def cutting(self: Evaluation, exchange: int, *, final: bool) -> object:
        if final:
            raise PowerCut
        return run(self, exchange, final=final)

    monkeypatch.setattr(Evaluation, "run", cutting)


def final_weights(settings: Settings, folder: RunFolder) -> dict[str, dict[str, Tensor]]:
    """Return client -> name -> weight out of the last checkpoint."""
    weights = {}
    for client in settings.clients:
        tensors = load_tensors(folder.load_client(settings.training.exchanges, client))
        weights[client] = {
            name: value for name, value in tensors.items() if name.startswith(_WEIGHTS)
        }
    return weights


def training_payload(folder: RunFolder) -> dict[tuple[int, str, str], int]:
    """Return (exchange, source, destination) -> payload bytes of training."""
    rows = (
        row for row in read_ledger(folder.ledger) if row.purpose == "train" and row.payload_bytes
    )
    return {(row.exchange, row.source, row.destination): row.payload_bytes for row in rows}

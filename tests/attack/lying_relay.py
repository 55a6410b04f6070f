"""A relay that may say anything to real ClientApps, and the data that it is after."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict

from clients.client_app import app
from sheafalign_fl.config import Settings, encode
from sheafalign_fl.config.policy import Policy
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.deploy.issuing import init_keys
from sheafalign_fl.errors import DataError
from sheafalign_fl.flower.place import POLICY
from sheafalign_fl.flower.records import act_as, pack, unpack
from sheafalign_fl.protocol.agreement import Agreement, ClientAgreement, Manifest, agree
from sheafalign_fl.protocol.messages import Scalar
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.protocol.verbs import (
    AGREE,
    DESCRIBE,
    EVALUATE_EMBED,
    EVALUATE_SCORE,
    EXCHANGE,
    FINISH,
)
from tests.conftest import toy_settings
from tests.toy import source

SECRET = "patient-4711"
CLIENTS = ("m0", "m1", "m2")
_runs = itertools.count(70_001)

Answer = tuple[dict[str, Scalar], dict[str, bytes]]


def private(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return the toy data with a secret in everything that is not an array.

    Option `fault`: raise an error of that kind, with the secret and a path in its text.
    """
    text = f"/home/clinic/{SECRET}.csv, line 3: '{SECRET}' is no number"
    match options.pop("fault", None):
        case "foreseen":
            raise DataError(text)
        case "unforeseen":
            raise ValueError(text)
    data = source(modality, seed, **options)
    classes = {"quadrant": tuple(f"{SECRET}-{kind}" for kind in "abcd")}
    return replace(data, classes=classes, notes=(f"{SECRET} is left out",))


def sealed_settings(**sections: Any) -> Settings:
    """Return toy settings of a sealed path m0 - m1 - m2 that measures retrieval and the probe."""
    data = {"source": "tests.attack.lying_relay:private"}
    content: dict[str, Any] = {
        "engine": "deployed",
        "data": data,
        "graph": {"topology": "path", "dim": 8},
        "training": {"exchanges": 4},
        "evaluation": {"every": 2, "metrics": ["retrieval", "probe"], "events": 60},
        "security": {"sealed": True},
    }
    options = sections.pop("options", {})
    return toy_settings(**{**content, "data": {**data, "options": options}, **sections})


class LyingRelay:
    """Speaks to one ClientApp for each client, as nothing but the relay's own will has it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Make keys for all clients under `folder`, and begin a run."""
        self.settings, self.topology = settings, build_topology(settings)
        init_keys(folder / "keys", list(settings.clients), [])
        run_id = next(_runs)
        self.contexts = {
            name: Context(run_id, number, self._node(folder, name), RecordDict(), {})
            for number, name in enumerate(settings.clients, start=2)
        }
        self.configure(settings)

    @staticmethod
    def _node(folder: Path, name: str) -> dict[str, Any]:
        keys = str(folder / "keys" / "clients" / name)
        state = str(folder / "state" / name)
        policy = Policy(allow=("tests.attack.lying_relay:private",)).to_text()
        own = {"client": name, "keys": keys, "state-dir": state, POLICY: policy}
        return {**own, "resident": True, "boot": "b"}

    def configure(self, settings: Settings) -> None:
        """Give the run, from now on, the configuration `settings`."""
        for context in self.contexts.values():
            context.run_config = {"config": encode(settings)}

    def ask(
        self,
        client: str,
        verb: str,
        fields: Mapping[str, Scalar] | None = None,
        frames: Mapping[str, bytes] | None = None,
    ) -> Answer:
        """Return fields and frames of a client's answer."""
        context = self.contexts[client]
        act_as(context.run_id, 1)
        message = Message(pack(fields, frames), context.node_id, verb)
        message.metadata.__dict__["_message_id"] = "1"
        act_as(context.run_id, context.node_id)
        return unpack(app(message, context))

    def handshake(self) -> Agreement:
        """Return what all clients have agreed to."""
        told = [self.ask(client, DESCRIBE)[0]["manifest"] for client in self.contexts]
        manifests = [Manifest.from_bytes(data) for data in told if isinstance(data, bytes)]
        agreement = agree(manifests, self.settings, self.topology)
        for client in self.contexts:
            assert self.tell(client, agreement.for_client(client, self.topology)) == ({}, {})
        return agreement

    def tell(self, client: str, agreement: ClientAgreement, run: str = "0" * 32) -> Answer:
        """Return what a client says to an agreement."""
        fields: dict[str, Scalar] = {
            "agreement": agreement.to_bytes(),
            "folder": "/nowhere",
            "run": run,
        }
        return self.ask(client, AGREE, fields)

    def everybody(
        self, verb: str, fields: Mapping[str, Scalar], sent: Mapping[str, Answer] | None = None
    ) -> dict[str, Answer]:
        """Ask all clients, and hand each the frames for it in the answers `sent` before."""
        return {
            client: self.ask(
                client,
                verb,
                fields,
                {
                    source: frames[client]
                    for source, (_, frames) in (sent or {}).items()
                    if client in frames
                },
            )
            for client in self.contexts
        }

    def whole_run(self, *, finish: bool = True) -> Iterator[tuple[str, Answer]]:
        """Yield every answer of an honest run, with its verb; the handshake is over."""
        total, every = self.settings.training.exchanges, self.settings.evaluation.every
        sent = self.everybody(EXCHANGE, {"embed": 0})
        yield from ((EXCHANGE, answer) for answer in sent.values())
        for exchange in range(total):
            following = {"embed": exchange + 1} if exchange + 1 < total else {}
            sent = self.everybody(EXCHANGE, {"step": exchange} | following, sent)
            yield from ((EXCHANGE, answer) for answer in sent.values())
            if (exchange + 1) % every == 0:
                yield from self._evaluation({"exchange": exchange + 1, "final": False})
        yield from self._evaluation({"exchange": total, "final": True})
        if finish:
            finished = self.everybody(FINISH, {"sample": False})
            yield from ((FINISH, answer) for answer in finished.values())

    def _evaluation(self, fields: Mapping[str, Scalar]) -> Iterator[tuple[str, Answer]]:
        sent = self.everybody(EVALUATE_EMBED, fields)
        yield from ((EVALUATE_EMBED, answer) for answer in sent.values())
        scored = self.everybody(EVALUATE_SCORE, fields, sent)
        yield from ((EVALUATE_SCORE, answer) for answer in scored.values())


def inverted(agreement: ClientAgreement) -> ClientAgreement:
    """Return the agreement with all masks the other way round."""
    shared = {
        peer: {name: np.logical_not(mask) for name, mask in masks.items()}
        for peer, masks in agreement.shared.items()
    }
    return replace(agreement, shared=shared)

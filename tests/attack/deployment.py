"""The real apps as a deployment runs them, in this process: nodes and a relay that trust nobody."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.app.user_config import UserConfig

from clients.client_app import app as client_app
from sheafalign_fl.config import Settings, encode
from sheafalign_fl.config.policy import Policy
from sheafalign_fl.engines.inprocess import InProcessGrid
from sheafalign_fl.flower.place import POLICY
from sheafalign_fl.flower.records import act_as, pack, unpack
from sheafalign_fl.protocol.messages import Scalar
from strategies.server_app import app as server_app
from tests.conftest import toy_settings

ALLOWED = Policy(allow=("tests.toy:source",))
"""The policy of nodes whose owner lets configurations name the tests' data source."""
_run_ids = itertools.count(10_000)


def deployed(**sections: Any) -> Settings:
    """Return the tests' settings for a deployment of two clients."""
    clients = {"m0": {"dim": 10}, "m1": {"dim": 12}}
    return toy_settings(**{"engine": "deployed", "clients": clients, **sections})


class Client:
    """One node's ClientApp, asked by whoever writes the messages."""

    def __init__(
        self, config: Settings | str, state: Path, name: str = "m0", **node: bool | str
    ) -> None:
        text = config if isinstance(config, str) else encode(config)
        own: UserConfig = {"client": name, "state-dir": str(state), "resident": True, **node}
        self.run_id = next(_run_ids)
        self.context = Context(self.run_id, 2, own, RecordDict(), {"config": text})

    def ask(
        self,
        verb: str,
        fields: Mapping[str, Scalar] | None = None,
        frames: Mapping[str, bytes] | None = None,
    ) -> tuple[dict[str, Scalar], dict[str, bytes]]:
        """Return the answer to one message of the relay."""
        act_as(self.run_id, 1)
        message = Message(pack(fields, frames), 2, verb)
        message.metadata.__dict__["_message_id"] = "1"
        act_as(self.run_id, 2)
        return unpack(client_app(message, self.context))

    def refusal(self, verb: str, fields: Mapping[str, Scalar] | None = None) -> str:
        """Return why the client refuses a message."""
        answer, frames = self.ask(verb, fields)
        assert set(answer) == {"failed", "exit_code"}, f"it was not refused: {answer}"
        assert not frames
        return str(answer["failed"])

    def restarted(self) -> None:
        """Forget what the process had in memory."""
        from clients import residence

        residence.leave(self.context)
        self.context.state = RecordDict()


def policy_of(policy: Policy) -> dict[str, str]:
    """Return what a node is started with to have `policy`."""
    return {POLICY: policy.to_text()}


def run_on_relay(
    config: Settings | str, run_dir: str, state: Path, policy: Policy = ALLOWED, **node: str
) -> None:
    """Let a relay and two nodes run what somebody submitted; raise what the ServerApp raises."""
    run_id = next(_run_ids)
    act_as(run_id, 1)
    text = config if isinstance(config, str) else encode(config)
    given: UserConfig = {"config": text, "run-dir": run_dir, "resume": False}
    contexts = {
        index: Context(
            run_id,
            index,
            {
                "client": name,
                "state-dir": str(state / name),
                "resident": True,
                **policy_of(policy),
                **node,
            },
            RecordDict(),
            dict(given),
        )
        for index, name in enumerate(("m0", "m1"), start=2)
    }
    grid = InProcessGrid(client_app, contexts, 2)
    try:
        server_app(grid, Context(run_id, 1, {}, RecordDict(), dict(given)))
    finally:
        grid.close()

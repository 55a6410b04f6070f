"""The relay's folder of keys, read again while the relay runs."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager

from sheafalign_fl.deploy import members as members_module
from sheafalign_fl.deploy.changing import add_client, revoke
from sheafalign_fl.deploy.issuing import init_keys
from sheafalign_fl.deploy.keys import load_relay_keys
from sheafalign_fl.deploy.members import Members
from sheafalign_fl.flower.node_keys import LinkState


class Relay:
    """A folder of keys, and what a relay with it would know."""

    def __init__(self, folder: Path, database: str) -> None:
        self.keys, self.file = folder / "keys", folder / "registered.json"
        init_keys(self.keys, ["camera", "lidar"], ["relay.lan"])
        self.state: LinkState = LinkStateFactory(
            database, NoOpFederationManager(), ObjectStoreFactory()
        ).state()
        self.members = Members(load_relay_keys(self.keys), self.state, self.file)
        self.members.refresh(None)

    def registered(self) -> dict[str, int]:
        nodes: dict[str, int] = json.loads(self.file.read_text())
        return nodes


@pytest.fixture(params=[FLWR_IN_MEMORY_DB_NAME, ":memory:"], ids=["in memory", "SQLite"])
def relay(tmp_path: Path, request: pytest.FixtureRequest) -> Relay:
    return Relay(tmp_path, request.param)


def test_who_is_revoked_is_forgotten_and_a_new_key_lets_it_in_again(relay: Relay) -> None:
    before = relay.registered()
    revoke(relay.keys, "lidar")
    relay.members.try_refresh(None)
    assert relay.registered() == {"camera": before["camera"]}
    add_client(relay.keys, "lidar", 100)
    relay.members.try_refresh(None)
    assert relay.registered()["camera"] == before["camera"]
    assert relay.registered()["lidar"] != before["lidar"]


def test_a_key_that_was_taken_back_is_refused_by_name_and_keeps_nobody_else_out(
    relay: Relay, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the folder of all keys comes back from a backup."""
    before = relay.registered()
    shutil.copytree(relay.keys, tmp_path / "backup")
    revoke(relay.keys, "lidar")
    relay.members.try_refresh(None)
    shutil.rmtree(relay.keys)
    shutil.move(tmp_path / "backup", relay.keys)
    add_client(relay.keys, "radar", 100)
    with caplog.at_level(logging.WARNING):
        relay.members.try_refresh(None)
    assert "client 'lidar' may not connect" in caplog.text
    assert "make it a new one" in caplog.text
    assert set(relay.registered()) == {"camera", "radar"}
    assert relay.registered()["camera"] == before["camera"]


def test_what_nobody_foresaw_does_not_end_the_looking(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(members_module, "register", lambda *_: 1 / 0)
        add_client(relay.keys, "radar", 100)
        relay.members.try_refresh(None)
    assert "could not be taken" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    add_client(relay.keys, "sonar", 100)
    relay.members.try_refresh(None)
    assert set(relay.registered()) == {"camera", "lidar", "radar", "sonar"}

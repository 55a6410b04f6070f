"""A relay that asks again: clients killed, messages lost, bytes that are still counted."""

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from sheafalign_fl.flower.records import pack, wire_bytes
from strategies import messenger
from strategies.handshake import _UNHEARD
from strategies.messenger import Messenger, Order, Outcome, Reply

NODE = 7
Answer = Callable[[Message, int], RecordDict | Error | None]
"""Message and how many came before it -> its answer; None: it is lost."""


class OneNode(Grid):
    """A Grid with one node, whose answers a test makes up."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.here = answer, True
        self.pushed: list[Message] = []
        self.pulled: list[Message] = []
        self._ready: dict[str, Message] = {}
        self._ids = itertools.count(1)

    def set_run(self, run: Run) -> None:
        """Not needed."""

    @property
    def run(self) -> Run:
        """Not needed."""
        return Run.create_empty(1)

    def create_message(self, *_: Any, **__: Any) -> Message:
        """Not needed."""
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        """Return the node, if it is there."""
        return [NODE] if self.here else []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Answer every message at once."""
        ids = []
        for message in messages:
            message_id = str(next(self._ids))
            message.metadata.__dict__["_message_id"] = message_id
            answer = self.answer(message, len(self.pushed))
            self.pushed.append(message)
            if answer is not None:
                reply = Message(answer, reply_to=message)
                self._ready[message_id] = reply
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the answers that are there."""
        found = [
            self._ready.pop(message_id)
            for message_id in list(message_ids)
            if message_id in self._ready
        ]
        self.pulled += found
        return found

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Not needed."""
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("run_id", "node_id", "task_id"):  # as Flower's own runtimes set them
        monkeypatch.setattr(TaskIdentity, f"_{name}", 1)
    for name in ("_SILENCE_SECONDS", "_LOOK_SECONDS", "_DEPLOYED_POLL_SECONDS"):
        monkeypatch.setattr(messenger, name, 0.01)


def kinds(grid: OneNode) -> list[str]:
    return [message.metadata.message_type for message in grid.pushed]


def ask(
    grid: OneNode, *, deadline: float | None = None, boots: dict[str, str] | None = None
) -> Outcome[None]:
    asking = Messenger(grid, {"lidar": NODE}, {"lidar": "first"} if boots is None else boots)
    orders, patient = {"lidar": Order({"step": 3})}, deadline is None
    return asking.ask("train.exchange", orders, "3", deadline, unread, patient=patient)


def unread(client: str, reply: Reply) -> None:
    """Take an answer as it is."""


def assert_all_counted(grid: OneNode, outcome: Outcome[None]) -> None:
    down = outcome.sent["lidar"] + outcome.extra_down["lidar"]
    up = outcome.extra_up["lidar"] + sum(reply.size for reply in outcome.replies.values())
    up += sum(outcome.failed_bytes.values())
    assert down == sum(wire_bytes(message) for message in grid.pushed)
    assert up == sum(wire_bytes(message) for message in grid.pulled)


def test_a_question_lost_with_a_killed_process_is_asked_again() -> None:
    def answer(message: Message, before: int) -> RecordDict | None:
        if message.metadata.message_type == "query.present":
            return pack({"boot": "second"})
        return pack({"done": True}) if before > 0 else None

    outcome = ask(grid := OneNode(answer))
    assert kinds(grid) == ["train.exchange", "query.present", "train.exchange"]
    assert outcome.replies["lidar"].fields == {"done": True}
    assert outcome.restarted == ["lidar"]
    assert_all_counted(grid, outcome)


def test_a_client_that_is_only_slow_is_not_asked_again() -> None:
    def answer(message: Message, before: int) -> RecordDict | None:
        return pack({"boot": "first"}) if message.metadata.message_type == "query.present" else None

    outcome = ask(grid := OneNode(answer), deadline=0.3)
    assert kinds(grid).count("train.exchange") == 1
    assert kinds(grid).count("query.present") >= 2
    assert outcome.late == ["lidar"]
    assert not outcome.restarted
    assert_all_counted(grid, outcome)


@pytest.mark.parametrize("code", [3, 4, 5])
def test_without_a_deadline_a_client_that_is_gone_is_waited_for(code: int) -> None:
    def answer(message: Message, before: int) -> RecordDict | Error:
        grid.here = before > 0
        return pack({"done": True}) if before == 2 else Error(code, "gone")

    grid = OneNode(answer)
    looks = itertools.count()
    grid.get_node_ids = (  # type: ignore[method-assign]
        lambda: [NODE] if next(looks) % 3 == 2 else []
    )
    outcome = ask(grid)
    assert kinds(grid) == ["train.exchange"] * 3
    assert outcome.replies["lidar"].fields == {"done": True}
    assert_all_counted(grid, outcome)


@pytest.mark.parametrize("boots", [{"lidar": "first"}, {}])
def test_with_a_deadline_a_client_that_is_gone_has_failed_at_once(boots: dict[str, str]) -> None:
    outcome = ask(grid := OneNode(lambda *_: Error(5, "gone")), deadline=60, boots=boots)
    assert outcome.failed == {"lidar": "gone"}
    assert outcome.unreachable == {"lidar"}
    assert kinds(grid) == ["train.exchange"]
    assert_all_counted(grid, outcome)


def test_simulated_clients_are_never_asked_whether_they_are_there() -> None:
    outcome = ask(grid := OneNode(lambda *_: None), deadline=0.2, boots={"lidar": ""})
    assert kinds(grid) == ["train.exchange"]
    assert outcome.late == ["lidar"]


def test_a_client_that_owed_an_answer_is_free_again_once_it_was_restarted() -> None:
    def answer(message: Message, before: int) -> RecordDict | None:
        if message.metadata.message_type == "query.present":
            return pack({"boot": "second"}) if before > 3 else pack({"boot": "first"})
        return None

    asking = Messenger(grid := OneNode(answer), {"lidar": NODE}, {"lidar": "first"})
    assert asking.ask("train.exchange", {"lidar": Order()}, "3", 0.03, unread).late == ["lidar"]
    assert asking.available() == []
    assert asking.ask("train.exchange", {}, "4", 5.0, unread).restarted == ["lidar"]
    assert asking.available() == ["lidar"]
    assert kinds(grid).count("train.exchange") == 1


def test_a_question_lost_before_anything_was_heard_of_the_node_is_asked_again() -> None:
    """As in the handshake, where the relay does not know yet which process a node is."""

    def answer(message: Message, before: int) -> RecordDict | None:
        if message.metadata.message_type == "query.present":
            return pack({"boot": "first"})
        return pack({"done": True}) if before > 0 else None

    outcome = ask(grid := OneNode(answer), deadline=60, boots={"lidar": _UNHEARD})
    assert kinds(grid) == ["train.exchange", "query.present", "train.exchange"]
    assert outcome.replies["lidar"].fields == {"done": True}
    assert_all_counted(grid, outcome)


def test_a_node_that_does_not_say_which_process_it_is_is_not_asked_again() -> None:
    """Flower's own SuperNode starts a process for every message."""

    def answer(message: Message, before: int) -> RecordDict | None:
        return pack({"boot": ""}) if message.metadata.message_type == "query.present" else None

    outcome = ask(grid := OneNode(answer), deadline=0.3, boots={"lidar": _UNHEARD})
    assert kinds(grid).count("train.exchange") == 1
    assert outcome.late == ["lidar"]
    assert_all_counted(grid, outcome)


def test_what_has_come_while_another_answer_was_fetched_is_not_late() -> None:
    """The first look takes until after the deadline and brings nothing: the line is cut."""
    grid = OneNode(lambda message, before: pack({"done": True}))
    fetch, slow = grid.pull_messages, iter([True])

    def pull(message_ids: Iterable[str]) -> Iterable[Message]:
        if next(slow, False):
            time.sleep(0.1)
            return []
        return fetch(message_ids)

    grid.pull_messages = pull  # type: ignore[method-assign]
    outcome = ask(grid, deadline=0.05)
    assert outcome.late == []
    assert outcome.replies["lidar"].fields == {"done": True}


# ---- clients whose keys were taken back ----------------------------------------------------------


@pytest.mark.parametrize("there", [True, False], ids=["it had the question", "it is gone"])
def test_nobody_waits_for_a_client_whose_certificate_was_revoked(there: bool) -> None:
    grid, registered = OneNode(lambda message, before: None), {"lidar": NODE}
    asking = Messenger(grid, {"lidar": NODE}, {"lidar": "first"}, lambda: registered)
    registered = {"camera": NODE + 1}  # read again by the relay
    if not there:
        grid.push_messages = lambda messages: ["" for _ in messages]  # type: ignore[method-assign]
        grid.get_node_ids = lambda: []  # type: ignore[method-assign]
    outcome = asking.ask("train.exchange", {"lidar": Order()}, "3", None, unread)
    assert outcome.failed == {"lidar": "its certificate has been revoked: it may connect no more"}
    assert outcome.unreachable == {"lidar"}


def test_a_debt_of_a_client_whose_certificate_was_revoked_is_forgotten() -> None:
    grid, registered = OneNode(lambda message, before: None), {"lidar": NODE}
    asking = Messenger(grid, {"lidar": NODE}, {"lidar": "first"}, lambda: registered)
    assert asking.ask("train.exchange", {"lidar": Order()}, "3", 0.005, unread).late == ["lidar"]
    registered = {}
    assert asking.ask("train.exchange", {}, "4", 60, unread).stale == {"lidar": 0}
    assert asking.available() == ["lidar"]


def test_a_client_that_the_relay_still_knows_is_waited_for() -> None:
    grid = OneNode(lambda message, before: None)
    asking = Messenger(grid, {"lidar": NODE}, {"lidar": "first"}, lambda: {"lidar": NODE})
    assert asking.ask("train.exchange", {"lidar": Order()}, "3", 0.3, unread).late == ["lidar"]

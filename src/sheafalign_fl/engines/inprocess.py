"""The in-process engine: the usual ClientApp and ServerApp, without Ray and without a SuperLink.

Messages are handed over in memory, and clients work in threads of this process (torch lets go of
the interpreter lock). Each client has one thread of its own for all of its messages: autograd
orders the sums of a backward pass by counters that are local to a thread, so a graph that two
threads had built would differ in its last bits from run to run.
"""

import itertools
import os
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path

import torch
from flwr.app import Context, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from sheafalign_fl.config import Settings, encode
from sheafalign_fl.engines.own_apps import CLIENT_APP, SERVER_APP, load_app
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.flower.place import OWN_MACHINE, POLICY
from sheafalign_fl.flower.records import Run, act_as, raised
from sheafalign_fl.runs.folder import RunFolder

_LONG_POLL = 0.05
_run_ids = itertools.count(1)


class InProcessGrid(Grid):
    """A Grid whose nodes are contexts in this process."""

    def __init__(
        self, client_app: ClientApp, contexts: Mapping[int, Context], workers: int
    ) -> None:
        """Serve `contexts` (node id -> context), at most `workers` of them at the same time."""
        self._app, self._contexts = client_app, dict(contexts)
        self.registered = {
            str(context.node_config["client"]): node
            for node, context in contexts.items()
            if "client" in context.node_config
        }
        """Client -> its node, which can speak for no other."""
        self._threads = {
            node: ThreadPoolExecutor(1, thread_name_prefix=f"client-{node}") for node in contexts
        }
        self._at_work = threading.BoundedSemaphore(workers)
        self._futures: dict[str, Future[Message]] = {}
        self._ids = itertools.count(1)
        self._run = Run.create_empty(next(iter(contexts.values())).run_id)

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Return the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message; Flower deprecates this in favour of `Message`."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand every message to its node's thread; return the messages' ids."""
        ids = []
        for message in messages:
            message_id = str(next(self._ids))
            message.metadata.__dict__["_message_id"] = message_id
            self._futures[message_id] = self._threads[message.metadata.dst_node_id].submit(
                self._serve, message
            )
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there, after waiting a moment for the first one."""
        wanted = {
            message_id: self._futures[message_id]
            for message_id in message_ids
            if message_id in self._futures
        }
        if not wanted:
            return []
        wait_for(wanted.values(), timeout=_LONG_POLL, return_when="FIRST_COMPLETED")
        ready = [message_id for message_id, future in wanted.items() if future.done()]
        return [self._futures.pop(message_id).result() for message_id in ready]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push `messages` and wait for all replies, at most `timeout` seconds."""
        waiting = {
            message_id: self._futures[message_id] for message_id in self.push_messages(messages)
        }
        wait_for(waiting.values(), timeout=timeout)
        return [
            self._futures.pop(message_id).result()
            for message_id, future in waiting.items()
            if future.done()
        ]

    def close(self) -> None:
        """Let the threads finish what they do, drop what they have not begun, and end them."""
        for thread in self._threads.values():
            thread.shutdown(wait=True, cancel_futures=True)

    def _serve(self, message: Message) -> Message:
        with self._at_work:
            try:
                return self._app(message, self._contexts[message.metadata.dst_node_id])
            except (
                Exception
            ) as error:  # a client that raises must not end the federation; Flower does the same
                return raised(error, message)


def run_inprocess(
    settings: Settings,
    folder: RunFolder,
    *,
    resume: bool = False,
    client_app: ClientApp | None = None,
) -> None:
    """Run a federation to its end in this process.

    Parameters
    ----------
    settings
        What to run.
    folder
        A created run folder.
    resume
        Go on from the folder's last checkpoint.
    client_app
        Stand-in for the ClientApp, for tests that make clients fail.

    Raises
    ------
    SheafAlignError
        Whatever the ServerApp raises.
    """
    run_id = next(_run_ids)
    act_as(run_id, 1)
    config: UserConfig = {
        "config": encode(settings),
        "run-dir": str(folder.path.resolve()),
        "resume": resume,
    }
    own: UserConfig = {POLICY: OWN_MACHINE}
    contexts = {
        index + 2: Context(
            run_id,
            index + 2,
            {**own, "client": client, "resident": True},
            RecordDict(),
            dict(config),
        )
        for index, client in enumerate(settings.clients)
    }
    app: ClientApp = client_app or load_app(CLIENT_APP, "the client app")
    server: ServerApp = load_app(SERVER_APP, "the server app")
    grid = InProcessGrid(app, contexts, worker_count(settings))
    threads = torch.get_num_threads()
    try:
        server(grid, Context(run_id, 1, dict(own), RecordDict(), dict(config)))
    finally:
        grid.close()
        torch.set_num_threads(threads)


def check_resources(settings: Settings) -> None:
    """Raise `ConfigError` if this machine cannot give a single client its resources."""
    resources, gpus = settings.resources, torch.cuda.device_count()
    if resources.cpus > processors():
        raise ConfigError(
            f"resources.cpus is {resources.cpus} but there are only {processors()} processors; "
            "lower it"
        )
    if resources.gpus > gpus:
        raise ConfigError(
            f"resources.gpus is {resources.gpus:g} but torch finds {gpus} CUDA devices; lower it"
        )


def worker_count(settings: Settings) -> int:
    """Return how many clients work at the same time: as many as the processors allow.

    So none is oversubscribed.
    """
    resources = settings.resources
    if resources.workers is not None:
        return resources.workers
    fit = int(processors() / max(resources.cpus, resources.threads))
    return max(1, min(fit, len(settings.clients)))


def processors() -> int:
    """Return how many processors this process may use; a container may allow fewer than all."""
    limit = Path("/sys/fs/cgroup/cpu.max")
    available = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if limit.is_file():
        quota, period = limit.read_text(encoding="ascii").split()[:2]
        if quota != "max":
            available = min(available, max(1, int(quota) // int(period)))
    return available

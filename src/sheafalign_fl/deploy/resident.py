"""A resident SuperNode: one process that holds a client's data, model and device.

It answers every message itself. It runs the ClientApp that is installed here, never code that the
relay sends.
"""

import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp

from sheafalign_fl.config.policy import STRICT, Policy
from sheafalign_fl.deploy.keys import load_certificate
from sheafalign_fl.deploy.measures import NodeCounts
from sheafalign_fl.deploy.monitoring import monitored
from sheafalign_fl.deploy.peers import FILE, MOST_BYTES, Peers
from sheafalign_fl.deploy.state_folder import Mark, copied_from, prune_runs, sign
from sheafalign_fl.deploy.troubles import Troubles
from sheafalign_fl.engines.own_apps import CLIENT_APP, load_app
from sheafalign_fl.errors import RunError, UserError
from sheafalign_fl.files import locked, private_folder, write_atomically
from sheafalign_fl.flower.address import Address
from sheafalign_fl.flower.fleet import (
    HEARTBEAT_SECONDS,
    Credentials,
    FleetConnection,
    FleetError,
    NodeRefusedError,
    RelayUnreachableError,
)
from sheafalign_fl.flower.place import POLICY
from sheafalign_fl.flower.records import act_as, raised

_log = logging.getLogger("sheafalign.node")
_BUSY_POLL_SECONDS = 0.03
_IDLE_POLL_SECONDS = 1.0
_BUSY_SECONDS = 10.0
"""So long after a message the next one is expected soon."""
_RETRY_SECONDS = 1.0
_ADMISSION_SECONDS = 2.5 * HEARTBEAT_SECONDS
"""The SuperLink forgets an earlier connection of the same key within that time."""
_UNAUTHORISED = 401


@dataclass(frozen=True)
class NodeSettings:
    """What a node is started with."""

    client: str
    relay: str
    """host:port."""
    credentials: Credentials | None
    """None: insecure."""
    state_dir: Path
    data: Path | None = None
    keys: Path | None = None
    unsealed: bool = False
    """Take part in runs whose edges are not sealed."""
    patience: float | None = None
    """Seconds to go on trying when the relay cannot be reached; None: for ever."""
    policy: Policy = STRICT
    """What a configuration may ask of this machine."""
    monitoring: Address | None = None
    """Where /metrics and /health are answered."""

    def node_config(self) -> UserConfig:
        """Return the node configuration that the ClientApp reads."""
        config: UserConfig = {"client": self.client, "state-dir": str(self.state_dir.resolve())}
        config[POLICY] = self.policy.to_text()
        if self.data is not None:
            config["data"] = str(self.data.resolve())
        if self.keys is not None:
            config |= {"keys": str(self.keys.resolve()), "unsealed": self.unsealed}
        return config

    def plain_command(self) -> list[str]:
        """Return the flower-supernode command for the same, slower: a process for every message."""
        words = ["flower-supernode", "--superlink", self.relay]
        if self.credentials is None:
            words.append("--insecure")
        else:
            words += ["--root-certificates", str(self.credentials.ca)]
            words += ["--auth-supernode-private-key", str(self.credentials.key_path)]
        config = " ".join(
            f"{name}={json.dumps(value)}" for name, value in self.node_config().items()
        )
        return [*words, "--node-config", config]


class ResidentNode:
    """Serves one client until it is stopped."""

    def __init__(self, settings: NodeSettings) -> None:
        """Prepare; nothing is connected yet."""
        self._settings = settings
        self._app: ClientApp = load_app(CLIENT_APP, "the client app")
        self._connection = FleetConnection(settings.relay, settings.credentials)
        self._config = settings.node_config() | {"resident": True, "boot": secrets.token_hex(8)}
        self._contexts: dict[int, Context] = {}
        self._mark = settings.state_dir / "connected"
        self._copied: str | None = None
        self._counts = NodeCounts()
        self._peers: Peers | None = None
        if (known := settings.credentials) is not None:
            self._peers = Peers(settings.state_dir / FILE, load_certificate(known.ca))
        self._stop = threading.Event()
        self._troubles = Troubles(_log)
        self._told_unreachable = False

    def stop(self) -> None:
        """Let `serve` return soon."""
        self._stop.set()

    def serve(self) -> None:
        """Connect and answer messages until `stop`.

        Raises
        ------
        NodeRefusedError
            The relay does not let this node in.
        UserError
            Another node works in the state folder.
        """
        watched = self._counts.watched(self._connection.meter)
        with (
            _locked(self._settings.state_dir),
            monitored(self._settings.monitoring, watched),
        ):
            try:
                self._look_at_state()
                self._connect()
                threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()
                self._answer()
            finally:
                self._leave()

    def _look_at_state(self) -> None:
        """Notice a state folder that is a copy or another client's, and remove what is old."""
        settings, folder = self._settings, self._settings.state_dir
        known = settings.credentials
        self._here = Mark.here(
            folder, settings.client, None if known is None else known.key.public_key()
        )
        self._copied = copied_from(folder, self._here)
        if self._copied is not None:
            self._mark.unlink(missing_ok=True)  # the connection that it names is the original's
            _log.warning(
                "%s was copied: it was written at '%s', in another folder or on another machine; "
                "only one of the two may be connected", folder, self._copied,
            )  # fmt: skip
        prune_runs(folder)

    # ---- the connection --------------------------------------------------------------------------

    def _connect(self) -> None:
        """Activate this node.

        Wait for a relay that is not there yet, or has not forgotten a killed process.
        """
        begun, refused = time.monotonic(), None
        while not self._stop.is_set():
            try:
                self._forget_predecessor()
                node_id = self._connection.activate()
                break
            except FleetError as error:
                if refused is not None and time.monotonic() - refused > _ADMISSION_SECONDS:
                    raise NodeRefusedError(self._why_refused(error)) from None
                if refused is None:
                    _log.info("not let in yet (%s); trying for %.0f s", error, _ADMISSION_SECONDS)
                    refused = time.monotonic()
            except RelayUnreachableError as error:
                self._note_unreachable(error, begun)
            self._stop.wait(_RETRY_SECONDS)
        else:
            return
        self._learn_peers()
        with self._troubles.outlived(f"writing {self._mark.name}", OSError):
            sign(self._settings.state_dir, self._here)
            write_atomically(self._mark, str(node_id).encode())
        self._told_unreachable, self._counts.connected = False, True
        _log.info(
            "connected to %s as client '%s' (node %d)",
            self._settings.relay,
            self._settings.client,
            node_id,
        )

    def _why_refused(self, error: FleetError) -> str:
        settings = self._settings
        why = (
            "its key is not one that the relay was started with, or another node with it is "
            "connected, or this machine's clock is off (`sheafalign doctor` compares)"
        )
        if self._copied is not None:
            why = (
                f"{settings.state_dir} is a copy of the state folder of a node at "
                f"'{self._copied}', which is connected; end one of the two"
            )
        return f"the relay at {settings.relay} refuses client '{settings.client}' ({error}): {why}"

    def _learn_peers(self) -> None:
        """Ask the relay for what the authority signed of other clients; what is wrong is logged."""
        if self._peers is None:
            return
        try:
            self._peers.learn(self._connection.peers(MOST_BYTES))
        except (FleetError, UserError) as error:
            _log.warning("no news of other clients' keys: %s", error)

    def _forget_predecessor(self) -> None:
        """Take down a killed process's connection: only that leaves a mark in the locked folder."""
        if self._mark.is_file():
            with suppress(FleetError, ValueError, OSError):
                self._connection.deactivate(int(self._mark.read_text(encoding="ascii")))
            self._mark.unlink(missing_ok=True)

    def _note_unreachable(self, error: RelayUnreachableError, since: float) -> None:
        self._counts.connected = False
        patience = self._settings.patience
        if patience is not None and time.monotonic() - since > patience:
            raise error
        if not self._told_unreachable:
            _log.warning("%s; trying again until it is back", error)
        self._told_unreachable = True

    def _beat(self) -> None:
        """Say every few seconds that this node is there, whatever it is working on."""
        while not self._stop.wait(HEARTBEAT_SECONDS / 2):
            # A thread that ended would make this node count as gone while it works.
            alive = self._troubles.outlived("the sign of life to the relay", Exception)
            with alive, suppress(RunError, UserError):
                self._connection.heartbeat()
            self._save_traffic()

    def _save_traffic(self) -> None:
        path = self._settings.state_dir / "traffic.json"
        with self._troubles.outlived(f"writing {path.name}", OSError):
            self._connection.meter.save(path)

    def _leave(self) -> None:
        with suppress(Exception):
            if self._connection.node_id:
                self._connection.deactivate(self._connection.node_id)
        with suppress(OSError):
            self._mark.unlink(missing_ok=True)
        self._connection.close()
        self._save_traffic()

    # ---- messages --------------------------------------------------------------------------------

    def _answer(self) -> None:
        last = lost = time.monotonic()
        while not self._stop.is_set():
            try:
                message = self._connection.receive()
                if message is not None:
                    self._serve(message)
                    last = time.monotonic()
                self._counts.connected = True
                if message is None and self._told_unreachable:
                    _log.info("the relay is back")
                    self._told_unreachable = False
                lost = time.monotonic()
            except RelayUnreachableError as error:
                self._note_unreachable(error, lost)
                self._announce_loss()
                self._stop.wait(_RETRY_SECONDS)
                continue
            except FleetError as error:
                if (
                    error.status == _UNAUTHORISED
                ):  # the relay was started anew and knows this node by another number
                    _log.warning(
                        "the relay does not know this connection any more; connecting again"
                    )
                    with suppress(OSError):
                        self._mark.unlink(missing_ok=True)
                    self._connect()
                else:  # the run has ended meanwhile, or the message is gone: not this node's affair
                    _log.warning("the relay refused a call: %s", error)
                    self._stop.wait(_RETRY_SECONDS)
                continue
            except UserError:
                raise
            except Exception as error:
                # Whatever it is, the node stays: the relay asks again who has another identity.
                pause = self._troubles.note("asking the relay for messages", error)
                self._announce_loss()
                self._stop.wait(pause)
                continue
            self._troubles.over("asking the relay for messages")
            if message is None:
                busy = time.monotonic() - last < _BUSY_SECONDS
                self._stop.wait(_BUSY_POLL_SECONDS if busy else _IDLE_POLL_SECONDS)

    def _announce_loss(self) -> None:
        """Take another identity.

        A message may have been lost, and the relay asks those again that are new.
        """
        self._config["boot"] = secrets.token_hex(8)
        for context in self._contexts.values():
            context.node_config["boot"] = self._config["boot"]

    def _serve(self, message: Message) -> None:
        run_id, kind = message.metadata.run_id, message.metadata.message_type
        act_as(run_id, self._connection.node_id)
        begun = time.perf_counter()
        try:
            reply = self._app(message, self._context(run_id))
        except (FleetError, RelayUnreachableError):
            raise
        except Exception as error:  # what raises must not end the node; Flower does the same
            _log.exception("%s failed", kind)
            reply = raised(error, message)
        worked = time.perf_counter() - begun
        self._counts.served(kind, failed=reply.has_error())
        self._connection.reply(reply)
        facts = {
            "run": run_id,
            "client": self._settings.client,
            "exchange": message.metadata.group_id,
        }
        _log.info("%s", kind, extra={"facts": facts | {"worked": round(worked, 6)}})
        if kind == "query.finish":
            self._contexts.pop(run_id, None)

    def _context(self, run_id: int) -> Context:
        if run_id not in self._contexts:
            config = self._connection.run_config(run_id)
            self._learn_peers()
            self._contexts[run_id] = Context(
                run_id, self._connection.node_id, dict(self._config), RecordDict(), dict(config)
            )
            for old in list(self._contexts)[:-2]:  # runs that were broken off
                del self._contexts[old]
        return self._contexts[run_id]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second node from working in the same state folder."""
    private_folder(folder, "the state folder")
    with locked(folder, f"another node is at work in {folder}; one node serves one client"):
        yield

"""The Flower ClientApp: describe, agree, exchange, evaluate, finish (`sheafalign_fl.protocol` names the verbs)."""

import logging
from collections.abc import Callable, Mapping
from functools import wraps

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from clients import evaluation, frames, residence, told
from sheafalign_fl.config.policy import under
from sheafalign_fl.errors import NotFiniteError, ProtocolError, RunError, SheafAlignError
from sheafalign_fl.flower.records import Scalar, pack, unpack
from sheafalign_fl.learner.manifest import client_data, describe
from sheafalign_fl.learner.node import Node
from sheafalign_fl.metrics.classifier import check_installed
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.measuring import Measuring
from sheafalign_fl.protocol.rows import Loss, pack_losses
from sheafalign_fl.protocol.seal import SealedEdges
from sheafalign_fl.protocol.timing import StopWatch
from sheafalign_fl.protocol.verdict import Check, pack_verdicts
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.threads import limit_threads

app = ClientApp()
_log = logging.getLogger("sheafalign.node")
Handler = Callable[[Message, Context], Message]


def _answering(handler: Handler) -> Handler:
    """Give the handler its threads, and turn what goes wrong into an answer with its reason.

    The number of threads is set before anything is computed, the initial weights too: it decides
    their last bits. Whether edges are sealed as this node wants is checked for every verb, because
    nothing makes a relay ask in order.
    """

    @wraps(handler)
    def answer(message: Message, context: Context) -> Message:
        try:
            with under(residence.policy_of(context)):
                limit_threads(residence.settings_of(context).resources.threads)
                if residence.client_of(context) is not None:
                    residence.check_sealing(context)
                return handler(message, context)
        except Exception as error:
            code = error.exit_code if isinstance(error, SheafAlignError) else 1
            content = pack({"failed": told.reason(error, context), "exit_code": code})
            return Message(content, reply_to=message)

    return answer


@app.query("describe")
@_answering
def _describe(message: Message, context: Context) -> Message:
    """Answer the handshake: who this is, what it has; never what its data is."""
    settings = residence.settings_of(context)
    name = residence.client_of(context)
    if name is None:
        return Message(pack({"spare": True}), reply_to=message)
    check_installed(settings.evaluation.metrics)
    nonce, boot = residence.nonce_of(context), str(context.node_config.get("boot", ""))
    manifest = describe(name, settings, client_data(name, settings), nonce, boot)
    return Message(pack({"manifest": manifest.to_bytes()}), reply_to=message)


@app.query("agree")
@_answering
def _agree(message: Message, context: Context) -> Message:
    """Take the agreement: neighbours, agreed events, what each edge shares."""
    fields, _ = unpack(message)
    agreement, folder, run = fields["agreement"], fields["folder"], fields["run"]
    if not isinstance(agreement, bytes):
        raise ProtocolError("an agreement that is not bytes")
    residence.settle(context, agreement, str(folder), str(run))
    residence.node_of(context)  # made now, so that what is wrong with it shows now
    residence.seal_of(context)
    return Message(pack(), reply_to=message)


@app.query("present")
def _present(message: Message, context: Context) -> Message:
    """Tell the relay which process this is: another one than it knows has lost the message that it waits for."""
    return Message(pack({"boot": str(context.node_config.get("boot", ""))}), reply_to=message)


@app.query("refuse")
def _refuse(message: Message, context: Context) -> Message:
    """Hear why the relay goes on without this client."""
    fields, _ = unpack(message)
    _log.error("the relay refuses run %d: %s", context.run_id, fields.get("reason"))
    residence.end(context)
    return Message(pack(), reply_to=message)


@app.train("exchange")
@_answering
def _exchange(message: Message, context: Context) -> Message:
    """Take the step that the neighbours' embeddings allow, then embed the next batch.

    Fields: `restore` (load the checkpoint after that many exchanges first), `step` (the exchange to step on),
    `checkpoint` (save, as that many exchanges), `embed` (the exchange to embed; in a stale schedule before the step);
    -1 leaves a part out.
    """
    fields, inbound = unpack(message)
    node, seal, watch = residence.node_of(context), residence.seal_of(context), StopWatch()
    _check_numbers(fields, node)
    if (restore := _number(fields, "restore")) >= 0:
        residence.check_restore(context)
        node.load_state(RunFolder(residence.folder_of(context)).load_client(restore, node.name))
        node.restored = None
    losses: list[Loss] = []
    embeddings: Mapping[str, NDArray[np.floating]] = {}
    following, stale = _number(fields, "embed"), node.settings.training.stale
    if following >= 0 and stale:
        with watch("compute"):
            embeddings = node.embed(following)
    if (exchange := _number(fields, "step")) >= 0:
        losses = _step(node, exchange, inbound, seal, watch)
        residence.begin(context)
    if (checkpoint := _number(fields, "checkpoint")) >= 0:
        with watch("save"):
            residence.save(context, node, checkpoint)
    if following >= 0 and not stale:
        with watch("compute"):
            embeddings = node.embed(following)
    with watch("encode"):
        outbound = send(embeddings, node, following, seal)
    residence.keep(context, node)
    timing = {"timing": watch.to_bytes()} if "boot" in context.node_config else {}
    said = {"losses": pack_losses(losses)} if losses else {}
    if exchange >= 0 and node.gate.verdicts:
        said["verdicts"] = pack_verdicts(node.gate.verdicts)
    return Message(pack(said | timing, outbound), reply_to=message)


def _step(
    node: Node,
    exchange: int,
    inbound: Mapping[str, bytes],
    seal: SealedEdges | None,
    watch: StopWatch,
) -> list[Loss]:
    """Take the step of `exchange`, unless it is in the weights already: then the relay asks for the second time."""
    if node.done > exchange:
        return node.last
    if (
        node.restored is not None
        and node.restored < exchange
        and node.settings.training.deadline is None
    ):
        raise RunError(
            f"client '{node.name}' was restarted with its state after {node.restored} exchanges, but {exchange} are "
            "done; resume the run from its last checkpoint, and set checkpoint.every: 1 to lose nothing"
        )
    with watch("encode"):
        received, unreadable = receive(inbound, node, exchange, seal)
    with watch("compute"):
        losses = node.step(exchange, received, unreadable)
    node.restored = None
    return losses


@app.evaluate("embed")
@_answering
def _evaluate_embed(message: Message, context: Context) -> Message:
    """Send every neighbour the comparison embeddings of an agreed list of held-out events."""
    fields, _ = unpack(message)
    node = residence.node_of(context)
    measuring = _measuring(fields, node)
    return Message(
        pack({}, evaluation.embed(node, measuring, residence.seal_of(context))), reply_to=message
    )


@app.evaluate("score")
@_answering
def _evaluate_score(message: Message, context: Context) -> Message:
    """Measure this client's own embeddings against those that its neighbours sent."""
    fields, inbound = unpack(message)
    node = residence.node_of(context)
    measuring = _measuring(fields, node)
    folder, seal = residence.folder_of(context), residence.seal_of(context)
    answer, outbound = evaluation.score(node, measuring, inbound, folder, seal)
    return Message(pack(answer, outbound), reply_to=message)


def _measuring(fields: Mapping[str, Scalar], node: Node) -> Measuring:
    """Return what evaluation a message asks for; raise `ProtocolError` unless it is due."""
    measuring = Measuring.of_fields(fields)
    measuring.check(node.settings, node.done)
    return measuring


@app.query("finish")
@_answering
def _finish(message: Message, context: Context) -> Message:
    """Draw a sample of the data, tell the digest of the final weights, and let the node go."""
    fields, _ = unpack(message)
    digest = residence.digest_of(context)
    if digest is None:  # else the answer was lost
        node = residence.node_of(context)
        if fields.get("sample"):
            evaluation.draw_sample(node, residence.folder_of(context))
        digest = node.weights_digest()
        residence.end(context, digest)
    return Message(pack({"digest": digest}), reply_to=message)


def send(
    embeddings: Mapping[str, NDArray[np.floating]],
    node: Node,
    exchange: int,
    seal: SealedEdges | None = None,
) -> dict[str, bytes]:
    """Return neighbour -> packed training frame."""
    codec = node.settings.codec
    return {
        neighbour: frames.write(Frame.of("train", exchange, node.name, neighbour, codec, z), seal)
        for neighbour, z in embeddings.items()
    }


def receive(
    inbound: Mapping[str, bytes], node: Node, exchange: int, seal: SealedEdges | None = None
) -> tuple[dict[str, NDArray[np.floating]], dict[str, Check]]:
    """Return neighbour -> z_ji out of packed training frames, and neighbour -> why it is not there.

    A frame that is damaged, whose seal is broken, or that is not from that neighbour to this client
    for this exchange in the agreed codec and shape, costs its own edge this exchange and no other.
    """
    received: dict[str, NDArray[np.floating]] = {}
    unreadable: dict[str, Check] = {}
    for neighbour, data in inbound.items():
        try:
            values = frames.read(
                data, "train", exchange, neighbour, node.name, node.settings.codec, seal
            )
            node.events.by_batch(exchange, neighbour, values)
            received[neighbour] = values
        except ProtocolError as error:
            unreadable[neighbour] = "finite" if isinstance(error, NotFiniteError) else "frame"
            _log.warning("exchange %d, from '%s': %s", exchange, neighbour, error)
    return received, unreadable


def _check_numbers(fields: Mapping[str, Scalar], node: Node) -> None:
    """Refuse numbers of exchanges that the run does not have, and embeddings of a past one."""
    total = node.settings.training.exchanges
    last = {"restore": total, "step": total - 1, "checkpoint": total, "embed": total - 1}
    for name, most in last.items():
        if not -1 <= _number(fields, name) <= most:
            raise ProtocolError(f"the field '{name}' is beyond the run's {total} exchanges")
    if -1 < _number(fields, "embed") < max(node.done - 1, _number(fields, "step")):
        raise ProtocolError(
            f"client '{node.name}' is to embed exchange {fields['embed']!r}, which is past"
        )


def _number(fields: Mapping[str, Scalar], name: str) -> int:
    value = fields.get(name, -1)
    if type(value) is not int:
        raise ProtocolError(f"the field '{name}' is not an integer")
    return value

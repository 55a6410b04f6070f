"""The Flower ClientApp: describe, agree, exchange, evaluate, finish.

`sheafalign_fl.protocol` names the verbs.
"""

import logging
from collections.abc import Callable, Mapping
from functools import wraps

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from clients import evaluation, frames, node_context, refusals
from clients.pictures import draw_sample
from sheafalign_fl.config.policy import under
from sheafalign_fl.errors import NotFiniteError, ProtocolError, RunError, SheafAlignError
from sheafalign_fl.flower.records import pack, unpack
from sheafalign_fl.learner.manifest import client_data, describe
from sheafalign_fl.learner.node import Node
from sheafalign_fl.metrics.classifier import check_installed
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.measuring import Measuring
from sheafalign_fl.protocol.messages import (
    AgreementOrder,
    Dismissal,
    ExchangeOrder,
    ExchangeReply,
    FinishOrder,
    FinishReply,
    ManifestReply,
    Presence,
    Refusal,
    Scalar,
)
from sheafalign_fl.protocol.rows import Loss
from sheafalign_fl.protocol.seal import SealedEdges
from sheafalign_fl.protocol.timing import StopWatch
from sheafalign_fl.protocol.verdict import Check
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.shares.folder import has_share
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
            with under(node_context.policy_of(context)):
                limit_threads(node_context.settings_of(context).resources.threads)
                if node_context.client_of(context) is not None:
                    node_context.check_sealing(context)
                return handler(message, context)
        except Exception as error:
            code = error.exit_code if isinstance(error, SheafAlignError) else 1
            refusal = Refusal(failed=refusals.reason(error, context), exit_code=code)
            return Message(pack(refusal.fields()), reply_to=message)

    return answer


@app.query("describe")
@_answering
def _describe(message: Message, context: Context) -> Message:
    """Answer the handshake: who this is, what it has; never what its data is."""
    settings = node_context.settings_of(context)
    name = node_context.client_of(context)
    if name is None:
        return Message(pack(ManifestReply(spare=True).fields()), reply_to=message)
    check_installed(settings.evaluation.metrics)
    nonce, boot = node_context.nonce_of(context), str(context.node_config.get("boot", ""))
    start = node_context.started_from(context)
    manifest = describe(name, settings, client_data(name, settings), nonce, boot, start)
    answer = ManifestReply(manifest=manifest.to_bytes())
    return Message(pack(answer.fields()), reply_to=message)


@app.query("agree")
@_answering
def _agree(message: Message, context: Context) -> Message:
    """Take the agreement: neighbours, agreed events, what each edge shares."""
    fields, _ = unpack(message)
    order = AgreementOrder.read(fields)
    node_context.settle(context, order.agreement, order.folder, order.run)
    node_context.node_of(context)  # made now, so that what is wrong with it shows now
    node_context.seal_of(context)
    return Message(pack(), reply_to=message)


@app.query("present")
def _present(message: Message, context: Context) -> Message:
    """Tell the relay which process this is: another than it knows lost the message it waits for."""
    presence = Presence(boot=str(context.node_config.get("boot", "")))
    return Message(pack(presence.fields()), reply_to=message)


@app.query("refuse")
def _refuse(message: Message, context: Context) -> Message:
    """Hear why the relay goes on without this client."""
    fields, _ = unpack(message)
    reason = Dismissal.read(fields).reason
    _log.error("the relay refuses run %d: %s", context.run_id, reason)
    node_context.end(context)
    return Message(pack(), reply_to=message)


@app.train("exchange")
@_answering
def _exchange(message: Message, context: Context) -> Message:
    """Take the step that the neighbours' embeddings allow, then embed the next batch."""
    fields, inbound = unpack(message)
    order = ExchangeOrder.read(fields)
    node, seal, watch = node_context.node_of(context), node_context.seal_of(context), StopWatch()
    order.check(node.name, node.settings.training.exchanges, node.done)
    if order.restore is not None:
        node_context.check_restore(context)
        state = RunFolder(node_context.folder_of(context)).load_client(order.restore, node.name)
        node.load_state(state)
        node.restored = None
    if order.step is None and (following := order.embed or order.checkpoint):
        _check_current(node, following - 1)
    losses: list[Loss] = []
    stale = node.settings.training.stale
    embeddings = _embed(node, order.embed if stale else None, watch)
    if order.step is not None:
        losses = _step(node, order.step, inbound, seal, watch)
        node_context.begin(context)
    if order.checkpoint is not None:
        with watch("save"):
            node_context.save(context, node, order.checkpoint, order.best)
    embeddings |= _embed(node, None if stale else order.embed, watch)
    with watch("encode"):
        outbound = send(embeddings, node, order.embed or 0, seal)
    node_context.keep(context, node)
    verdicts = node.gate.verdicts if order.step is not None else ()
    timing = watch.to_bytes() if "boot" in context.node_config else None
    answer = ExchangeReply.of(losses, verdicts, timing)
    return Message(pack(answer.fields(), outbound), reply_to=message)


def _embed(node: Node, exchange: int | None, watch: StopWatch) -> dict[str, NDArray[np.floating]]:
    """Return neighbour -> comparison embeddings of `exchange`; of none there are none."""
    if exchange is None:
        return {}
    with watch("compute"):
        return dict(node.embed(exchange))


def _check_current(node: Node, done: int) -> None:
    """Refuse to work on with weights of long ago, unless the run's clients go on without waiting.

    Raises
    ------
    RunError
        The node was restarted with a state of fewer than `done` exchanges, and there is no deadline
        by which the others would have gone on without it.
    """
    if node.restored is None or node.restored >= done:
        return
    told = (
        f"client '{node.name}' was restarted with its state after {node.restored} exchanges, but "
        f"{done} are done"
    )
    if node.settings.training.deadline is None:
        raise RunError(
            f"{told}; resume the run from its last checkpoint, and set checkpoint.every: 1 to lose "
            "nothing"
        )
    _log.warning("%s; it goes on from there", told)


def _step(
    node: Node,
    exchange: int,
    inbound: Mapping[str, bytes],
    seal: SealedEdges | None,
    watch: StopWatch,
) -> list[Loss]:
    """Take the step of `exchange`, unless it is in the weights already: the relay asks again."""
    if node.done > exchange:
        return node.last
    _check_current(node, exchange)
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
    node = node_context.node_of(context)
    measuring = _measuring(fields, node)
    return Message(
        pack({}, evaluation.embed(node, measuring, node_context.seal_of(context))), reply_to=message
    )


@app.evaluate("score")
@_answering
def _evaluate_score(message: Message, context: Context) -> Message:
    """Measure this client's own embeddings against those that its neighbours sent."""
    fields, inbound = unpack(message)
    node = node_context.node_of(context)
    measuring = _measuring(fields, node)
    folder, seal = node_context.folder_of(context), node_context.seal_of(context)
    run = node_context.run_of(context)
    answer, outbound = evaluation.score(node, measuring, inbound, folder, run, seal)
    return Message(pack(answer.fields(), outbound), reply_to=message)


def _measuring(fields: Mapping[str, Scalar], node: Node) -> Measuring:
    """Return what evaluation a message asks for; raise `ProtocolError` unless it is due."""
    measuring = Measuring.read(fields)
    measuring.check(node.settings, node.done)
    _check_current(node, measuring.exchange)
    return measuring


@app.query("finish")
@_answering
def _finish(message: Message, context: Context) -> Message:
    """Draw a sample of the data, tell the digest of the final weights, and let the node go."""
    fields, _ = unpack(message)
    order, digest = FinishOrder.read(fields), node_context.digest_of(context)
    if digest is None:  # else the answer was lost
        node = node_context.node_of(context)
        _check_current(node, node.settings.training.exchanges)
        if order.sample:
            draw_sample(node, node_context.folder_of(context))
        digest = node.weights_digest()
        folder = node_context.folder_of(context)
        if not has_share(folder, node.name, digest):  # it was absent from the evaluation
            evaluation.leave_share(node, folder, node_context.run_of(context))
        node_context.keep_best(context, order.best)
        node_context.end(context, digest)
    return Message(pack(FinishReply(digest=digest).fields()), reply_to=message)


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
            shape = node.events.expected(exchange, neighbour)
            due = frames.Due("train", exchange, neighbour, node.name, node.settings.codec, *shape)
            received[neighbour] = frames.read(data, due, seal)
        except ProtocolError as error:
            unreadable[neighbour] = "finite" if isinstance(error, NotFiniteError) else "frame"
            _log.warning("exchange %d, from '%s': %s", exchange, neighbour, error)
    return received, unreadable

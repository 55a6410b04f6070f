"""The Flower ClientApp: describe, agree, exchange, evaluate, finish (`sheafalign_fl.protocol` names the verbs)."""

from collections.abc import Callable, Mapping
from functools import wraps

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from clients import evaluation, residence
from sheafalign_fl.errors import ProtocolError, SheafAlignError
from sheafalign_fl.flower.records import Scalar, pack, unpack
from sheafalign_fl.manifest import client_data, describe
from sheafalign_fl.node import LOSS_TERMS, Node
from sheafalign_fl.protocol import Frame
from sheafalign_fl.run.folder import RunFolder
from sheafalign_fl.run.results import Loss
from sheafalign_fl.threads import limit_threads

app = ClientApp()
Handler = Callable[[Message, Context], Message]


def _answering(handler: Handler) -> Handler:
    """Give the handler its threads, and turn an error that the protocol foresees into an answer with its reason.

    The number of threads is set before anything is computed, the initial weights too: it decides their last bits.
    """

    @wraps(handler)
    def answer(message: Message, context: Context) -> Message:
        try:
            limit_threads(residence.settings_of(context).resources.threads)
            return handler(message, context)
        except SheafAlignError as error:
            return Message(pack({"failed": str(error), "exit_code": error.exit_code}), reply_to=message)

    return answer


@app.query("describe")
@_answering
def _describe(message: Message, context: Context) -> Message:
    """Answer the handshake: who this is, what it has; never what its data is."""
    settings = residence.settings_of(context)
    name = residence.client_of(context)
    if name is None:
        return Message(pack({"spare": True}), reply_to=message)
    if name not in settings.clients:
        raise ProtocolError(f"this node is client '{name}', which the configuration does not name")
    manifest = describe(name, settings, client_data(name, settings))
    return Message(pack({"manifest": manifest.to_bytes()}), reply_to=message)


@app.query("agree")
@_answering
def _agree(message: Message, context: Context) -> Message:
    """Take the agreement: neighbours, agreed events, what each edge shares."""
    fields, _ = unpack(message)
    agreement, folder = fields["agreement"], fields["folder"]
    if not isinstance(agreement, bytes):
        raise ProtocolError("an agreement that is not bytes")
    residence.settle(context, agreement, str(folder))
    residence.node_of(context)  # made now, so that what is wrong with it shows now
    return Message(pack(), reply_to=message)


@app.train("exchange")
@_answering
def _exchange(message: Message, context: Context) -> Message:
    """Take the step that the neighbours' embeddings allow, then embed the next batch.

    Fields: `restore` (load the checkpoint after that many exchanges first), `step` (the exchange to step on),
    `checkpoint` (save, as that many exchanges), `embed` (the exchange to embed; in a stale schedule before the step);
    -1 leaves a part out.
    """
    fields, frames = unpack(message)
    node = residence.node_of(context)
    folder = RunFolder(residence.folder_of(context))
    if (restore := _number(fields, "restore")) >= 0:
        node.load_state(folder.load_client(restore, node.name))
    losses: list[Loss] = []
    outbound: dict[str, bytes] = {}
    following, stale = _number(fields, "embed"), node.settings.training.stale
    if following >= 0 and stale:
        outbound = send(node.embed(following), node, following)
    if (exchange := _number(fields, "step")) >= 0:
        losses = node.step(exchange, receive(frames, node, exchange))
    if (checkpoint := _number(fields, "checkpoint")) >= 0:
        folder.save_client(checkpoint, node.name, node.state())
    if following >= 0 and not stale:
        outbound = send(node.embed(following), node, following)
    residence.keep(context, node)
    return Message(pack(_report(losses), outbound), reply_to=message)


@app.evaluate("embed")
@_answering
def _evaluate_embed(message: Message, context: Context) -> Message:
    """Send every neighbour the comparison embeddings of an agreed list of held-out events."""
    fields, _ = unpack(message)
    node = residence.node_of(context)
    frames = evaluation.embed(node, evaluation.list_name(fields), _number(fields, "exchange"))
    return Message(pack({}, frames), reply_to=message)


@app.evaluate("score")
@_answering
def _evaluate_score(message: Message, context: Context) -> Message:
    """Measure this client's own embeddings against those that its neighbours sent."""
    fields, frames = unpack(message)
    node = residence.node_of(context)
    answer, outbound = evaluation.score(node, fields, frames, residence.folder_of(context))
    return Message(pack(answer, outbound), reply_to=message)


@app.query("finish")
@_answering
def _finish(message: Message, context: Context) -> Message:
    """Draw a sample of the data, tell the digest of the final weights, and let the node go."""
    fields, _ = unpack(message)
    node = residence.node_of(context)
    if fields.get("sample"):
        evaluation.draw_sample(node, residence.folder_of(context))
    digest = node.weights_digest()
    residence.leave(context)
    return Message(pack({"digest": digest}), reply_to=message)


def send(embeddings: Mapping[str, NDArray[np.floating]], node: Node, exchange: int) -> dict[str, bytes]:
    """Return neighbour -> packed training frame."""
    return {
        neighbour: Frame.of("train", exchange, node.name, neighbour, node.settings.codec, z).pack()
        for neighbour, z in embeddings.items()
    }


def receive(frames: Mapping[str, bytes], node: Node, exchange: int) -> dict[str, NDArray[np.floating]]:
    """Return neighbour -> z_ji out of packed training frames.

    Raises
    ------
    ProtocolError
        A frame is damaged, or is not from that neighbour to this client for this exchange in the agreed codec.
    """
    values: dict[str, NDArray[np.floating]] = {}
    for neighbour, data in frames.items():
        frame = Frame.unpack(data)
        got = (frame.purpose, frame.exchange, frame.source, frame.destination, frame.codec)
        if got != (expected := ("train", exchange, neighbour, node.name, node.settings.codec)):
            raise ProtocolError(f"client '{node.name}' got a frame that is {got} where {expected} was due")
        values[neighbour] = frame.values()
    return values


def _report(losses: list[Loss]) -> dict[str, Scalar]:
    """Return the losses as one field for each edge, eight bytes a term."""
    return {
        f"loss.{loss.target}": np.array(
            [loss.events, *(getattr(loss, term) for term in LOSS_TERMS)], dtype="<f8"
        ).tobytes()
        for loss in losses
    }


def _number(fields: Mapping[str, Scalar], name: str) -> int:
    value = fields.get(name, -1)
    if not isinstance(value, int):
        raise ProtocolError(f"the field '{name}' is not an integer")
    return value

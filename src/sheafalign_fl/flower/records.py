"""Flower messages to and from the protocol's terms: an order or report (scalars), frames (bytes).

A content holds one record, `RECORD`: the scalars under their names and every frame under ``>`` and
the name of the client at its other end. Frames are plain bytes of a ConfigRecord instead of Flower
`Array`s because an Array costs some 300 bytes more on the wire (its metadata and two object ids).
"""

from collections.abc import Mapping

from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.inflatable.inflatable_object import no_object_id_recompute
from flwr.supercore.run import Run as Run  # noqa: PLC0414  # what a Grid is told of its run
from flwr.supercore.task_identity import TaskIdentity

from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.protocol.messages import MOST_FIELDS, Scalar, plain

RECORD = "s"
_FRAME = ">"
_UNDELIVERED = (
    ErrorCode.MESSAGE_UNAVAILABLE,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
    ErrorCode.NODE_UNAVAILABLE,
)


def pack(
    fields: Mapping[str, Scalar] | None = None, frames: Mapping[str, bytes] | None = None
) -> RecordDict:
    """Return a content with scalar `fields` and one frame for each client name in `frames`."""
    content: dict[str, Scalar] = dict(fields or {})
    content.update({_FRAME + name: frame for name, frame in (frames or {}).items()})
    return RecordDict({RECORD: ConfigRecord(dict(content))})


def unpack(message: Message) -> tuple[dict[str, Scalar], dict[str, bytes]]:
    """Return the fields and frames of `message`.

    Raises
    ------
    ProtocolError
        The message has no content, other records than ours, or a frame that is not bytes.
    """
    if not message.has_content() or set(message.content) != {RECORD}:
        raise ProtocolError("a message without the record that the protocol wants")
    record = message.content[RECORD]
    if not isinstance(record, ConfigRecord):
        raise ProtocolError("a message whose record is of the wrong kind")
    if len(record) > 2 * MOST_FIELDS:
        raise ProtocolError(f"a message with {len(record)} fields and frames")
    fields: dict[str, Scalar] = {}
    frames: dict[str, bytes] = {}
    for name, value in record.items():
        if name.startswith(_FRAME):
            if not isinstance(value, bytes):
                raise ProtocolError(f"a frame for '{plain(name[1:], 99)}' that is not bytes")
            frames[name.removeprefix(_FRAME)] = value
        elif isinstance(value, str | int | float | bool | bytes):
            fields[name] = value
        else:
            raise ProtocolError(f"a field '{plain(name, 99)}' that is a list")
    return fields, frames


def raised(error: Exception, message: Message) -> Message:
    """Return the reply to `message` whose handler raised `error`, as Flower's runtimes make it."""
    told = plain(f"{type(error).__name__}: {error}")
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, told), reply_to=message)


def undelivered(message: Message) -> bool:
    """Return whether Flower says that the question or its answer did not get through.

    The client may be back in a moment then. A client that raised has answered.
    """
    return message.has_error() and message.error.code in _UNDELIVERED


def act_as(run_id: int, node_id: int) -> None:
    """Make `node_id` the sender of this process's messages: Flower's `Message` reads it there."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, run_id


def wire_bytes(message: Message) -> int:
    """Return the size of `message` on Flower's wire: every object of its tree, deflated.

    It is counted by serialising, not by a formula. What HTTP and TLS add is not part of it.
    """
    with (
        no_object_id_recompute()
    ):  # every object's hash is part of its parent's bytes; once is enough
        size = len(message.deflate())
        if message.has_content():
            size += len(message.content.deflate())
            size += sum(len(record.deflate()) for record in message.content.values())
    return size


def share(size: int, parts: Mapping[str, int]) -> dict[str, int]:
    """Divide a message of `size` bytes over its `parts` (name -> own bytes).

    Each gets its own, and the rest is divided evenly. The shares add up to `size` exactly.
    """
    if not parts:
        return {}
    rest, extra = divmod(size - sum(parts.values()), len(parts))
    return {name: own + rest + (index < extra) for index, (name, own) in enumerate(parts.items())}

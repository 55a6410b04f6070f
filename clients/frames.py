"""Frames as a client writes and reads them: sealed where edges are sealed, and nothing but what is due."""

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.seal import SealedEdges
from sheafalign_fl.protocol.verbs import Purpose


def write(frame: Frame, seal: SealedEdges | None) -> bytes:
    """Return `frame` packed, and sealed before if there is a `seal`."""
    return (seal.seal(frame) if seal else frame).pack()


def read(
    data: bytes,
    purpose: Purpose,
    exchange: int,
    source: str,
    destination: str,
    codec: str,
    seal: SealedEdges | None,
) -> NDArray[np.floating]:
    """Return the embeddings, shape (events, comparison dimension), in a packed frame that has to be the one due.

    Raises
    ------
    ProtocolError
        The frame is damaged, its seal is broken, or its header is not what the other arguments say.
    """
    frame = Frame.unpack(data)
    got = (frame.purpose, frame.exchange, frame.source, frame.destination, frame.codec)
    if got != (due := (purpose, exchange, source, destination, codec)):
        raise ProtocolError(f"client '{destination}' got a frame that is {got} where {due} was due")
    return (seal.open(frame) if seal else frame).values()

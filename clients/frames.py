"""Frames as a client writes and reads them: sealed where edges are, nothing but what is due."""

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.seal import SealedEdges
from sheafalign_fl.protocol.verbs import Purpose


def write(frame: Frame, seal: SealedEdges | None) -> bytes:
    """Return `frame` packed, and sealed before if there is a `seal`."""
    return (seal.seal(frame) if seal else frame).pack()


@dataclass(frozen=True)
class Due:
    """The header of the one frame that is due, by what both ends have agreed on."""

    purpose: Purpose
    exchange: int
    source: str
    destination: str
    codec: str
    events: int
    dim: int


def read(data: bytes, due: Due, seal: SealedEdges | None) -> NDArray[np.floating]:
    """Return the embeddings, shape (events, comparison dimension), in a packed frame that is `due`.

    Nothing is opened or decoded whose header says anything else, its shape included.

    Raises
    ------
    ProtocolError
        The frame is damaged, its seal is broken, or it is another one.
    """
    frame = Frame.unpack(data)
    got = Due(
        frame.purpose,
        frame.exchange,
        frame.source,
        frame.destination,
        frame.codec,
        frame.events,
        frame.dim,
    )
    if got != due:
        raise ProtocolError(f"a frame that is {astuple(got)} where {astuple(due)} was due")
    return (seal.open(frame) if seal else frame).values()

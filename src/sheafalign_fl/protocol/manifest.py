"""What a client says of itself in the handshake."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.errors import HandshakeError
from sheafalign_fl.inflation import inflate
from sheafalign_fl.protocol.ids import decode_ids, encode_ids

MOST_BYTES = 2**27
"""Of a manifest or an agreement, uncompressed."""


@dataclass(frozen=True)
class Manifest:
    """What a client says about itself in the handshake. It holds no data and no weights."""

    name: str
    modality: str
    dim: int
    encoder: str
    parameters: int
    device: str
    input_shape: tuple[int, ...]
    notes: tuple[str, ...]
    labels: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]
    version: str
    protocol: int
    digest: str
    events: Mapping[str, NDArray[Any]]
    """Split -> sorted event ids."""
    nonce: str = ""
    """What the client contributes to the keys of sealed edges; empty where edges are not sealed."""
    twins: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """event, first: training events that are equal to earlier ones, if these are to be masked."""
    span: int = 1
    """Events whose ids differ by less share samples."""
    boot: str = ""
    """Identity of the client's process, if it is a deployed one that stays."""
    start: str = ""
    """The run whose weights the client starts from, for people; empty where it starts anew."""

    def to_bytes(self) -> bytes:
        """Return the manifest as bytes for the wire."""
        facts = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("events", "twins") and (name != "start" or self.start)
        }
        lists = {
            what: {name: encode_ids(ids).hex() for name, ids in getattr(self, what).items()}
            for what in ("events", "twins")
        }
        return zlib.compress(
            json.dumps({**facts, "classes": dict(self.classes), **lists}).encode(), 1
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Return the manifest that `data` holds; raise `HandshakeError` if it holds none."""
        try:
            facts = json.loads(inflate(data, MOST_BYTES))
            for what in ("events", "twins"):
                facts[what] = {
                    name: decode_ids(bytes.fromhex(ids)) for name, ids in facts[what].items()
                }
            facts["classes"] = {name: tuple(classes) for name, classes in facts["classes"].items()}
            for name in ("input_shape", "notes", "labels"):
                facts[name] = tuple(facts[name])
            manifest = cls(**facts)
            manifest._check_form()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise HandshakeError(f"a client sent no readable manifest: {error}") from None
        return manifest

    def _check_form(self) -> None:
        """Raise `TypeError` or `KeyError` if a field is not of its type or a split is missing."""
        texts = ("name", "modality", "encoder", "device", "version", "digest", "nonce", "boot")
        for name in (*texts, "start"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} is no text")
        for name in ("dim", "parameters", "protocol", "span"):
            if not isinstance(getattr(self, name), int):
                raise TypeError(f"{name} is no integer")
        for split in SPLITS:
            if self.events[split].ndim != 1:
                raise TypeError(f"the ids of {split} are no plain list")
        if self.twins and self.twins["event"].shape != self.twins["first"].shape:
            raise TypeError("the equal events are not in pairs")

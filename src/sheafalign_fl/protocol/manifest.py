"""What a client says of itself in the handshake."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.errors import DataError, HandshakeError
from sheafalign_fl.inflation import inflate
from sheafalign_fl.labels import Kind
from sheafalign_fl.protocol.ids import counted, decode_lists, encode_ids
from sheafalign_fl.protocol.messages import Name, fault

MOST_BYTES = 2**25
"""Of a manifest, uncompressed: two million events with integer ids."""
_Line = Annotated[str, Field(max_length=500)]
_Positive = Annotated[int, Field(ge=1, lt=2**31)]
_Lists = Mapping[Name, str]


class _Facts(BaseModel):
    """The form of a manifest on the wire: every element of its type and within its bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Name
    modality: Name
    dim: _Positive
    encoder: _Line
    parameters: Annotated[int, Field(ge=0, lt=2**53)]
    device: Name
    input_shape: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(max_length=16)]
    notes: Annotated[tuple[Annotated[str, Field(max_length=5000)], ...], Field(max_length=1000)]
    labels: Annotated[tuple[_Line, ...], Field(max_length=1000)]
    classes: Mapping[_Line, tuple[_Line, ...]]
    version: Name
    protocol: Annotated[int, Field(ge=0, lt=2**31)]
    digest: Name
    nonce: Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")] = ""
    span: _Positive = 1
    boot: Name = ""
    start: _Line = ""
    kinds: Mapping[_Line, Annotated[str, Field(pattern=r"^(values|multi:[1-9][0-9]{0,3})$")]] = {}
    events: _Lists
    twins: _Lists = {}


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
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Label -> values, or multi:L, where it is not one class an event."""

    def kind_of(self, label: str) -> tuple[Kind, int]:
        """Return what a label is, and how many of it an event has."""
        kind, _, width = self.kinds.get(label, "classes").partition(":")
        return cast(Kind, kind), int(width or 1)

    def to_bytes(self) -> bytes:
        """Return the manifest as bytes for the wire; raise `DataError` if that takes too many."""
        facts = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("events", "twins")
            # What earlier versions do not know is told only where there is something to tell.
            and (name not in ("start", "kinds") or getattr(self, name))
        }
        lists = {
            what: {name: encode_ids(ids).hex() for name, ids in getattr(self, what).items()}
            for what in ("events", "twins")
        }
        content = json.dumps({**facts, "classes": dict(self.classes), **lists}).encode()
        if len(content) > MOST_BYTES:
            raise DataError(
                f"client '{self.name}' cannot tell of its events: their ids take {len(content)} "
                f"bytes and may take {MOST_BYTES}; use integers as ids, or fewer events"
            )
        return zlib.compress(content, 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Return the manifest that `data` holds; raise `HandshakeError` if it holds none.

        Nothing in it is taken for what it is not: every element has its type, ids are sorted, and
        no event is there twice.
        """
        try:
            facts = _Facts.model_validate_json(counted(inflate(data, MOST_BYTES)))
            told = {name: getattr(facts, name) for name in _Facts.model_fields}
            manifest = cls(
                **told | {"events": decode_lists(facts.events), "twins": decode_lists(facts.twins)}
            )
            manifest._check_events()
        except ValidationError as error:
            raise HandshakeError(f"a client sent no readable manifest: {fault(error)}") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise HandshakeError(f"a client sent no readable manifest: {error}") from None
        return manifest

    def _check_events(self) -> None:
        """Raise `ValueError` if lists of events or labels are not as they have to be."""
        if not set(self.kinds) <= set(self.labels):
            raise ValueError("kinds of labels that there are not")
        if set(self.events) != set(SPLITS):
            raise ValueError(f"events of {sorted(self.events)}, not of {sorted(SPLITS)}")
        lists = [ids for ids in self.events.values() if len(ids)]
        if len({ids.dtype.kind for ids in lists}) > 1:
            raise ValueError("some event ids are text and some are integers")
        if any(not (ids[1:] > ids[:-1]).all() for ids in lists):
            raise ValueError("event ids that are not sorted, or are there twice")
        if self.twins:
            self._check_twins()

    def _check_twins(self) -> None:
        if set(self.twins) != {"event", "first"}:
            raise ValueError("equal events that are not in pairs")
        event, first = self.twins["event"], self.twins["first"]
        if event.shape != first.shape:
            raise ValueError("equal events that are not in pairs")
        if not np.isin([event, first], self.events["train"]).all():
            raise ValueError("equal events that are none of the training events")

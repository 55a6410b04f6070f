"""`share.json`: all that has to be known beside the weights."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from sheafalign_fl.config.schema import MapSettings

FORMAT = 2
"""Raised when what a share holds changes so that earlier versions would misread it.

2: events may be of unequal length. A share without them is of format 1 still.
"""
Size = Annotated[int, Field(ge=1, le=2**31)]


def _tuple(value: object) -> object:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_tuple)]
Shape = Annotated[tuple[Size, ...], BeforeValidator(_tuple)]
Range = Annotated[tuple[float, float], BeforeValidator(_tuple)]


class Facts(BaseModel):
    """A file of facts beside weights: `format` is raised when earlier versions would misread it."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class ImputationFacts(Facts):
    """What the closed-form imputation of this client's embedding was computed from."""

    neighbours: Texts
    """Whose comparison embeddings it may be given, in the order of the columns."""
    events: Size
    """Training events that all of them sent this client something of."""
    held_out: Annotated[int, Field(ge=0)]
    """Events of the final evaluation that its error is measured on; 0: it is estimated."""


class ShareFacts(Facts):
    """One client's share without its weights."""

    format: Literal[1, 2] = 1
    client: str
    modality: str
    run: str
    """The run's name, for people."""
    run_id: str
    """Identity of the run: embeddings of two runs cannot be compared."""
    source: str
    """The data source that raw inputs were read by."""
    units: str
    """What the source says of them; empty where it says nothing."""
    encoder: str
    """A built-in encoder's name, or a dotted path that must be importable here."""
    encoder_options: dict[str, Any]
    input_shape: Shape
    """Of one event, as the encoder takes it."""
    unequal: bool = False
    """Events are of unequal length: (C, T') of a raw one, where the encoder takes (C + 1, T)."""
    layout: str
    """Axes of a raw event where channels are not first, such as HWC; empty where they are."""
    scaled: bool
    """Raw inputs are scaled by `scaling.mean` and `scaling.scale` of the weights file."""
    input_range: Range
    """The least and the largest root mean square of a training event's scaled input."""
    dim: Size
    """d_i."""
    dtype: Literal["float32", "float64"]
    threads: Size
    """torch threads of the run: with as many, embeddings have the bits that evaluation had."""
    classes: dict[str, Texts]
    """Label -> names of its classes; may be empty."""
    neighbours: dict[str, Size]
    """Neighbour -> d_e."""
    maps: MapSettings
    temperature: bool
    """The maps hold a learnt temperature."""
    dual: bool
    """The dual maps Q_ij were trained, or follow from P_ij."""
    imputation: ImputationFacts | None
    refined: Texts = ()
    """Neighbours with whom z are compared by refined maps (`sheaf.refinement`)."""
    exchanges: Annotated[int, Field(ge=0)]
    training_digest: str
    """SHA-256 of the client's final weights, as in the run's summary.json."""
    versions: dict[str, str | None]
    weights: str
    """SHA-256 of the file weights.safetensors."""
    digest: str = ""
    """SHA-256 of all other facts."""

    @model_serializer(mode="wrap")
    def _lean(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what was added later, where it says nothing: earlier versions read on."""
        made: dict[str, Any] = handler(self)
        for name in ("unequal", "refined"):
            if not getattr(self, name):
                made.pop(name, None)
        return made

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of a raw event, channels first; of unequal ones, of the longest."""
        if not self.unequal:
            return self.input_shape
        return (self.input_shape[0] - 1, *self.input_shape[1:])

    def own_digest(self) -> str:
        """Return what `digest` has to be."""
        content = self.model_dump(mode="json", exclude={"digest"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def signed(self) -> "ShareFacts":
        """Return the same facts with their digest."""
        return self.model_copy(update={"digest": self.own_digest()})

    @property
    def shared_space(self) -> bool:
        """Whether all clients' embeddings lie in one space (a constant sheaf)."""
        return self.maps.family == "identity"

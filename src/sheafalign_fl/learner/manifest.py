"""A client's own data, and what it tells the relay about itself."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.config.schema import Settings
from sheafalign_fl.data.base import SPLITS, ModalityData, check_modality, drop_events
from sheafalign_fl.data.features import with_features
from sheafalign_fl.data.oddities import equal_rows
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.data.sequences import ENCODER as SEQUENCE
from sheafalign_fl.encoders import ENCODERS
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.labels import kind_of, width_of
from sheafalign_fl.learner.factories import new_encoder, resolve_device
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.verbs import PROTOCOL_VERSION
from sheafalign_fl.version import __version__


def client_data(name: str, settings: Settings) -> ModalityData:
    """Return the data of client `name`, without the events that its `missing` setting takes away.

    Raises
    ------
    UserError
        The source, the modality or the data is not as it should be.
    """
    client = settings.clients[name]
    modality = client.modality or name
    data = load_modality(
        settings.data.source,
        modality,
        settings.seed,
        settings.data.source_options,
        f"client '{name}'",
    )
    if client.features is not None:
        data = check_modality(with_features(data, Path(client.features), name), f"client '{name}'")
    _check_lengths(name, client.encoder, data)
    return drop_events(data, client.missing, settings.seed, name)


def _check_lengths(client: str, encoder: str, data: ModalityData) -> None:
    """Refuse a built-in encoder that would take padding for samples, or one that needs a mask."""
    masked = encoder in ENCODERS and ENCODERS[encoder].masked
    if masked and not data.unequal:
        raise ConfigError(
            f"client '{client}': encoder '{encoder}' is for events of unequal length (the array "
            "'length'), which the data's are not"
        )
    if data.unequal and encoder in ENCODERS and not masked:
        raise ConfigError(
            f"client '{client}': encoder '{encoder}' would take padding for samples, and the data's"
            f" events are of unequal length; use '{SEQUENCE}', or cut windows"
        )


def describe(
    name: str,
    settings: Settings,
    data: ModalityData,
    nonce: str = "",
    boot: str = "",
    start: str = "",
) -> Manifest:
    """Return the manifest of client `name`; the encoder is made once, to see that it can be.

    Where edges are sealed it says less: no notes on the data, and of the names of classes a digest,
    which is enough to see whether two clients number the same classes.
    """
    client, sealed = settings.clients[name], settings.security.sealed
    encoder = new_encoder(name, settings, data.input_shape, data.encoder)
    return Manifest(
        name=name,
        modality=client.modality or name,
        dim=client.dim,
        encoder=type(encoder).__name__,
        parameters=sum(parameter.numel() for parameter in encoder.parameters()),
        device=str(resolve_device(client.device)),
        input_shape=data.input_shape,
        notes=() if sealed else data.notes,
        labels=tuple(data.labels),
        classes={
            label: (_digest(names),) if sealed else names for label, names in data.classes.items()
        },
        version=__version__,
        protocol=PROTOCOL_VERSION,
        digest=settings.digest(),
        events={split: data.ids_of(split) for split in SPLITS},
        twins=_twins(data) if settings.objective.false_negatives == "mask" else {},
        span=data.span,
        nonce=nonce,
        boot=boot,
        start=start,
        kinds={label: kind for label, values in data.labels.items() if (kind := _kind(values))},
    )


def _kind(labels: NDArray[Any]) -> str:
    """Return what a label is, where it is not one class an event."""
    match kind_of(labels):
        case "multi":
            return f"multi:{width_of(labels)}"
        case "values":
            return "values"
    return ""


def _twins(data: ModalityData) -> dict[str, NDArray[Any]]:
    """Return the training events that are equal to an earlier one, and those earlier ones."""
    rows = np.flatnonzero(data.split == SPLITS.index("train"))
    first = equal_rows(data.x[rows])
    later = np.flatnonzero(first != np.arange(len(rows)))
    ids = data.event_ids[rows]
    return {"event": ids[later], "first": ids[first[later]]}


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()[:16]

"""A data source of your own: a function from (modality, seed, options) to `ModalityData`."""

from typing import Any

import numpy as np

from sheafalign_fl.data.base import ModalityData, assign_splits
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.seeding import numpy_generator


def load(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return two noisy views, `left` and `right`, of the same hidden points."""
    if modality not in ("left", "right"):
        raise ConfigError(
            f"own source: there is no modality '{modality}'; there are left and right"
        )
    events = int(options.get("events", 500))
    hidden = numpy_generator(seed, "own source").normal(size=(events, 4))
    view = numpy_generator(seed, "own source", modality)
    x = np.tanh(hidden @ view.normal(size=(4, 10))) + 0.05 * view.normal(size=(events, 10))
    event_ids = np.arange(events)
    return ModalityData(
        x.astype(np.float32), event_ids, assign_splits(event_ids, seed, test=0.2, validation=0.1)
    )

"""Finding a data source by name or by dotted path."""

from collections.abc import Mapping
from typing import Any

from sheafalign_fl.data.base import ModalityData, check_modality
from sheafalign_fl.plugins import load_attribute


def load_modality(
    source: str, modality: str, seed: int, options: Mapping[str, Any], where: str
) -> ModalityData:
    """Placeholder until the sources are there."""
    return check_modality(load_attribute(source, where)(modality, seed, **options), where)

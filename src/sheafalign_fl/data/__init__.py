"""Data sources: what each client has seen with its one sensor."""

from sheafalign_fl.data.base import ModalityData, assign_splits
from sheafalign_fl.data.registry import load_modality, source_info, sources

__all__ = ["ModalityData", "assign_splits", "load_modality", "source_info", "sources"]

"""Metrics of alignment on held-out events: descriptors, and pure functions over arrays."""

from sheafalign_fl.metrics.consistency import consistency
from sheafalign_fl.metrics.missing import missing_modalities
from sheafalign_fl.metrics.probe import linear_probe
from sheafalign_fl.metrics.retrieval import retrieval
from sheafalign_fl.metrics.transfer import transfer

__all__ = ["consistency", "linear_probe", "missing_modalities", "retrieval", "transfer"]

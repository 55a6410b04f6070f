"""Simulated scenes in the on-disk formats of recorded data sets, to try a loader without them."""

from sheafalign_fl.data.export.deepsense6g import MODALITIES, VARIANTS, Variant, export_deepsense6g

__all__ = ["MODALITIES", "VARIANTS", "Variant", "export_deepsense6g"]

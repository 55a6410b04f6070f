"""Readers: one frame of one sensor from its files to an array; small frozen classes whose `repr` keys the cache."""

from sheafalign_fl.data.readers.base import Array, BadFileError, Mended, Reader

__all__ = ["Array", "BadFileError", "Mended", "Reader"]

"""Readers: one sensor's frame from files to an array; frozen, as their `repr` keys the cache."""

from sheafalign_fl.data.readers.base import Array, BadFileError, Mended, Reader

__all__ = ["Array", "BadFileError", "Mended", "Reader"]

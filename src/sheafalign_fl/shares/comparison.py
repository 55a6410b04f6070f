"""A comparison embedding that knows between whom it was made, and in which run."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import DataError


class Comparison(np.ndarray[Any, np.dtype[np.float32]]):
    """z_ij, shape (N, d_e), float32: an array, and what says whom it can be compared with.

    Attributes
    ----------
    source, target
        The clients i and j; empty where that is not known.
    run
        Identity of the run.
    """

    source: str
    target: str
    run: str

    @classmethod
    def of(cls, values: NDArray[np.floating], source: str, target: str, run: str) -> Self:
        """Return `values` (N, d_e) marked as z of `source` for `target`."""
        marked = np.asarray(values, dtype=np.float32).view(cls)
        marked.source, marked.target, marked.run = source, target, run
        return marked

    def __array_finalize__(self, of: object) -> None:
        """Keep the marks of what this is a part of."""
        for name in ("source", "target", "run"):
            setattr(self, name, getattr(of, name, ""))

    def check(self, source: str, target: str, run: str) -> None:
        """Raise `DataError` unless this is z of `source` for `target` in `run`."""
        if self.run not in ("", run):
            raise DataError(
                f"z of '{self.source}' is of another run ({self.run[:8]}, not {run[:8]}); "
                "embeddings of two runs lie in different spaces"
            )
        if self.source not in ("", source) or self.target not in ("", target):
            raise DataError(
                f"z of '{self.source}' for '{self.target}' was given where z of '{source}' for "
                f"'{target}' belongs"
            )

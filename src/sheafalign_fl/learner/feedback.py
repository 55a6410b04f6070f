"""Error feedback for lossy codecs, event by event.

After Seide et al., 2014; Karimireddy et al., arXiv 1901.09847.

What a codec lost of an event's embedding is kept by the sender and added to the embedding of the
same event when the schedule comes to it again, so that what a neighbour gets is right on average.
The receiver keeps nothing, so a lost message does no harm.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.codecs import Codec


class ErrorFeedback:
    """Residuals of one client: for every neighbour an array (agreed events, d_e), 0 at first."""

    def __init__(
        self, codec: Codec, events: int, dims: Mapping[str, int], dtype: type[np.floating]
    ) -> None:
        """Keep residuals of `events` agreed events for each of `dims` (neighbour -> d_e)."""
        self._codec = codec
        self._residuals = {
            neighbour: np.zeros((events, dim), dtype=dtype) for neighbour, dim in dims.items()
        }

    def correct(
        self, neighbour: str, positions: NDArray[np.intp], values: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """Return what to encode for `neighbour` instead of `values`; keep what the codec will lose.

        Parameters
        ----------
        positions
            Of the events in the agreed list, shape (N,). An event may come twice, where an epoch
            ends within an exchange of several batches: its first row takes what was kept, and what
            both lose is kept.
        values
            Comparison embeddings z_ij, shape (N, d_e).
        """
        table = self._residuals[neighbour]
        _, first = np.unique(positions, return_index=True)
        wanted = values.astype(table.dtype)
        wanted[first] += table[positions[first]]
        table[positions] = 0
        np.add.at(
            table, positions, wanted - self._codec.decode(self._codec.encode(wanted), *wanted.shape)
        )
        return wanted

    def state(self) -> Iterable[tuple[str, NDArray[np.floating]]]:
        """Yield (neighbour, residuals)."""
        return self._residuals.items()

    def load(self, neighbour: str, residuals: NDArray[np.floating]) -> None:
        """Restore what `state` yielded."""
        self._residuals[neighbour][:] = residuals

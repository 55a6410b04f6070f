"""Clocks that are off or run at another speed, set right by what the configuration says of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import ConfigError

_KEYS = ("offset", "drift", "at")


def corrected(
    times: NDArray[np.float64], modality: str, clocks: Mapping[str, Any]
) -> NDArray[np.float64]:
    """Return the times that a right clock would have shown: t + offset + drift / 1e6 (t - at).

    Parameters
    ----------
    times
        Shape (N,), seconds.
    clocks
        Modality -> ``{offset: seconds, drift: parts per million, at: seconds}``, or the offset
        alone. `at` is when the offset was right; default: 0.

    Raises
    ------
    ConfigError
        An entry is no number, or no mapping of these.
    """
    entries = {name: _entry(name, value) for name, value in clocks.items()}
    if modality not in entries:
        return times
    entry = entries[modality]
    return times + entry["offset"] + entry["drift"] * 1e-6 * (times - entry["at"])


def _entry(name: str, value: object) -> dict[str, float]:
    where = f"data.options.clocks.{name}"
    given = value if isinstance(value, Mapping) else {"offset": value}
    entry = dict.fromkeys(_KEYS, 0.0)
    for key, number in given.items():
        if key not in _KEYS:
            raise ConfigError(f"{where}: unknown key '{key}'; known: {', '.join(_KEYS)}")
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ConfigError(f"{where}.{key}: must be a number, not {number!r}")
        entry[key] = float(number)
    if entry["drift"] <= -1e6:
        raise ConfigError(f"{where}.drift: must be above -1000000 parts per million")
    return entry

"""Where a client's time goes in one exchange."""

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Part = Literal["compute", "encode", "save"]
PARTS: tuple[Part, ...] = ("compute", "encode", "save")
_FORM = struct.Struct("<4d")


class StopWatch:
    """Adds up the seconds of each part, and of everything since it was made."""

    def __init__(self) -> None:
        """Start."""
        self._started = time.perf_counter()
        self._seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def __call__(self, part: Part) -> Iterator[None]:
        """Count the time of the block as `part`."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[part] += time.perf_counter() - begun

    def to_bytes(self) -> bytes:
        """Return the parts and the whole as bytes for the wire, always as many."""
        return _FORM.pack(*self._seconds.values(), time.perf_counter() - self._started)


def read_times(data: object) -> dict[str, float] | None:
    """Return part -> seconds, and "whole", from what `StopWatch.to_bytes` made; else None."""
    if not isinstance(data, bytes) or len(data) != _FORM.size:
        return None
    return dict(zip((*PARTS, "whole"), _FORM.unpack(data), strict=True))

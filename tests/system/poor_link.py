"""A bad line between a node and the relay: it delays, throttles and breaks off."""

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType

_PIECE = 4096


class PoorLink:
    """Forwards connections to a port of this machine, slowly, and cuts them after so many bytes."""

    def __init__(
        self, target: int, *, delay: float, rate: float, cut_after: int, port: int = 0
    ) -> None:
        """Listen on `port`, or a free one; `delay` in seconds, `rate` in bytes per second.

        Both are for each piece and direction.
        """
        self._target, self._delay, self._rate, self._cut_after = target, delay, rate, cut_after
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listening.getsockname()[1]
        self.cuts = 0
        self._open: list[socket.socket] = []

    def __enter__(self) -> "PoorLink":
        """Begin to forward."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Break everything off."""
        for link in [self._listening, *self._open]:
            with suppress(OSError):
                link.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                carried = [0]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(
                        target=self._forward, args=(source, sink, carried), daemon=True
                    ).start()

    def _forward(self, source: socket.socket, sink: socket.socket, carried: list[int]) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE):
                time.sleep(self._delay + len(data) / self._rate)
                carried[0] += len(data)
                if carried[0] > self._cut_after:
                    self.cuts += 1
                    break
                sink.sendall(data)
        for link in (source, sink):
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

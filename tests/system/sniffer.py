"""Capturing what crosses an interface, as `tcpdump` does."""

import socket
import threading
from contextlib import suppress
from types import TracebackType

_ALL = 0x0003


class Sniffer:
    """Keeps every packet on the loopback interface that carries `port` in its TCP header."""

    def __init__(self, port: int) -> None:
        """Open the socket; raise `PermissionError` or `OSError` where that is not permitted."""
        self._port = port.to_bytes(2, "big")
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 26)
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self.captured = bytearray()

    def __enter__(self) -> "Sniffer":
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._stop.is_set():
            with suppress(TimeoutError):
                packet = self._socket.recv(1 << 17)
                start = 14 + 4 * (packet[14] & 15) if len(packet) > 34 else 0
                if start and self._port in (
                    packet[start : start + 2],
                    packet[start + 2 : start + 4],
                ):
                    self.captured += packet

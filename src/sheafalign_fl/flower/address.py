"""Where a relay is: a host, which is a name or an address of IPv4 or IPv6, and a port."""

import errno
import ipaddress
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sheafalign_fl.errors import UserError

_MOST_PORT = 65535
_CONNECT_SECONDS = 1.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, never chosen
"""Listening on all addresses -> the one at which this machine reaches itself."""

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(frozen=True)
class Address:
    """A host and a port; as text ``host:port``, IPv6 in brackets (RFC 3986): ``[::1]:9092``."""

    host: str
    """Without brackets."""
    port: int

    @classmethod
    def parse(cls, text: str, option: str = "--relay") -> "Address":
        """Return the address that `text` spells.

        Raises
        ------
        UserError
            It is none; names `option` and shows how it is written.
        """
        if "://" in text:
            raise UserError(f"{option} {text}: leave out the scheme{_mended(text)}")
        host, separator, port = text.rpartition(":")
        if _version(text) == 6:  # a port may be missing, or may be the last group: nobody can tell
            raise UserError(
                f"{option} {text}: put an address of IPv6 in brackets and add the port: "
                f"[{text}]:9092"
            )
        valid = port.isascii() and port.isdecimal() and 0 < int(port) <= _MOST_PORT
        if not separator or not valid:
            raise UserError(f"{option} {text}: write it as HOST:PORT, such as 10.0.0.1:9092")
        return cls(parse_host(host, option), int(port))

    def __str__(self) -> str:
        """Return ``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def reachable(self) -> "Address":
        """Return where this machine reaches what listens here."""
        return Address(_EVERYWHERE.get(self.host, self.host), self.port)

    def answers(self) -> bool:
        """Say whether something listens there."""
        try:
            with socket.create_connection((self.host, self.port), timeout=_CONNECT_SECONDS):
                return True
        except OSError:
            return False

    def check_free(self) -> None:
        """Raise `UserError` if this machine cannot listen there: taken, or not its address."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise self._unfit(error, "--host") from None
        foreign = [unfit for place in found if (unfit := self._bind(*place)) is not None]
        if len(foreign) == len(found):  # one will do: a name may have an address of IPv6 in vain
            raise self._unfit(foreign[0], "--host")

    def _bind(
        self, family: int, kind: int, protocol: int, _: str, place: tuple[Any, ...]
    ) -> OSError | None:
        """Bind for a moment; return the error of an address that is not this machine's."""
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise self._unfit(error, "--port") from None
            return error
        return None

    def _unfit(self, error: OSError, option: str) -> UserError:
        return UserError(
            f"the relay cannot listen on {self}: {error.strerror}; give another {option}"
        )


def parse_host(text: str, option: str = "--host") -> str:
    """Return the host that `text` spells, an address of IPv6 with or without its brackets.

    Raises
    ------
    UserError
        It is empty, or has brackets around something else, or a port.
    """
    bracketed = text.startswith("[") and text.endswith("]")
    host = text[1:-1] if bracketed else text
    if bracketed and _version(host) == 6:
        return host
    if not host or bracketed or any(char in host for char in "[]/ \t\n"):
        raise UserError(
            f"{option} {text}: give a name or an address, such as relay.lan, 10.0.0.1 or ::1"
        )
    if ":" in host and _version(host) != 6:
        raise UserError(
            f"{option} {text}: '{host}' is no address of IPv6, and a name has no ':'; "
            "the port comes after the last one"
        )
    return host


def _version(host: str) -> int | None:
    """Return 4 or 6 where `host` is an address."""
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None


def _mended(text: str) -> str:
    netloc = urlsplit(text).netloc
    return f": {netloc}" if netloc else ""

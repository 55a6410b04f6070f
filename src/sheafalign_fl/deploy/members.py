"""Who belongs to a deployment, as its relay sees it; read again when the relay's keys change."""

import ipaddress
import logging
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from starlette.types import Scope

from sheafalign_fl.deploy.briefing import save_registered
from sheafalign_fl.deploy.certificates import operator_name
from sheafalign_fl.deploy.keys import RelayKeys, load_public_key, load_relay_keys, load_revoked
from sheafalign_fl.errors import UserError
from sheafalign_fl.flower.gate import CERTIFICATE
from sheafalign_fl.flower.node_keys import LinkState, forget, register
from sheafalign_fl.listing import listed

_log = logging.getLogger("sheafalign.relay")
Stamps = Mapping[str, tuple[int, int]]


class Members:
    """The clients, operators and certificates of a relay's folder of keys."""

    def __init__(self, keys: RelayKeys, state: LinkState, registered: Path) -> None:
        """Take members from the folder of `keys`; write client -> node id to `registered`."""
        self._folder = keys.folder
        self._state = state
        self._registered = registered
        self._stamps: Stamps = {}
        self._nodes: dict[bytes, tuple[str, int]] = {}
        self._revoked: frozenset[int] = frozenset()

    def is_operator(self, scope: Scope) -> bool:
        """Return whether a request comes with an operator's certificate that still holds.

        The TLS layer has verified who signed it.
        """
        shown = scope.get(CERTIFICATE)
        if shown is None:
            return False
        certificate = x509.load_der_x509_certificate(shown)
        name = operator_name(certificate, datetime.now(UTC))
        return name is not None and certificate.serial_number not in self._revoked

    def refresh(self, tls: ssl.SSLContext | None) -> bool:
        """Read the folder again if it has changed; return whether it has.

        Parameters
        ----------
        tls
            The port's settings, which are given the relay's certificate.

        Raises
        ------
        UserError
            Something in the folder is wrong; all is as it was before.
        """
        stamps = _stamps(self._folder)
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        keys = load_relay_keys(self._folder)
        revoked = load_revoked(keys)
        if tls is not None:
            tls.load_cert_chain(keys.certificate, keys.key)
        self._revoked = revoked
        self._take(keys)
        return True

    def try_refresh(self, tls: ssl.SSLContext | None) -> None:
        """Read the folder again if it has changed; what is wrong with it goes to the log.

        So does what nobody foresaw: a relay that looks no more would let nobody in or out again.
        """
        try:
            if self.refresh(tls):
                _log.info("the relay's keys have been read again")
        except (UserError, OSError) as error:
            _log.warning("the relay's keys have changed, but are not taken: %s", error)
        except Exception:
            _log.exception("the relay's keys have changed, but could not be taken")

    def _take(self, keys: RelayKeys) -> None:
        """Register the clients that are new, and forget those that are gone."""
        found = {path.read_bytes().strip(): client for client, path in keys.clients.items()}
        for content in self._nodes.keys() - found.keys():
            client, node = self._nodes.pop(content)
            forget(self._state, node)
            _log.info("client '%s' may connect no more (node %d)", client, node)
        for content, client in found.items():
            if content in self._nodes:
                self._nodes[content] = (client, self._nodes[content][1])
                continue
            try:
                node = register(self._state, load_public_key(keys.clients[client]))
            except UserError as error:  # the others are to be let in all the same
                _log.warning("client '%s' may not connect: %s", client, error)
                continue
            _log.info("client '%s' may connect (node %d)", client, node)
            self._nodes[content] = (client, node)
        save_registered(self._registered, dict(self._nodes.values()))


def is_local(scope: Scope) -> bool:
    """Return whether a request comes from this machine's own loopback address."""
    client = scope.get("client")
    address = ipaddress.ip_address(client[0]) if client else None
    mapped = getattr(address, "ipv4_mapped", None)
    return bool(address is not None and (mapped or address).is_loopback)


def is_own_host(host: str) -> bool:
    """Return whether what listens on `host` is reached from this machine alone.

    Of names only localhost is known to be so.
    """
    try:
        return host == "localhost" or is_local({"client": (host, 0)})
    except ValueError:
        return False


def _stamps(folder: Path) -> Stamps:
    """Return what changes when a file of the folder does."""
    stamps = {}
    for path in listed(folder, "**/*"):
        status = path.stat()
        stamps[str(path)] = (status.st_mtime_ns, status.st_size)
    return stamps

"""Sealed edges: comparison embeddings that only the two ends of an edge can read.

The relay routes and counts sealed frames, but cannot read, alter, replay or reorder them. Each
direction of an edge has a key of its own for each run: X25519 (RFC 7748) between the clients'
static keys, which are pinned; HKDF-SHA256 (RFC 5869) with what both clients contributed to this
run; AES-256-GCM over the payload, bound to the frame's header.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.protocol.frame import SEAL_BYTES, Frame

_PURPOSE = b"sheafalign-fl sealed edge 1\0"
_NONCE_BYTES = 12
_KEY_BYTES = 32
LEAST_NONCE_BYTES = 16


class SealedEdges:
    """One client's keys for one run."""

    def __init__(
        self,
        client: str,
        private: X25519PrivateKey,
        peers: Mapping[str, X25519PublicKey],
        nonces: Mapping[str, bytes],
        run: str,
    ) -> None:
        """Agree on keys with every peer.

        Parameters
        ----------
        client
            Whose keys these are.
        private
            Its own static key.
        peers
            Client -> pinned public key; never from the relay.
        nonces
            Client -> 16 random bytes that it contributes to this run, this client included. They
            may come through the relay: this client's own are fresh, so nothing of another run opens
            in this one.
        run
            Identity of the run.

        Raises
        ------
        ProtocolError
            A contribution is missing or too short, or a peer's key cannot be used.
        """
        if short := [
            name for name in (client, *peers) if len(nonces.get(name, b"")) < LEAST_NONCE_BYTES
        ]:
            raise ProtocolError(
                f"client '{short[0]}' contributes fewer than {LEAST_NONCE_BYTES} bytes to the keys"
            )
        self._client = client
        self._keys: dict[tuple[str, str], AESGCM] = {}
        for peer, public in peers.items():
            try:
                shared = private.exchange(public)
            except ValueError:  # a point of low order, with which every secret would be the same
                raise ProtocolError(
                    f"the pinned key of client '{peer}' is no usable X25519 key"
                ) from None
            first, second = sorted((client, peer))
            salt = hashlib.sha256(nonces[first] + nonces[second]).digest()
            for source, destination in ((client, peer), (peer, client)):
                info = _PURPOSE + b"".join(
                    _with_length(text) for text in (run, source, destination)
                )
                key = HKDF(SHA256(), _KEY_BYTES, salt, info).derive(shared)
                self._keys[source, destination] = AESGCM(key)
        self._opened: dict[tuple[str, str], tuple[int, set[bytes]]] = {}
        """(source, purpose) -> the last exchange, and the nonces of its frames."""

    def seal(self, frame: Frame) -> Frame:
        """Return `frame`, from this client, with its payload encrypted; the payload's length stays.

        Raises
        ------
        ProtocolError
            The frame is not from this client, or there is no key for its destination.
        """
        if frame.seal:
            raise ProtocolError(f"the frame for '{frame.destination}' is sealed already")
        key = self._key(frame, frame.source)
        # Random, never made from the exchange: a restarted client may embed the same exchange with
        # other weights.
        nonce = os.urandom(_NONCE_BYTES)
        marked = replace(frame, seal=bytes(SEAL_BYTES))
        sealed = key.encrypt(nonce, frame.payload, marked.header())
        size = len(frame.payload)
        return replace(frame, payload=sealed[:size], seal=nonce + sealed[size:])

    def open(self, frame: Frame) -> Frame:
        """Return what `seal` was given at the other end.

        Raises
        ------
        ProtocolError
            The frame is not sealed, not for this client, altered, sealed in another run, older than
            one that was opened before, or was opened before itself.
        """
        key, where = (
            self._key(frame, frame.destination),
            f"the frame from '{frame.source}' for '{frame.destination}'",
        )
        if len(frame.seal) != SEAL_BYTES:
            raise ProtocolError(f"{where} is not sealed")
        nonce, tag = frame.seal[:_NONCE_BYTES], frame.seal[_NONCE_BYTES:]
        try:
            payload = key.decrypt(nonce, frame.payload + tag, frame.header())
        except InvalidTag:
            raise ProtocolError(
                f"{where} does not open: altered, or sealed otherwise or elsewhere"
            ) from None
        self._note(frame, nonce, where)
        return replace(frame, payload=payload, seal=b"")

    def _note(self, frame: Frame, nonce: bytes, where: str) -> None:
        """Refuse what was opened before.

        The same exchange may come anew: from a neighbour that was restarted.
        """
        last, nonces = self._opened.get((frame.source, frame.purpose), (-1, set()))
        if frame.exchange < last or nonce in nonces:
            raise ProtocolError(f"{where} is a replay: exchange {frame.exchange} was opened before")
        kept = nonces | {nonce} if frame.exchange == last else {nonce}
        self._opened[frame.source, frame.purpose] = (frame.exchange, kept)

    def _key(self, frame: Frame, own: str) -> AESGCM:
        key = self._keys.get((frame.source, frame.destination))
        if key is None or own != self._client:
            raise ProtocolError(
                f"client '{self._client}' has no key for a frame from '{frame.source}' to "
                f"'{frame.destination}'"
            )
        return key


def _with_length(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "big") + data

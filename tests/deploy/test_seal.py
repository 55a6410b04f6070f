"""Sealed edges: only the other end opens a frame, only as it was sealed, and only once."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.protocol.frame import SEAL_BYTES, Frame
from sheafalign_fl.protocol.seal import SealedEdges

A, B, C = (X25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
NONCES = {"a": b"a" * 16, "b": b"b" * 16, "c": b"c" * 16}
KEYS = {"a": A, "b": B, "c": C}


def edges(client: str, run: str = "run", nonces: dict[str, bytes] | None = None) -> SealedEdges:
    peers = {name: key.public_key() for name, key in KEYS.items() if name != client}
    return SealedEdges(client, KEYS[client], peers, nonces or NONCES, run)


def frame(exchange: int = 3, source: str = "a", destination: str = "b", **changes: Any) -> Frame:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    return replace(Frame.of("train", exchange, source, destination, "float32", values), **changes)


def test_the_other_end_gets_what_was_sealed() -> None:
    sealed = edges("a").seal(frame())
    assert len(sealed.payload) == len(frame().payload)
    assert len(sealed.seal) == SEAL_BYTES
    assert sealed.payload != frame().payload
    travelled = Frame.unpack(sealed.pack())
    assert edges("b").open(travelled) == frame()
    assert len(sealed.pack()) == len(frame().pack()) + SEAL_BYTES
    with pytest.raises(ProtocolError, match="is sealed"):
        travelled.values()


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, for one block of 32 bytes."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def test_the_key_is_that_of_the_description() -> None:
    sealed = edges("a").seal(frame())
    salt = hashlib.sha256(NONCES["a"] + NONCES["b"]).digest()
    info = b"sheafalign-fl sealed edge 1\0"
    for text in (b"run", b"a", b"b"):
        info += len(text).to_bytes(4, "big") + text
    key = hkdf(A.exchange(B.public_key()), salt, info)
    packed = sealed.pack()
    names = b"float32ab"
    header = packed[:28] + names  # the fixed part without its checksum, and the names
    opened = AESGCM(key).decrypt(sealed.seal[:12], sealed.payload + sealed.seal[12:], header)
    assert opened == frame().payload


@settings(max_examples=300, deadline=None)
@given(bit=st.integers(0, 8 * len(edges("a").seal(frame()).pack()) - 1))
def test_a_changed_bit_is_refused(bit: int) -> None:
    packed = bytearray(edges("a").seal(frame()).pack())
    packed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError):
        edges("b").open(Frame.unpack(bytes(packed)))


CHANGES: dict[str, Callable[[Frame], Frame]] = {
    "exchange": lambda sealed: replace(sealed, exchange=4),
    "purpose": lambda sealed: replace(sealed, purpose="evaluate"),
    "source": lambda sealed: replace(sealed, source="c"),
    "codec": lambda sealed: replace(sealed, codec="float16", dim=8),
    "shape": lambda sealed: replace(sealed, events=4, dim=3),
    "first": lambda sealed: replace(sealed, first=1),
    "payload": lambda sealed: replace(
        sealed, payload=sealed.payload[:-1] + bytes([sealed.payload[-1] ^ 1])
    ),
    "nonce": lambda sealed: replace(sealed, seal=bytes(12) + sealed.seal[12:]),
    "tag": lambda sealed: replace(sealed, seal=sealed.seal[:12] + bytes(16)),
    "no seal": lambda sealed: replace(sealed, seal=b""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_frame_forged_with_a_true_checksum_is_refused(change: str) -> None:
    forged = Frame.unpack(CHANGES[change](edges("a").seal(frame())).pack())
    with pytest.raises(ProtocolError, match=r"does not open|is not sealed"):
        edges("b").open(forged)


def test_a_frame_for_somebody_else_is_refused() -> None:
    sealed = edges("a").seal(frame())
    with pytest.raises(ProtocolError, match="client 'c' has no key"):
        edges("c").open(sealed)
    with pytest.raises(ProtocolError, match="does not open"):
        edges("c").open(replace(sealed, destination="c"))
    with pytest.raises(ProtocolError, match="has no key"):
        edges("b").seal(frame())


def test_an_own_frame_sent_back_is_refused() -> None:
    """Each direction has its own key."""
    sealed = edges("a").seal(frame())
    with pytest.raises(ProtocolError, match="does not open"):
        edges("a").open(replace(sealed, source="b", destination="a"))


@pytest.mark.parametrize(
    "other", [edges("b", run="another"), edges("b", nonces={**NONCES, "b": b"x" * 16})]
)
def test_a_frame_of_another_run_is_refused(other: SealedEdges) -> None:
    with pytest.raises(ProtocolError, match="does not open"):
        other.open(edges("a").seal(frame()))


def test_replays_and_old_frames_are_refused_but_a_neighbour_may_embed_again() -> None:
    sender, receiver = edges("a"), edges("b")
    third, again, fourth = sender.seal(frame(3)), sender.seal(frame(3)), sender.seal(frame(4))
    receiver.open(third)
    with pytest.raises(ProtocolError, match="replay"):
        receiver.open(third)
    receiver.open(again)
    receiver.open(fourth)
    for old in (third, again, fourth):
        with pytest.raises(ProtocolError, match="replay"):
            receiver.open(old)
    receiver.open(sender.seal(frame(3, purpose="evaluate")))  # evaluation counts its own exchanges


@pytest.mark.parametrize("nonce", [None, b"", b"short"])
def test_every_client_has_to_contribute(nonce: bytes | None) -> None:
    nonces = {name: value for name, value in NONCES.items() if name != "b"} | (
        {} if nonce is None else {"b": nonce}
    )
    with pytest.raises(ProtocolError, match="client 'b' contributes fewer"):
        edges("a", nonces=nonces)


def test_a_peer_s_key_that_gives_every_secret_away_is_refused() -> None:
    with pytest.raises(ProtocolError, match="no usable X25519 key"):
        SealedEdges("a", A, {"b": X25519PublicKey.from_public_bytes(bytes(32))}, NONCES, "run")


def test_a_wrong_pinned_key_opens_nothing() -> None:
    wrong = SealedEdges("b", B, {"a": C.public_key()}, NONCES, "run")
    with pytest.raises(ProtocolError, match="does not open"):
        wrong.open(edges("a").seal(frame()))


def test_nothing_is_sealed_twice() -> None:
    with pytest.raises(ProtocolError, match="sealed already"):
        edges("a").seal(edges("a").seal(frame()))


def test_the_same_frame_is_never_sealed_alike() -> None:
    sender = edges("a")
    assert len({sender.seal(frame()).pack() for _ in range(50)}) == 50

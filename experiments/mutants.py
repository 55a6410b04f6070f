"""What a damaged or hostile peer may send: mutated frames, fields, replies, drawn from a seed."""

import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict

from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.flower.records import RECORD, pack, unpack
from sheafalign_fl.inflation import inflate
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.seeding import numpy_generator

Rng = np.random.Generator
CODECS = ("float32", "float64", "float16", "bfloat16", "int8", "int4", "sign", "top-4", "top-16")
_SIZES = (0, 1, 2, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_DEPTH = 20_000


def views(modality: str, seed: int, *, events: int = 120, size: int = 6) -> ModalityData:
    """Return one labelled view of a latent that all clients see in part."""
    latent = numpy_generator(seed, "mutant views").normal(size=(events, 4))
    own = numpy_generator(seed, "mutant views", modality)
    x = np.tanh(latent @ own.normal(size=(4, size)))
    split = np.repeat(np.array([0, 1, 2], dtype=np.uint8), [events // 2, events // 4, events // 4])
    label = (latent[:, 0] > 0).astype(np.int64)
    ids = np.arange(events, dtype=np.int64)
    return ModalityData(x.astype(np.float32), ids, split, {"side": label})


# ---- bytes ---------------------------------------------------------------------------------------


def mutated_bytes(rng: Rng, data: bytes) -> bytes:
    """Return `data` with some of it flipped, cut, repeated, overwritten, moved or made longer."""
    raw = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        where = int(rng.integers(len(raw) + 1))
        match int(rng.integers(6)):
            case 0 if where < len(raw):
                raw[where] ^= 1 << int(rng.integers(8))
            case 1:
                del raw[where:]
            case 2:
                raw[where:where] = rng.bytes(int(rng.integers(1, 40)))
            case 3:
                raw[where : where + 4] = struct.pack("<I", int(rng.choice(_SIZES)))
            case 4:
                raw += raw[where : where + 64]
            case _:
                del raw[where : where + int(rng.integers(1, 9))]
    return bytes(raw)


def forged_frame(rng: Rng, frame: Frame) -> bytes:
    """Return a frame whose checksum is right, but whose header or values lie."""
    size = int(rng.choice(_SIZES))
    other = str(rng.choice(["m0", "m1", "m2", "evaluator", "", "x" * 255, "\N{SNOWMAN}"]))
    values = rng.choice(np.array([np.nan, np.inf, -np.inf, 3e38, 1e18, 0.0], dtype=np.float32))
    odd = np.full((frame.events, frame.dim), values, dtype="<f4").tobytes()
    lies: Sequence[Mapping[str, Any]] = (
        {"events": size},
        {"dim": size},
        {"dim": 0, "payload": b""},
        {"dim": 0, "payload": b"", "codec": "top-16", "events": 2**32 - 1},
        {"events": 0, "payload": b"", "dim": size},
        {"codec": str(rng.choice(CODECS))},
        {"codec": "os:system"},
        {"codec": "top-65537"},
        {"source": other},
        {"destination": other},
        {"exchange": size},
        {"first": size},
        {"purpose": str(rng.choice(["setup", "train", "evaluate"]))},
        {"payload": odd},
        {"payload": rng.bytes(len(frame.payload))},
        {"payload": b""},
        {"seal": rng.bytes(28)},
    )
    return replace(frame, **lies[int(rng.integers(len(lies)))]).pack()


def mutated_frame(rng: Rng, packed: bytes) -> bytes:
    """Return a packed frame mutated as bytes, or forged with a checksum that is right."""
    if rng.random() < 0.5:
        return mutated_bytes(rng, packed)
    return forged_frame(rng, Frame.unpack(packed))


# ---- fields --------------------------------------------------------------------------------------


def bomb(size: int = 2**28) -> bytes:
    """Return little zlib that inflates to `size` zeros."""
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    parts = [packer.compress(block) for _ in range(size // len(block))]
    return b"".join([*parts, packer.flush()])


_BOMB = bomb()


def odd_value(rng: Rng) -> Any:
    """Return a value that no field should have."""
    odd: Sequence[Any] = (
        -1,
        2**31,
        2**62,
        -(2**63),
        True,
        0.5,
        float("nan"),
        float("inf"),
        -1e308,
        "",
        "nan",
        "\x1b[31m\x00\n" * 9,
        "9" * 5000,
        "x" * 2**21,
        "[" * _DEPTH,
        '{"a":' * _DEPTH,
        b"",
        b"\xff\xfe",
        b"[" * _DEPTH,
        b"[[],{}]",
        b'[["total"],{"m1":[1e400,1e400]}]',
        b'[["events"],{"m0":[1,NaN]}]',
        rng.bytes(64),
        bytes(2**21),
        _BOMB,
        zlib.compress(b"[" * _DEPTH),
        [1, 2, 3],
        ["a"],
        [b""],
    )
    return odd[int(rng.integers(len(odd)))]


def _mutated_json(rng: Rng, value: Any) -> Any:
    """Return JSON with one of its values, keys or elements changed, dropped or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        return _mutated_object(rng, value)
    if isinstance(value, list) and value and rng.random() < 0.8:
        where = int(rng.integers(len(value)))
        part = value[where]
        middle = ([], [part, part], [_mutated_json(rng, part)])[int(rng.integers(3))]
        return [*value[:where], *middle, *value[where + 1 :]]
    odd: Sequence[Any] = (
        None,
        -1,
        2**70,
        1e308,
        float("nan"),
        True,
        "",
        "m0",
        "m1",
        "mx",
        [],
        {},
        [[]],
        0.5,
    )
    return odd[int(rng.integers(len(odd)))]


def _mutated_object(rng: Rng, value: Mapping[str, Any]) -> dict[str, Any]:
    key = list(value)[int(rng.integers(len(value)))]
    match int(rng.integers(4)):
        case 0:
            return {name: part for name, part in value.items() if name != key}
        case 1:
            return {**value, "also": 1}
        case _:
            return {**value, key: _mutated_json(rng, value[key])}


def mutated_value(rng: Rng, value: Any) -> Any:
    """Return a field's value with another type, out of bounds, or changed inside."""
    if rng.random() < 0.4:
        return odd_value(rng)
    if isinstance(value, bytes | str):
        for unpacked, again in _forms(value):
            changed = json.dumps(_mutated_json(rng, unpacked)).encode()
            return again(changed)
        if isinstance(value, bytes):
            return mutated_bytes(rng, value)
        return mutated_bytes(rng, value.encode()).decode(errors="replace")
    return odd_value(rng)


def _forms(value: bytes | str) -> list[tuple[Any, Callable[[bytes], bytes | str]]]:
    """Return the JSON in a field, if there is any, and how it is put back."""
    forms: list[tuple[Any, Callable[[bytes], bytes | str]]] = []
    raw = value.encode() if isinstance(value, str) else value
    again: Callable[[bytes], bytes | str] = bytes.decode if isinstance(value, str) else bytes
    for opened, closed in ((raw, again), (_inflated(raw), zlib.compress)):
        try:
            forms.append((json.loads(opened), closed))
        except (ValueError, RecursionError):
            continue
    return forms


def _inflated(raw: bytes) -> bytes:
    try:
        return inflate(raw, 2**24)
    except ValueError:
        return b""


def mutated_fields(rng: Rng, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of which one is missing, changed, called otherwise, or too many."""
    changed = dict(fields)
    names = list(changed)
    for _ in range(int(rng.integers(1, 3))):
        name = names[int(rng.integers(len(names)))] if names else "failed"
        match int(rng.integers(6)):
            case 0:
                changed.pop(name, None)
            case 1:
                extra = ("failed", "exit_code", "also", "labels", "labels.x", "scores", "boot")
                changed[str(rng.choice(extra))] = odd_value(rng)
            case _:
                changed[name] = mutated_value(rng, changed.get(name, 0))
    return changed


# ---- replies -------------------------------------------------------------------------------------


def mutated_reply(rng: Rng, honest: Message, asked: Message) -> Message:
    """Return what a client might answer to `asked` in place of its `honest` answer."""
    fields, frames = unpack(honest)
    match int(rng.integers(10)):
        case 0:
            return Message(Error(int(rng.integers(0, 12)), "x" * 2000), reply_to=asked)
        case 1:
            record = ArrayRecord() if rng.random() < 0.5 else ConfigRecord()
            return Message(RecordDict({str(rng.choice([RECORD, "x"])): record}), reply_to=asked)
        case 2:
            refusal = {"failed": odd_value(rng), "exit_code": odd_value(rng)}
            return Message(RecordDict({RECORD: ConfigRecord(refusal)}), reply_to=asked)
        case 3 | 4 | 5 if frames:
            frames = _mutated_frames(rng, frames)
            return Message(pack(fields, frames), reply_to=asked)
        case _:
            changed = {**mutated_fields(rng, fields), **{">" + n: f for n, f in frames.items()}}
            return Message(RecordDict({RECORD: ConfigRecord(changed)}), reply_to=asked)


def _mutated_frames(rng: Rng, frames: Mapping[str, bytes]) -> dict[str, bytes]:
    names = list(frames)
    name = names[int(rng.integers(len(names)))]
    match int(rng.integers(5)):
        case 0:
            return {key: frame for key, frame in frames.items() if key != name}
        case 1:
            return {**frames, "nobody": frames[name]}
        case 2:  # everyone gets another's
            return dict(zip(names, [frames[key] for key in names[1:] + names[:1]], strict=True))
        case _:
            return {**frames, name: mutated_frame(rng, frames[name])}

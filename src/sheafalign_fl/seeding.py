"""Random generators that depend on (seed, purpose, keys) and on nothing else.

A generator is derived where it is used, so results depend neither on the engine, nor on the order
in which clients reply, nor on what was drawn before. The derivation is SHA-256, so neighbouring
seeds give unrelated streams.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def derive(seed: int, purpose: str, *keys: int | str) -> int:
    """Return a 63-bit integer that is a function of all arguments alone.

    Parameters
    ----------
    seed
        The experiment's seed; 0 is a seed like any other.
    purpose
        What the numbers are for, such as ``"encoder"`` or ``"batches"``.
    keys
        Further coordinates, such as the client's name and the exchange. ``1`` and ``"1"`` differ.
    """
    text = "\x1f".join([f"{seed:d}", purpose, *(f"{type(key).__name__}:{key}" for key in keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, purpose: str, *keys: int | str) -> np.random.Generator:
    """Return a NumPy generator seeded by `derive`."""
    return np.random.default_rng(derive(seed, purpose, *keys))


@contextmanager
def torch_seeded(seed: int, purpose: str, *keys: int | str) -> Iterator[None]:
    """Seed torch's global CPU generator inside the block and restore it afterwards.

    Modules (initialisation, dropout) draw from the global generator, so it has to be borrowed for
    their sake. The CUDA generator is seeded too where CUDA is in use.
    """
    import torch  # here, because data, configuration and results need no torch

    in_use = (
        torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    )
    devices = [torch.cuda.current_device()] if in_use else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, purpose, *keys))
        yield

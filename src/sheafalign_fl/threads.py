"""How many threads torch and BLAS (behind NumPy and scikit-learn) use in this process."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

import torch
from threadpoolctl import threadpool_limits


def limit_threads(count: int) -> None:
    """Let torch and BLAS use `count` threads from now on.

    Clients at work side by side would otherwise each start a thread for every processor, and wait
    for each other.
    """
    torch.set_num_threads(count)
    _limit_blas(count)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _limit_blas(count: int) -> None:
    # Libraries that are not loaded yet cannot be limited, so what uses BLAS is loaded first. Once
    # is enough.
    with suppress(ImportError):  # a machine that fits no probe may lack it
        import sklearn.linear_model  # noqa: F401

    threadpool_limits(limits=count)

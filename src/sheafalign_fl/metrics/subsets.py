"""Which clients are missing at once: all subsets of a size, or an even selection of them."""

from collections.abc import Iterator
from itertools import combinations
from math import comb

_MOST, _MOST_IN_ALL, _LEAST = 64, 1024, 8


def subsets(size: int, count: int) -> Iterator[tuple[int, ...]]:
    """Yield all subsets of `count` of `size` things, or some at even lexicographic distances."""
    total = comb(size, count)
    wanted = max(_LEAST, min(_MOST, _MOST_IN_ALL // size))
    if total <= wanted:
        return combinations(range(size), count)
    return (subset_of_rank(size, count, (2 * k + 1) * total // (2 * wanted)) for k in range(wanted))


def subset_of_rank(size: int, count: int, rank: int) -> tuple[int, ...]:
    """Return item `rank` of ``combinations(range(size), count)``, without going through all."""
    chosen: list[int] = []
    for thing in range(size):
        if len(chosen) == count:
            break
        with_it = comb(size - thing - 1, count - len(chosen) - 1)
        if rank < with_it:
            chosen.append(thing)
        else:
            rank -= with_it
    return tuple(chosen)

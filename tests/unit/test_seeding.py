"""Derived seeds: functions of their arguments alone, on every machine; global state given back."""

import hashlib
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sheafalign_fl.seeding import derive, numpy_generator, torch_seeded

# No setting that names anything may hold the separator U+001F.
text = st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"]), max_size=8)
keys = st.lists(st.integers(-(2**40), 2**40) | text, max_size=4)
arguments = st.tuples(st.integers(0, 2**70), text, keys)


@given(arguments, arguments)
@settings(deadline=None)
def test_a_seed_is_equal_only_for_equal_arguments(
    one: tuple[int, str, list[int | str]], other: tuple[int, str, list[int | str]]
) -> None:
    assert derive(one[0], one[1], *one[2]) == derive(one[0], one[1], *one[2])
    assume(one != other)
    assert derive(one[0], one[1], *one[2]) != derive(other[0], other[1], *other[2])


@given(arguments)
@settings(deadline=None)
def test_a_seed_fits_every_generator(given_arguments: tuple[int, str, list[int | str]]) -> None:
    seed, purpose, rest = given_arguments
    assert 0 <= derive(seed, purpose, *rest) < 2**63


def test_an_integer_and_its_text_are_different_keys() -> None:
    assert derive(0, "p", 1) != derive(0, "p", "1")
    assert derive(0, "p", 1, "2") != derive(0, "p", "1", 2)


def test_where_the_keys_are_divided_matters() -> None:
    assert (
        len(
            {
                derive(0, "p", "ab", "c"),
                derive(0, "p", "a", "bc"),
                derive(0, "p", "abc"),
                derive(0, "pabc"),
            }
        )
        == 4
    )


def test_a_seed_is_the_leading_63_bits_of_the_sha256_of_its_arguments() -> None:
    digest = hashlib.sha256(b"7\x1fbatches\x1fint:3\x1fstr:camera").hexdigest()
    assert derive(7, "batches", 3, "camera") == int(digest, 16) >> (256 - 63)


def test_another_process_derives_the_same_seed_whatever_its_hash_seed() -> None:
    program = "from sheafalign_fl.seeding import derive; print(derive(0, 'maps', 'a', 'b', 3))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "17"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == derive(0, "maps", "a", "b", 3)


def test_zero_is_a_seed_like_any_other() -> None:
    draws = [numpy_generator(seed, "x").random(4).tolist() for seed in (0, 1, 0)]
    assert draws[0] == draws[2] != draws[1]


def test_numpy_generators_are_independent_of_each_other_and_of_the_global_one() -> None:
    first = numpy_generator(3, "a").normal(size=5)
    np.random.seed(99)  # noqa: NPY002 (the global generator is what must not matter)
    random.seed(99)
    numpy_generator(3, "b").normal(size=100)
    np.testing.assert_array_equal(numpy_generator(3, "a").normal(size=5), first)


@pytest.mark.parametrize("burn", [0, 1, 17])
def test_torch_seeded_gives_the_same_bits_whatever_was_drawn_before(burn: int) -> None:
    with torch_seeded(5, "encoder", "a"):
        expected = torch.rand(9)
    torch.rand(burn)
    with torch_seeded(5, "encoder", "a"):
        assert torch.equal(torch.rand(9), expected)
    with torch_seeded(5, "encoder", "b"):
        assert not torch.equal(torch.rand(9), expected)


def test_torch_seeded_restores_the_state_after_an_error_and_when_nested() -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()
    with pytest.raises(KeyError), torch_seeded(0, "x"):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)
    with torch_seeded(0, "x"):
        whole = torch.rand(6)
    with torch_seeded(0, "x"):
        head = torch.rand(2)
        with torch_seeded(1, "y"):
            torch.rand(50)
        tail = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), state)
    # The inner block gave the outer one's state back: as many numbers, drawn the same way, are the
    # same.
    with torch_seeded(0, "x"):
        again = torch.cat([torch.rand(2), torch.rand(4)])
    assert torch.equal(torch.cat([head, tail]), again)
    assert torch.equal(head, whole[:2])


def test_threads_derive_alike() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda index: numpy_generator(0, "t", index % 3).random(), range(30)))
    assert found == [numpy_generator(0, "t", index % 3).random() for index in range(30)]

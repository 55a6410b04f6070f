"""Numbers as people read them."""

import pytest

from sheafalign_fl.numbers import (
    count_of,
    duration,
    human_bytes,
    percent,
    percent_with_spread,
    short_commit,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (9_995_000, "10.0 MB"),
        (81_920_000, "81.9 MB"),
        (5 * 10**18, "5000 PB"),
    ],
)
def test_human_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (83.4, "83.4 s"),
        (185, "3 min 05 s"),
        (99.96, "1 min 40 s"),
        (7620, "2 h 07 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_percentages() -> None:
    assert (percent(0.5432), percent(None)) == ("54.3", "–")
    assert percent_with_spread([0.5, None, 0.6]) == "55.0 ± 7.1"
    assert percent_with_spread([0.5, None]) == "50.0"
    assert percent_with_spread([]) == "–"


def test_words() -> None:
    assert (count_of(1, "edge"), count_of(9900, "edge")) == ("1 edge", "9,900 edges")
    assert short_commit("0123456789abcdef+") == "0123456789ab+"
    assert short_commit(None) == "unknown"

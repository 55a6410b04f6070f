"""Whose fault it is, on graphs where it can be told and on those where it cannot."""

from collections.abc import Sequence
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from sheafalign_fl.watching.location import TOGETHER, Sign, locate

NAMES = "abcdef"


def complete(count: int) -> list[tuple[str, str]]:
    return list(combinations(NAMES[:count], 2))


def faulty_sensor(client: str, edges: Sequence[tuple[str, str]], since: int) -> list[Sign]:
    """Return what shows: both ends of its edges disagree, receivers see its profile too."""
    signs = []
    for edge in edges:
        if client in edge:
            other = next(end for end in edge if end != client)
            signs += [
                Sign(client, other, "rank", since + 3, since),
                Sign(other, client, "disagreement", since + 4, since + 1),
                Sign(client, other, "profile", since + 5, since),
            ]
    return signs


@given(st.integers(3, 6), st.data())
def test_a_client_is_told_from_its_edges(count: int, data: st.DataObject) -> None:
    edges = complete(count)
    client = data.draw(st.sampled_from(NAMES[:count]))
    signs = data.draw(st.permutations(faulty_sensor(client, edges, 50)))
    (suspect,) = locate(signs, edges)
    assert suspect.clients == (client,)
    assert (suspect.since, suspect.found) == (50, 53)
    assert len(suspect.edges) == 2 * (count - 1)


@given(st.integers(3, 6), st.data())
def test_one_edge_is_told_from_its_client(count: int, data: st.DataObject) -> None:
    edges = complete(count)
    sender, receiver = data.draw(st.permutations(NAMES[:count]))[:2]
    signs = [Sign(sender, receiver, check, 70, 68) for check in ("rank", "norm")]
    (suspect,) = locate(signs, edges)
    assert suspect.clients == (sender, receiver)
    assert suspect.directed
    assert suspect.edges == ((sender, receiver),)


@given(st.integers(4, 6), st.data())
def test_two_clients_at_once_are_both_named(count: int, data: st.DataObject) -> None:
    edges = complete(count)
    one, other = data.draw(st.permutations(NAMES[:count]))[:2]
    signs = faulty_sensor(one, edges, 50) + faulty_sensor(other, edges, 50)
    assert {suspect.clients for suspect in locate(signs, edges)} == {(one,), (other,)}


def test_what_both_ends_of_one_edge_see_names_the_edge_and_no_end() -> None:
    signs = [Sign("a", "b", "rank", 9, 5), Sign("b", "a", "rank", 9, 5)]
    (suspect,) = locate(signs, complete(4))
    assert set(suspect.clients) == {"a", "b"}
    assert not suspect.directed


def test_a_leaf_of_a_star_cannot_be_told_from_its_edge() -> None:
    star = [("a", "b"), ("a", "c"), ("a", "d")]
    (leaf,) = locate(faulty_sensor("b", star, 10), star)
    assert leaf.clients == ("b", "a")
    assert leaf.directed
    (hub,) = locate(faulty_sensor("a", star, 10), star)
    assert hub.clients == ("a",)


def test_faults_far_apart_in_time_are_two() -> None:
    edges = complete(4)
    later = 50 + TOGETHER + 10
    signs = faulty_sensor("a", edges, 50) + faulty_sensor("a", edges, later)
    assert [(s.clients, s.since) for s in locate(signs, edges)] == [(("a",), 50), (("a",), later)]


def test_nothing_is_nobodys_fault() -> None:
    assert locate([], complete(3)) == ()

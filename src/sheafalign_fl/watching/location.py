"""Whose fault it is: a client's shows on its edges with all neighbours, an edge's on that edge."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sheafalign_fl.watching.watch import OF_BOTH_ENDS

TOGETHER = 30
"""Exchanges within which what begins is taken for one fault."""
_MOST_EDGES = 0.6
"""A client is suspected if at least this share of its edges shows the fault."""


@dataclass(frozen=True)
class Sign:
    """Something that a client saw on one of its edges."""

    sender: str
    receiver: str
    check: str
    """Name of the statistic, or of the fault for which embeddings were refused."""
    exchange: int
    since: int
    """Exchange in which it seems to have begun."""

    @property
    def of_the_sender(self) -> bool:
        """Whether it follows from what was sent alone, whatever the receiver's own is like."""
        return self.check not in OF_BOTH_ENDS


@dataclass(frozen=True)
class Suspect:
    """Where a fault is: a client, or one edge."""

    clients: tuple[str, ...]
    """The client; of an edge its ends, the sender first if only what it sends is at fault."""
    directed: bool
    """Of an edge: whether it is known which end sends what is wrong."""
    since: int
    found: int
    """Exchange in which it was first seen."""
    edges: tuple[tuple[str, str], ...]
    """(sender, receiver) of the signs."""
    checks: tuple[str, ...]
    signs: tuple[Sign, ...]


def locate(signs: Iterable[Sign], edges: Iterable[tuple[str, str]]) -> tuple[Suspect, ...]:
    """Return the fewest faults that explain all signs, in the order of time.

    A client explains the signs on its edges. It is suspected if most of its edges show some, and at
    least two do; what no client explains is the edge's own fault. With one edge the two cannot be
    told apart, and the edge is named.

    Parameters
    ----------
    edges
        All edges of the graph, each once.
    """
    graph = [frozenset(edge) for edge in edges]
    suspects: list[Suspect] = []
    for together in _episodes(signs):
        left = together
        while left:
            client = _most_suspect(left, graph)
            if client is None:
                suspects += _edges_at_fault(left)
                break
            explained = [sign for sign in left if _explains(client, sign, left)]
            suspects.append(_suspect((client,), explained, directed=True))
            left = [sign for sign in left if sign not in explained]
    return tuple(suspects)


def _episodes(signs: Iterable[Sign]) -> list[list[Sign]]:
    """Return the signs grouped by when they began."""
    episodes: list[list[Sign]] = []
    for sign in sorted(signs, key=lambda sign: (sign.since, sign.exchange)):
        if episodes and sign.since - episodes[-1][-1].since <= TOGETHER:
            episodes[-1].append(sign)
        else:
            episodes.append([sign])
    return episodes


def _explains(client: str, sign: Sign, signs: Sequence[Sign]) -> bool:
    """Return whether a fault of `client` would show as `sign`.

    What follows from what was sent alone is the sender's; where an edge has only signs that both
    ends share, either end may be the cause.
    """
    if client not in (sign.sender, sign.receiver):
        return False
    edge = {sign.sender, sign.receiver}
    senders = {s.sender for s in signs if s.of_the_sender and {s.sender, s.receiver} == edge}
    return not senders or client in senders


def _most_suspect(signs: Sequence[Sign], graph: Sequence[frozenset[str]]) -> str | None:
    """Return the client that explains the most, if most of its edges show something."""
    if confessed := [sign.sender for sign in signs if sign.sender == sign.receiver]:
        return confessed[0]
    best: tuple[tuple[int, int, int], str] | None = None
    for client in sorted({name for sign in signs for name in (sign.sender, sign.receiver)}):
        explained = [sign for sign in signs if _explains(client, sign, signs)]
        shown = {frozenset((sign.sender, sign.receiver)) for sign in explained}
        degree = sum(client in edge for edge in graph)
        if len(shown) < 2 or len(shown) < _MOST_EDGES * degree:
            continue
        own = {sign.receiver for sign in explained if sign.of_the_sender and sign.sender == client}
        score = (len(own), len(shown), -min(sign.since for sign in explained))
        if best is None or score > best[0]:
            best = score, client
    return best[1] if best else None


def _edges_at_fault(signs: Sequence[Sign]) -> list[Suspect]:
    by_edge: dict[frozenset[str], list[Sign]] = {}
    for sign in signs:
        by_edge.setdefault(frozenset((sign.sender, sign.receiver)), []).append(sign)
    found = []
    for edge, shown in by_edge.items():
        senders = {sign.sender for sign in shown if sign.of_the_sender} or {s.sender for s in shown}
        directed = len(senders) == 1
        first = min(senders) if directed else min(edge)
        found.append(_suspect((first, *(edge - {first})), shown, directed=directed))
    return found


def _suspect(clients: tuple[str, ...], signs: Sequence[Sign], *, directed: bool) -> Suspect:
    return Suspect(
        clients,
        directed,
        since=min(sign.since for sign in signs),
        found=min(sign.exchange for sign in signs),
        edges=tuple(sorted({(sign.sender, sign.receiver) for sign in signs})),
        checks=tuple(sorted({sign.check for sign in signs})),
        signs=tuple(signs),
    )

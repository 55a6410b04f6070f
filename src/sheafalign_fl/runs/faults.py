"""Who was at fault in a run, found from what its clients said of their edges."""

from collections.abc import Sequence

from sheafalign_fl.protocol.verdict import WatchRow
from sheafalign_fl.row import Row
from sheafalign_fl.watching.location import Sign, Suspect, locate


class FaultFacts(Row):
    """One fault: of a client, which shows on its edges, or of one edge."""

    clients: tuple[str, ...]
    """The client; of an edge its ends, the sender first if it is known which one is at fault."""
    since: int
    """Exchange in which it seems to have begun."""
    found: int
    """Exchange in which it was first seen."""
    edges: tuple[tuple[str, str], ...]
    """(sender, receiver) of every edge that showed it."""
    refused: int
    """How often an edge was left out of an exchange for it."""
    reasons: tuple[str, ...]
    """What was first seen of each kind, in words."""

    @property
    def where(self) -> str:
        """Return who is suspected, in words."""
        if len(self.clients) == 1:
            return f"client '{self.clients[0]}'"
        sender, receiver = self.clients
        directed = set(self.edges) == {(sender, receiver)}
        return f"edge '{sender}' {'->' if directed else '-'} '{receiver}'"


def find_faults(
    rows: Sequence[WatchRow], edges: Sequence[tuple[str, str]]
) -> tuple[FaultFacts, ...]:
    """Return the faults that explain `rows`, in the order of time.

    Parameters
    ----------
    edges
        All edges of the graph, each once.
    """
    suspects = locate((_sign(row) for row in rows), edges)
    return tuple(_facts(suspect, rows) for suspect in suspects)


def _sign(row: WatchRow) -> Sign:
    return Sign(row.sender, row.receiver, row.check, row.exchange, row.since)


def _facts(suspect: Suspect, rows: Sequence[WatchRow]) -> FaultFacts:
    signs = set(suspect.signs)
    shown = [row for row in rows if _sign(row) in signs]
    first = {row.check: row for row in reversed(shown)}
    return FaultFacts(
        clients=suspect.clients,
        since=suspect.since,
        found=suspect.found,
        edges=suspect.edges,
        refused=sum(row.event == "refused" for row in shown),
        reasons=tuple(row.told() for row in sorted(first.values(), key=lambda r: r.exchange)),
    )

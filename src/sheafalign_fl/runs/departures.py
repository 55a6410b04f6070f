"""Clients that a run ended without: away at the end, so that nobody knows their final weights."""

from collections.abc import Collection, Sequence

from sheafalign_fl.protocol.rows import AbsenceRow
from sheafalign_fl.row import Row


class Departure(Row):
    """A client that did not tell its final weights."""

    client: str
    since: int
    """Exchange in which it was first missed and after which it never came back."""
    reason: str
    """What was heard of it last."""

    def told(self) -> str:
        """Return who, since when and why, in words."""
        return f"'{self.client}', gone since exchange {self.since}: {self.reason}"


def find_departures(
    clients: Sequence[str], finished: Collection[str], absences: Sequence[AbsenceRow]
) -> tuple[Departure, ...]:
    """Return who of `clients` is not among those that `finished`, in the order of `clients`.

    Parameters
    ----------
    finished
        Clients that told the digest of their final weights.
    absences
        In the order of time.
    """
    return tuple(_departure(client, absences) for client in clients if client not in finished)


def _departure(client: str, absences: Sequence[AbsenceRow]) -> Departure:
    away: list[AbsenceRow] = []
    for row in absences:
        if row.client == client:
            away = [] if row.event == "returned" else [*away, row]
    if not away:
        return Departure(client=client, since=0, reason="it was never heard of")
    return Departure(client=client, since=away[0].exchange, reason=away[-1].reason)

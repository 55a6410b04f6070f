"""What an evaluation is about. It follows from the settings that every client has agreed to.

Relay and clients both ask here, so a message has nothing to say but when: it can name neither
events nor metrics nor labels, and whoever writes messages gets no answer that was not agreed on.
"""

from typing import ClassVar, Literal

from sheafalign_fl.config.schema import Settings
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.protocol.messages import Count, Noun
from sheafalign_fl.protocol.topology import build_topology

EVALUATION_CODEC = "float32"
"""Evaluation always travels in full precision, so that it measures the model and not the codec."""
MOMENTS = "moments"
"""Key of the frame in which a client tells the evaluator what its imputation is solved from."""


class Measuring(Noun):
    """One evaluation: after how many exchanges, and whether it is the final one."""

    called: ClassVar[str] = "an evaluation order"
    exchange: Count
    final: bool

    def check(self, settings: Settings, done: int) -> None:
        """Refuse an evaluation that the settings do not provide for.

        Parameters
        ----------
        settings
            What was agreed on.
        done
            Exchanges that this client has taken a step in; an absent client is behind the others.

        Raises
        ------
        ProtocolError
            The final evaluation is asked for before the last exchange, or another one when none is
            due, or one of an exchange that this client has left behind.
        """
        total, every = settings.training.exchanges, settings.evaluation.every
        periodic = every > 0 and (self.exchange == total or self.exchange % every == 0)
        # A run that is watched is measured before training too; a patient one may end on its way.
        first = 0 if settings.watched_score is not None else 1
        due = periodic and self.exchange >= first
        if self.final:
            patient = settings.training.patience is not None
            due = self.exchange == total or (patient and periodic)
        if not (due and done <= self.exchange <= total):
            kind = "final" if self.final else "periodic"
            raise ProtocolError(
                f"no {kind} evaluation is due after {self.exchange} exchanges of {total}, "
                f"{done} of which this client has done"
            )

    def split(self, settings: Settings) -> Literal["validation", "test"]:
        """Return which held-out events are measured; their agreed list has the same name."""
        return settings.evaluation.split if self.final else "validation"

    def drawn_edge(self, settings: Settings, client: str) -> str | None:
        """Return the neighbour whose edge `client` keeps a picture's data of, on its own disk."""
        first = build_topology(settings).edges[0]
        return first.target if self.final and client == first.source else None

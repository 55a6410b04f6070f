"""Starting from the weights of an earlier run: what fits is taken over, what does not is refused.

A client takes over its encoder and its maps towards neighbours that it had then. Maps towards new
neighbours are initialised as ever. Optimiser, receipts and watches begin anew: they are of another
run, with other events.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sheafalign_fl.errors import ConfigError
from sheafalign_fl.learner.state import below


@dataclass(frozen=True)
class Initial:
    """The weights of one client after an earlier run."""

    run: str
    """The run's name, for people."""
    exchanges: int | None
    """So many were done; None where `run` tells it."""
    weights: Mapping[str, Tensor]
    """``encoder.NAME`` and ``maps.NEIGHBOUR.NAME``, as in a checkpoint (`learner.state`)."""

    def __str__(self) -> str:
        """Return where the weights are from, for people."""
        return self.run if self.exchanges is None else f"{self.run}, {self.exchanges} exchanges"

    def below(self, part: str, others: Iterable[str] = ()) -> dict[str, Tensor]:
        """Return the weights of `part` (``encoder.`` or ``maps.NEIGHBOUR.``), named without it.

        A name may hold a dot, so what lies below a longer one of the parts `others` is that one's.
        """
        longer = tuple(other for other in others if other != part and other.startswith(part))
        mine = {k: value for k, value in self.weights.items() if not k.startswith(longer)}
        return below(part, mine)


def check_fits(
    client: str, part: str, there: Mapping[str, Tensor], module: nn.Module, run: str
) -> None:
    """Refuse the weights `there` of `part` that are not those of `module`.

    Raises
    ------
    ConfigError
        Names the first weight that is missing, unknown, or of another shape.
    """
    if (reason := _misfit(there, module.state_dict())) is None:
        return
    what = "encoder" if part == "encoder." else f"maps towards '{part[5:-1]}'"
    raise ConfigError(
        f"init_from: the {what} of client '{client}' had {reason} (run {run}); give it the "
        "settings and inputs of that run, or another name to start anew"
    )


def _misfit(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> str | None:
    for name in [*here, *(name for name in there if name not in here)]:
        if name not in there:
            return f"no weight '{name}', which is needed here"
        if name not in here:
            return f"a weight '{name}', which there is not here"
        if there[name].shape != here[name].shape:
            was, now = (tuple(weights[name].shape) for weights in (there, here))
            return f"'{name}' of shape {was}, which is {now} here"
    return None

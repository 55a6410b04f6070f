"""How the ServerApp fetches replies from a SuperLink."""

from functools import partial

from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.superlink.grid import http_grid

_FIRST_SECONDS = 0.005
_MOST_SECONDS = 0.2
PATIENCE_SECONDS = 60.0


def fetch_without_delay(deadline: float | None) -> None:
    """Let Flower's HttpGrid look again soon, and not for ever, for a reply still being uploaded.

    A reply's parts arrive a few milliseconds after the reply is announced, and never if its sender
    is killed meanwhile. Flower waits 1 s before it asks for a part again, and goes on for two
    hours, with everybody else waiting; it has no setting for either. So an exchange would mostly
    take 1 s longer than it has to, and sometimes never end.

    Parameters
    ----------
    deadline
        Seconds that the others wait for a client in training.
    """
    http_grid.pull_objects = partial(  # type: ignore[attr-defined]
        pull_objects,
        max_time=min(deadline or PATIENCE_SECONDS, PATIENCE_SECONDS),
        initial_backoff=_FIRST_SECONDS,
        backoff_cap=_MOST_SECONDS,
    )

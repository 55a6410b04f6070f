"""How the ServerApp fetches replies from a SuperLink."""

from functools import partial

from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.superlink.grid import http_grid

_FIRST_SECONDS = 0.005
_MOST_SECONDS = 0.2


def fetch_without_delay() -> None:
    """Let Flower's HttpGrid look again soon for a reply that is still being uploaded.

    A reply's parts arrive a few milliseconds after the reply is announced. Flower waits 1 s before it asks for a part
    again, and has no setting for it, so an exchange would mostly take 1 s longer than it has to.
    """
    http_grid.pull_objects = partial(  # type: ignore[attr-defined]
        pull_objects, initial_backoff=_FIRST_SECONDS, backoff_cap=_MOST_SECONDS
    )

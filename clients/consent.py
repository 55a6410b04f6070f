"""What a client makes sure of before it takes part: the agreement is about what its settings say.

The relay tells the agreement, and the relay may lie. Neighbours, and with them who is sent an
embedding, follow from the settings; so do the sampled lists. Lists and masks are held against the
client's own events. Which events the others have a client cannot check: it takes the relay's word.
"""

import numpy as np

from sheafalign_fl.config import Settings
from sheafalign_fl.data.base import SPLITS, ModalityData
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.protocol.agreement import (
    LISTS,
    ClientAgreement,
    ListName,
    compares_non_neighbours,
    sampled_list,
)
from sheafalign_fl.protocol.topology import build_topology


def check_agreement(
    agreement: ClientAgreement, name: str, settings: Settings, data: ModalityData
) -> None:
    """Refuse an agreement that is not what the settings and this client's own events say.

    Raises
    ------
    ProtocolError
        It names other neighbours or peers, labels that were not asked for, events of another split,
        or events that this client does not have.
    """
    neighbours = build_topology(settings).neighbours(name)
    if dict(agreement.neighbours) != neighbours:
        raise ProtocolError(
            f"the agreement gives client '{name}' the neighbours {', '.join(agreement.neighbours)} "
            f"where its settings say {', '.join(neighbours)}, or other dimensions"
        )
    peers = set(settings.clients) - {name} if compares_non_neighbours(settings) else set(neighbours)
    if not set(neighbours) <= set(agreement.shared) <= peers:
        raise ProtocolError(
            f"the agreement lets client '{name}' be compared with {', '.join(agreement.shared)}, "
            f"where its settings allow {', '.join(sorted(peers))}"
        )
    _check_labels(agreement, name, settings, data)
    for list_name in LISTS:
        _check_list(agreement, list_name, name, settings, data)


def _check_labels(
    agreement: ClientAgreement, name: str, settings: Settings, data: ModalityData
) -> None:
    asked = settings.evaluation.label
    allowed = set(data.labels) if asked is None else {asked} & set(data.labels)
    if not set(agreement.labels) <= allowed:
        raise ProtocolError(
            f"the agreement scores client '{name}' by {', '.join(agreement.labels)}, "
            "which its settings and its data do not provide for"
        )
    if not set(agreement.edge_labels.values()) <= set(agreement.labels) or not set(
        agreement.edge_labels
    ) <= set(agreement.shared):
        raise ProtocolError(f"the agreement labels edges of client '{name}' that are not its own")


def _check_list(
    agreement: ClientAgreement,
    list_name: ListName,
    name: str,
    settings: Settings,
    data: ModalityData,
) -> None:
    """Refuse a list that is not sorted and of one split, too long, or shared by a wrong mask."""
    if list_name not in agreement.lists:
        raise ProtocolError(f"the agreement has no list of {list_name} events")
    ids = agreement.lists[list_name]
    if ids.ndim != 1 or (ids[1:] <= ids[:-1]).any():
        raise ProtocolError(f"the agreed {list_name} events are not sorted, or one comes twice")
    split = "train" if list_name == "probe" else list_name
    own = np.isin(ids, data.ids_of(split))
    for other in SPLITS:
        if other != split and np.isin(ids, data.ids_of(other)).any():
            raise ProtocolError(
                f"the agreed {list_name} events hold one of client '{name}''s {other} events"
            )
    # A sample of what is no longer than a sample is itself: no list is longer than agreed.
    source = agreement.lists["train"] if list_name == "probe" else ids
    if not np.array_equal(sampled_list(source, list_name, settings), ids):
        raise ProtocolError(f"the agreed {list_name} events are not the sample that was agreed on")
    for peer, masks in agreement.shared.items():
        mask = masks.get(list_name)
        if mask is None or mask.shape != ids.shape or (mask & ~own).any():
            raise ProtocolError(
                f"the agreement lets client '{name}' share {list_name} events with '{peer}' "
                "that it does not have"
            )

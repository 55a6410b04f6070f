"""What a client checks of an agreement before it works with it: a relay is not believed.

The lists and masks of an agreement follow from the manifests of all clients. A client knows its own
events and the settings, so it can refuse whatever contradicts these. What it cannot know, such as
which events a neighbour has, is in docs/threat-model.md.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.config.schema import Settings
from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.protocol.agreement import (
    LISTS,
    ClientAgreement,
    ListName,
    compares_non_neighbours,
    sampled_list,
)
from sheafalign_fl.protocol.topology import build_topology

Ids = NDArray[Any]
_NONCE = re.compile(r"[0-9a-f]{32}")


def accept(
    agreement: ClientAgreement,
    client: str,
    settings: Settings,
    own: Mapping[str, Ids],
    labels: Collection[str] = (),
    pinned: Collection[str] | None = None,
) -> None:
    """Refuse an agreement that contradicts what `client` knows.

    Parameters
    ----------
    own
        Split -> ids of the client's own events.
    labels
        The labels that the client has.
    pinned
        The peers whose keys the client has; None where it was started without keys.

    Raises
    ------
    ProtocolError
        The first contradiction. Nothing has been trained, opened or sent then.
    """
    for problem in _problems(agreement, client, settings, own, labels, pinned):
        raise ProtocolError(f"client '{client}' refuses the agreement: {problem}")


def _problems(
    agreement: ClientAgreement,
    client: str,
    settings: Settings,
    own: Mapping[str, Ids],
    labels: Collection[str],
    pinned: Collection[str] | None,
) -> Iterator[str]:
    yield from _wrong_peers(agreement, client, settings, pinned)
    yield from _wrong_labels(agreement, client, settings, labels)
    yield from _wrong_lists(agreement, settings, own)
    yield from _wrong_masks(agreement, settings, own)
    yield from _wrong_equals(agreement, settings)
    yield from _wrong_nonces(agreement, client, settings)


def _wrong_peers(
    agreement: ClientAgreement, client: str, settings: Settings, pinned: Collection[str] | None
) -> Iterator[str]:
    """Yield what the settings' own graph and the client's own keys contradict."""
    due, told = build_topology(settings).neighbours(client), agreement.neighbours
    present = {peer: dim for peer, dim in due.items() if peer in told}
    if list(told.items()) != list(present.items()) or not present:
        yield f"its neighbours are {dict(told)}, but by the settings they are {due}"
    elif len(due) - len(present) > _most_left_out(settings):
        absent = next(peer for peer in due if peer not in told)
        yield f"it leaves out the neighbour '{absent}', which training.min_clients does not allow"
    non_neighbours = [peer for peer in agreement.shared if peer not in told]
    one_space = compares_non_neighbours(settings)
    for peer in non_neighbours:
        if not one_space or peer == client or peer in due or peer not in settings.clients:
            yield f"it shares events with '{peer}', which is no neighbour"
    if missing := [peer for peer in told if peer not in agreement.shared]:
        yield f"it says nothing of the events shared with '{missing[0]}'"
    if pinned is not None and (unknown := [peer for peer in told if peer not in pinned]):
        yield f"the neighbour '{unknown[0]}' is none of the peers whose keys this client has"


def _most_left_out(settings: Settings) -> int:
    """Return how many clients a run may begin without."""
    least = settings.training.min_clients
    return 0 if least is None else len(settings.clients) - least


def _wrong_labels(
    agreement: ClientAgreement, client: str, settings: Settings, own: Collection[str]
) -> Iterator[str]:
    """Yield labels that the settings do not ask for, or that are not this client's."""
    asked = settings.evaluation.label
    allowed = set(own) if asked is None else {asked} & set(own)
    if not set(agreement.labels) <= allowed:
        yield f"it scores client '{client}' by {', '.join(agreement.labels)}, which it may not"
    edges = agreement.edge_labels
    if not set(edges.values()) <= set(agreement.labels) or not set(edges) <= set(agreement.shared):
        yield f"it labels edges of client '{client}' that are not its own"


def _wrong_lists(
    agreement: ClientAgreement, settings: Settings, own: Mapping[str, Ids]
) -> Iterator[str]:
    """Yield what is wrong with a list in itself, and own events that are held out but listed."""
    if set(agreement.lists) != set(LISTS):
        yield f"its lists are {sorted(agreement.lists)}, not {sorted(LISTS)}"
        return
    most = settings.evaluation
    sizes = {"probe": most.train_events, "test": most.events, "validation": most.events}
    for name, ids in agreement.lists.items():
        kinds = {split.dtype.kind for split in own.values() if len(split)}
        if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in kinds):
            yield f"the ids of the list '{name}' are of another kind than this client's"
            return
        if len(ids) > 1 and not (ids[1:] > ids[:-1]).all():
            yield f"the list '{name}' is not sorted or holds an event twice"
        if name in sizes and len(ids) > sizes[name]:
            yield f"the list '{name}' has {len(ids)} events where the settings allow {sizes[name]}"
        for split in SPLITS:
            if split != _split(name) and (count := int(np.isin(own[split], ids).sum())):
                yield f"{count} of this client's {split} events are in the list '{name}'"
        source = agreement.lists["train"] if name == "probe" else ids
        if not np.array_equal(sampled_list(source, name, settings), ids):
            yield f"the list '{name}' is not the sample that was agreed on"
    if not np.isin(agreement.lists["probe"], agreement.lists["train"]).all():
        yield "the list 'probe' holds events that are not in the list 'train'"


def _wrong_masks(
    agreement: ClientAgreement, settings: Settings, own: Mapping[str, Ids]
) -> Iterator[str]:
    """Yield events marked as shared that this client lacks, and edges with too few."""
    for peer, masks in agreement.shared.items():
        if set(masks) != set(LISTS):
            yield f"it has no mask for each list of the events shared with '{peer}'"
            return
        for name, mask in masks.items():
            ids = agreement.lists[name]
            if mask.shape != ids.shape:
                yield f"the mask of '{peer}' over '{name}' has {len(mask)} events, not {len(ids)}"
                return
            if (lacking := int((mask & ~np.isin(ids, own[_split(name)])).sum())) > 0:
                yield (
                    f"{lacking} events of the list '{name}' are marked as shared with '{peer}', "
                    "but this client does not have them"
                )
    for peer in agreement.neighbours:
        shared = int(agreement.shared[peer]["train"].sum())
        if shared < settings.training.batch_size:
            yield (
                f"the edge to '{peer}' shares {shared} training events, fewer than a batch of "
                f"{settings.training.batch_size}"
            )
        if agreement.shared[peer][settings.evaluation.split].sum() < 2:
            yield f"the edge to '{peer}' shares fewer than 2 {settings.evaluation.split} events"


def _wrong_equals(agreement: ClientAgreement, settings: Settings) -> Iterator[str]:
    """Yield what is wrong with the events that are to be no negatives of each other."""
    codes, masks = agreement.codes, settings.objective.false_negatives == "mask"
    if (codes is not None) != masks or (not masks and agreement.span != 1):
        yield "it says which events are equal where the settings do not, or does not where they do"
    elif codes is not None and codes.shape != agreement.lists["train"].shape:
        yield f"it has {len(codes)} codes of equal events, not one for each training event"
    elif not 1 <= agreement.span < 2**31:
        yield f"its events overlap over {agreement.span} ids"


def _wrong_nonces(agreement: ClientAgreement, client: str, settings: Settings) -> Iterator[str]:
    due = {client, *agreement.shared} if settings.security.sealed else set()
    if set(agreement.nonces) != due:
        yield "it does not hold exactly the nonces of this client and of those that it shares with"
    elif not all(map(_NONCE.fullmatch, agreement.nonces.values())):
        yield "a nonce that is not 16 bytes in hexadecimal"


def _split(name: ListName) -> str:
    return "train" if name == "probe" else name

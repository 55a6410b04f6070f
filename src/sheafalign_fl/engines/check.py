"""Checking before anything runs: what a relay would refuse is refused before a file is written."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sheafalign_fl.codecs import codec
from sheafalign_fl.config.schema import Settings
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.data.oddities import oddities
from sheafalign_fl.learner.embedder import Embedder
from sheafalign_fl.learner.factories import client_maps
from sheafalign_fl.learner.manifest import client_data, describe
from sheafalign_fl.learner.replay import memory_bytes
from sheafalign_fl.learner.schedule import BatchSchedule
from sheafalign_fl.metrics.classifier import check_installed
from sheafalign_fl.metrics.watched import watched_score
from sheafalign_fl.protocol.agreement import Agreement
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.negotiation import agree
from sheafalign_fl.protocol.topology import Topology, build_topology
from sheafalign_fl.runs.initial import find_run, has_begun, initial_of
from sheafalign_fl.runs.warnings import NO_VALIDATION
from sheafalign_fl.sheaf.terms import weighted_terms


@dataclass(frozen=True)
class Checked:
    """An experiment that could run."""

    settings: Settings
    topology: Topology
    manifests: Mapping[str, Manifest]
    agreement: Agreement
    data: Mapping[str, ModalityData]

    @property
    def warnings(self) -> list[str]:
        """Return what would be learnt or measured wrongly, though it can run."""
        # Clients of one modality share its arrays, which are looked at once.
        distinct: dict[int, str] = {}
        for name, data in self.data.items():
            distinct.setdefault(id(data), name)
        found = oddities({name: self.data[name] for name in distinct.values()})
        if self.settings.training.exchanges and not self.agreement.has_validation():
            found.append(NO_VALIDATION)
        return found

    @property
    def payload_per_exchange(self) -> int:
        """Training payload of an exchange whose events all clients have, in bytes.

        It is summed over all edges and directions.
        """
        size = codec(self.settings.codec).payload_bytes
        return sum(
            2 * size(self.settings.training.batch_size, edge.dim) for edge in self.topology.edges
        )

    @property
    def replay_bytes(self) -> Mapping[str, int]:
        """Return client -> the most bytes that it remembers for replay."""
        events = len(self.agreement.lists["train"])
        schedule = BatchSchedule.of(self.settings.training, events, self.settings.seed)
        return {
            client: memory_bytes(self.settings, schedule, self.topology.neighbours(client))
            for client in self.topology.clients
        }


def check_form(settings: Settings) -> Topology:
    """Check codec, loss terms, graph and maps, which need no data.

    Raises
    ------
    UserError
        The first thing that is wrong.
    """
    codec(settings.codec)
    watched_score(settings)
    weighted_terms(settings.objective)
    topology = build_topology(settings)
    for client in topology.clients:
        client_maps(client, topology.neighbours(client), settings)
    return topology


def check(settings: Settings, going_on: Path | None = None) -> Checked:
    """Load every client's data on this machine and check all that the relay will check.

    `going_on` is the folder of the run itself, if it is resumed.

    The settings of what it returns say for certain what they say in `settings` by way of the data
    or of this folder: how many exchanges an epoch has, and which run a name means.

    Raises
    ------
    UserError
        The first thing that is wrong.
    """
    topology = check_form(settings)
    check_installed(settings.evaluation.metrics)
    own = None if going_on is None or not has_begun(going_on) else str(going_on)
    if settings.init_from is not None and own is None:
        run = find_run(settings.init_from)
        settings = settings.model_copy(update={"init_from": str(run)})
    data = {name: client_data(name, settings) for name in settings.clients}
    starts = {name: initial_of(settings, name, going_on=own) for name in settings.clients}
    manifests = {
        name: describe(name, settings, data[name], start=str(starts[name] or ""))
        for name in settings.clients
    }
    agreement = agree(list(manifests.values()), settings, topology)
    for name, initial in starts.items():
        if initial is not None:
            theirs = agreement.for_client(name, topology)
            Embedder(name, settings, data[name], theirs).start_from(initial)
    return Checked(with_length(settings, agreement), topology, manifests, agreement, data)


def with_length(settings: Settings, agreement: Agreement) -> Settings:
    """Return the settings with `training.exchanges` instead of `training.epochs`.

    An epoch is all whole batches of the agreed training events; the last exchange may go beyond
    the last epoch's end.
    """
    training = settings.training
    if training.epochs is None:
        return settings
    batches = training.epochs * (len(agreement.lists["train"]) // training.batch_size)
    exchanges = max(1, math.ceil(batches / training.batches))
    known = training.model_copy(update={"exchanges": exchanges, "epochs": None})
    return settings.model_copy(update={"training": known})

"""Checking before anything runs: what a relay would refuse is refused before a file is written."""

from collections.abc import Mapping
from dataclasses import dataclass

from sheafalign_fl.codecs import codec
from sheafalign_fl.config.schema import Settings
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.data.oddities import oddities
from sheafalign_fl.learner.factories import new_maps
from sheafalign_fl.learner.manifest import client_data, describe
from sheafalign_fl.metrics.classifier import check_installed
from sheafalign_fl.protocol.agreement import Agreement
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.negotiation import agree
from sheafalign_fl.protocol.topology import Topology, build_topology
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
        return oddities({name: self.data[name] for name in distinct.values()})

    @property
    def payload_per_exchange(self) -> int:
        """Training payload of an exchange whose events all clients have, in bytes.

        It is summed over all edges and directions.
        """
        size = codec(self.settings.codec).payload_bytes
        return sum(
            2 * size(self.settings.training.batch_size, edge.dim) for edge in self.topology.edges
        )


def check_form(settings: Settings) -> Topology:
    """Check codec, loss terms, graph and maps, which need no data.

    Raises
    ------
    UserError
        The first thing that is wrong.
    """
    codec(settings.codec)
    weighted_terms(settings.objective)
    topology = build_topology(settings)
    for edge in topology.edges:
        for client in (edge.source, edge.target):
            new_maps(client, edge.other(client), edge.dim, settings)
    return topology


def check(settings: Settings) -> Checked:
    """Load every client's data on this machine and check all that the relay will check.

    Raises
    ------
    UserError
        The first thing that is wrong.
    """
    topology = check_form(settings)
    check_installed(settings.evaluation.metrics)
    data = {name: client_data(name, settings) for name in settings.clients}
    manifests = {name: describe(name, settings, data[name]) for name in settings.clients}
    agreement = agree(list(manifests.values()), settings, topology)
    return Checked(settings, topology, manifests, agreement, data)

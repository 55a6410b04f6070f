"""Checking an experiment before anything runs: what the relay would refuse is refused before a file is written."""

from collections.abc import Mapping
from dataclasses import dataclass

from sheafalign_fl.codecs import codec
from sheafalign_fl.config.schema import Settings
from sheafalign_fl.manifest import client_data, describe
from sheafalign_fl.node import new_maps
from sheafalign_fl.protocol.agreement import Agreement, Manifest, agree
from sheafalign_fl.protocol.topology import Topology, build_topology


@dataclass(frozen=True)
class Checked:
    """An experiment that could run."""

    settings: Settings
    topology: Topology
    manifests: Mapping[str, Manifest]
    agreement: Agreement

    @property
    def payload_per_exchange(self) -> int:
        """Training payload of an exchange whose events all clients have, in bytes, over all edges and directions."""
        size = codec(self.settings.codec).payload_bytes
        return sum(
            2 * size(self.settings.training.batch_size, edge.dim) for edge in self.topology.edges
        )


def check_form(settings: Settings) -> Topology:
    """Check codec, graph and maps, which need no data; raise `UserError` for the first thing that is wrong."""
    codec(settings.codec)
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
    manifests = {
        name: describe(name, settings, client_data(name, settings)) for name in settings.clients
    }
    return Checked(
        settings, topology, manifests, agree(list(manifests.values()), settings, topology)
    )

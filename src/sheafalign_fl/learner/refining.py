"""What a client refines its maps by once training is over: what its neighbours sent it last."""

from collections.abc import Mapping

from sheafalign_fl.learner.embedder import Embedder
from sheafalign_fl.learner.received import Arrived
from sheafalign_fl.sheaf.refinement import Kind, Refinement, refine

LEAST = 16
"""Events that a refinement is solved from at least."""


def refinements(client: Embedder, kind: Kind, came: Mapping[str, Arrived]) -> dict[str, Refinement]:
    """Return neighbour -> the refinement of `client`'s edge to it; none of those that sent little.

    Parameters
    ----------
    came
        Neighbour -> positions in the agreed training list, and the z_ji that came of them. They
        were made with weights of the last exchanges; the client's own z_ij of the same events are
        made with its final ones.
    """
    return {
        neighbour: refine(
            kind, client.restrict(neighbour, client.embeddings_at("train", positions)), received
        )
        for neighbour, (positions, received) in came.items()
        if len(positions) >= LEAST
    }

"""All shares that are at hand: `sf.load_model`."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sheafalign_fl.errors import DataError
from sheafalign_fl.shares.comparison import Comparison
from sheafalign_fl.shares.facts import ShareFacts
from sheafalign_fl.shares.folder import read_facts, share_folders
from sheafalign_fl.shares.imputation import Imputed, Method
from sheafalign_fl.shares.search import Found, Gallery, Measure
from sheafalign_fl.shares.share import Share, load_share
from sheafalign_fl.shares.sheaf import LearntSheaf, learnt_sheaf

if TYPE_CHECKING:
    from sheafalign_fl.labels import Kind
    from sheafalign_fl.shares.heads import Head


class Model(Mapping[str, Share]):
    """The shares of one run by client; ``model["camera"].embed(x)``."""

    def __init__(self, shares: Mapping[str, Share]) -> None:
        """Keep shares of one run.

        Raises
        ------
        DataError
            There are none, or they are of different runs.
        """
        if not shares:
            raise DataError("a model needs at least one share")
        runs = {share.facts.run_id: name for name, share in shares.items()}
        if len(runs) > 1:
            one, other = list(runs.values())[:2]
            raise DataError(
                f"the shares of '{one}' and '{other}' are of different runs; embeddings of two "
                "runs lie in different spaces"
            )
        self._shares = dict(shares)

    def __getitem__(self, client: str) -> Share:
        """Return the share of `client`; raise `DataError` if it is not here."""
        try:
            return self._shares[client]
        except KeyError:
            raise DataError(_lacks(client, self._shares)) from None

    def __contains__(self, client: object) -> bool:
        """Say whether the share of `client` is here."""
        return client in self._shares

    def __iter__(self) -> Iterator[str]:
        """Iterate over the clients whose shares are here."""
        return iter(self._shares)

    def __len__(self) -> int:
        """Return how many shares are here."""
        return len(self._shares)

    @property
    def facts(self) -> Mapping[str, ShareFacts]:
        """Client -> what its `share.json` says."""
        return {name: share.facts for name, share in self._shares.items()}

    def between(self, source: str, target: str, given: ArrayLike) -> Comparison:
        """Return z of `source` for `target`, of raw events, or z itself if that is what was given.

        An array is taken for z if it is a `Comparison`, or if the share of `source` is not here.

        Raises
        ------
        DataError
            The two share no space, or what was given is neither.
        """
        if isinstance(given, Comparison) or source not in self._shares:
            return self.comparison(source, target, given)
        return self._shares[source].compare(target, given)

    def gallery(
        self, source: str, target: str, given: ArrayLike, measure: Measure = "cosine"
    ) -> Gallery:
        """Return the gallery of z of `source` for `target`, to be searched many times.

        Raises
        ------
        DataError
            As for `between`; or there are no events.
        """
        if isinstance(given, Sized) and len(given) == 0:
            raise DataError(f"the gallery of '{source}' is empty; there is nothing to find in it")
        return Gallery(self._compared(self.between(source, target, given), target), measure)

    def search(
        self,
        query: tuple[str, ArrayLike],
        gallery: tuple[str, ArrayLike | Gallery],
        k: int = 10,
        measure: Measure = "cosine",
    ) -> Found:
        """Return the events of one client that are nearest to another's, exactly.

        Parameters
        ----------
        query, gallery
            (client, raw events), or (client, z for the other); the gallery may be one that
            `gallery` made before.
        k
            How many to find for each query.
        measure
            cosine, as the metric retrieval ranks them, or dot.

        Raises
        ------
        DataError
            The two share no space, one of them has no events, or what was given does not fit.
        """
        (source, asked), (target, among) = query, gallery
        if not isinstance(among, Gallery):
            among = self.gallery(target, source, among, measure)
        return among.search(self._compared(self.between(source, target, asked), source), k)

    def _compared(self, z: Comparison, asking: str) -> NDArray[np.float32]:
        """Return z as it is compared where `asking` searches: refined, if the run refined its maps.

        By the share of the client that searches, as its retrieval was measured; where that is not
        here, by the other's.
        """
        other = z.target if z.source == asking else z.source
        solver, of = (asking, other) if asking in self._shares else (other, asking)
        if solver not in self._shares:
            return z
        return self._shares[solver].refined(of, z, own=z.source == solver)

    def impute(
        self, client: str, present: Mapping[str, ArrayLike], method: Method = "ridge"
    ) -> Imputed:
        """Return h of `client` from those that are present, with an estimate of its error.

        Parameters
        ----------
        client
            Who is missing; its share has to be here.
        present
            Neighbour -> raw events, or z for `client` as `compare` makes it.
        method
            ridge: the closed form; dual: the mean of Q_ji z_ij; mean: the training mean, for as
            many events as are given.

        Raises
        ------
        DataError
            A share lacks what the method needs, or events do not fit together.
        """
        share = self[client]
        if share.imputation is None:
            raise DataError(
                f"the share of client '{client}' has no imputation: too little came from its "
                "neighbours in training; make it with `sheafalign share RUN` where the data is"
            )
        received = {
            neighbour: share.received(neighbour, self.between(neighbour, client, given))
            for neighbour, given in present.items()
        }
        count = _count({neighbour: len(z) for neighbour, z in received.items()}, client)
        match method:
            case "ridge":
                return share.imputation.ridge(received)
            case "dual":
                lifted = {neighbour: share.lift(neighbour, z) for neighbour, z in received.items()}
                return share.imputation.dual(lifted, share.dual_maps(received))
            case "mean":
                return share.imputation.mean(count)
        raise DataError(f"method '{method}': it must be ridge, dual or mean")

    def sheaf(self) -> LearntSheaf:
        """Return the sheaf that was learnt; ``model.sheaf().spectrum()`` is its Laplacian's.

        Raises
        ------
        DataError
            The share of a neighbour is not here.
        """
        return learnt_sheaf({name: share.maps for name, share in self._shares.items()})

    def fit_head(
        self, labels: ArrayLike, events: Mapping[str, ArrayLike], kind: "Kind | None" = None
    ) -> "Head":
        """Return a head fitted on labelled events; see `shares.heads.fit_head`."""
        from sheafalign_fl.shares.heads import fit_head  # heads stand on models

        return fit_head(self, labels, events, kind)

    def load_head(self, folder: str | Path) -> "Head":
        """Return a head that was saved; see `shares.head_folder.load_head`."""
        from sheafalign_fl.shares.head_folder import load_head

        return load_head(folder, self)

    def comparison(self, source: str, target: str, z: ArrayLike) -> Comparison:
        """Return an array z, (N, d_e), that was made elsewhere, as z of `source` for `target`.

        Raises
        ------
        DataError
            Neither share is here, or z is of another run, edge or dimension, or not finite.
        """
        if source not in self._shares and target not in self._shares:
            raise DataError(_lacks(source, self._shares))
        if target in self._shares:
            values: NDArray[np.float32] = self._shares[target].received(source, z)
        else:
            values = self._shares[source].sent(target, z)
        return Comparison.of(values, source, target, next(iter(self.facts.values())).run_id)


def load_model(
    path: str | Path,
    device: str = "cpu",
    threads: int | None = None,
    allow: Iterable[str] = (),
    client: str | None = None,
) -> Model:
    """Return all shares of a run folder, of a folder of shares, or the one in a share's folder.

    `device`, `threads` and `allow` are as for `load_share`. With a `client` its share alone is
    read: no other one is needed, nor has to be in order.

    Raises
    ------
    DataError
        There are none, or one is damaged, foreign or of a newer version.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder")
    found = share_folders(folder)
    if not found:
        raise DataError(
            f"{folder} has no shares; runs of earlier versions get them by `sheafalign share "
            f"{folder}` where their data can be read, and a deployed run's are on its nodes"
        )
    if client is not None and client not in found:
        raise DataError(_lacks(client, found))
    allowed = tuple(allow)
    return Model(
        {
            name: load_share(where, device, threads, allowed)
            for name, where in found.items()
            if client in (None, name)
        }
    )


def _lacks(client: str, there: Iterable[str]) -> str:
    return f"the share of client '{client}' is not here; these are: {', '.join(there)}"


def _count(counts: Mapping[str, int], client: str) -> int:
    """Return how many events all of `counts` are of; raise `DataError` if they differ."""
    if not counts:
        raise DataError(f"'{client}' is imputed from its neighbours, and none is given")
    (first, count), *others = counts.items()
    for name, other in others:
        if other != count:
            raise DataError(
                f"'{first}' has {count} events and '{name}' {other}; row k of all has to be the "
                "same event"
            )
    return count


__all__ = ["Model", "load_model", "read_facts"]

"""Search against a slow loop that compares everything in double precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sheafalign_fl as sf
from sheafalign_fl.metrics.retrieval import retrieval
from sheafalign_fl.shares import search
from sheafalign_fl.shares.search import Gallery
from tests.shares.conftest import Recorded


def slow(queries: np.ndarray, gallery: np.ndarray, k: int, *, cosine: bool) -> list[list[int]]:
    """Rank every row by itself; vectors of zeros are last, equal ones in the order of rows."""
    found = []
    for query in queries.astype(np.float64):
        scores = []
        for row, vector in enumerate(gallery.astype(np.float64)):
            score = float(query @ vector)
            if cosine:
                size = float(np.linalg.norm(query) * np.linalg.norm(vector))
                score = score / size if size > 0 else -np.inf
            scores.append((-round(score, 13), row))
        found.append([row for _, row in sorted(scores)[:k]])
    return found


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    k=st.integers(1, 70),
    chunk=st.integers(1, 40),
    dim=st.integers(1, 6),
    cosine=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_search_is_a_slow_loop(
    seed: int, count: int, k: int, chunk: int, dim: int, cosine: bool
) -> None:
    rng = np.random.default_rng(seed)
    # Few different values, so that many scores are equal and some vectors are 0.
    gallery = rng.integers(-1, 2, size=(count, dim)).astype(np.float32)
    queries = rng.integers(-1, 2, size=(3, dim)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_CHUNK", chunk)
        patch.setattr(search, "_QUERIES", 2)
        found = Gallery(gallery, "cosine" if cosine else "dot").search(queries, k)
    for at, rows in enumerate(slow(queries, gallery, min(k, count), cosine=cosine)):
        # Rows of equal score may change places where rounding tells them apart.
        assert _scores(queries[at], gallery[found.rows[at]], cosine) == pytest.approx(
            _scores(queries[at], gallery[rows], cosine), nan_ok=True
        )
        assert len(set(found.rows[at].tolist())) == len(rows)


def _scores(query: np.ndarray, vectors: np.ndarray, cosine: bool) -> list[float]:
    scores = vectors.astype(np.float64) @ query.astype(np.float64)
    sizes = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    with np.errstate(invalid="ignore"):
        return list(scores / sizes if cosine else scores)


def test_scores_that_float32_cannot_tell_apart_are_ranked_exactly() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=64).astype(np.float32)
    gallery = np.tile(base, (500, 1))
    noise = rng.permutation(500)
    gallery[:, 0] = base[0] * (1 + noise * np.float32(2.0**-21))
    query = base[None] * np.float32(1.7)
    found = Gallery(gallery).search(query, 20)
    exact = gallery.astype(np.float64) @ query[0].astype(np.float64)
    exact /= np.linalg.norm(gallery.astype(np.float64), axis=1) * np.linalg.norm(
        query.astype(np.float64)
    )
    assert np.allclose(found.scores[0], np.sort(exact)[::-1][:20], rtol=0, atol=1e-15)


def test_a_search_finds_what_the_metric_counts(recorded: Recorded) -> None:
    model = sf.load_model(recorded.path)
    x, y = recorded.raw("camera", "test"), recorded.raw("imu", "test")
    found = model.search(query=("camera", x), gallery=("imu", y), k=10)
    z, other = model["camera"].compare("imu", x), model["imu"].compare("camera", y)
    measured = retrieval("camera", "imu", z, other, None)
    own = np.arange(len(x))[:, None]
    assert (found.rows == own).any(axis=1).mean() == measured.recall_at_10
    assert (found.rows[:, :1] == own).mean() == measured.recall_at_1


def test_a_gallery_of_z_needs_no_share_of_the_other(recorded: Recorded) -> None:
    both = sf.load_model(recorded.path)
    x, y = recorded.raw("camera", "test")[:3], recorded.raw("imu", "test")
    alone = sf.load_model(recorded.path / "shares/camera")
    z = both["imu"].compare("camera", y)
    gallery = alone.gallery("imu", "camera", np.asarray(z))
    found = alone.search(("camera", x), ("imu", gallery), k=4)
    assert (found.rows == both.search(("camera", x), ("imu", y), k=4).rows).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gallery": ("imu", np.zeros((0, 3, 16)))}, "the gallery of 'imu' is empty"),
        ({"k": 0}, "at least one event"),
        ({"measure": "l2"}, "must be cosine or dot"),
        ({"gallery": ("radar", np.ones((3, 6)))}, "shares no space with 'radar'"),
        ({"gallery": ("camera", np.ones((3, 8, 8, 2)))}, "shares no space with 'camera'"),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    recorded: Recorded, changes: dict[str, object], message: str
) -> None:
    asked = {
        "query": ("camera", recorded.raw("camera", "test")[:2]),
        "gallery": ("imu", recorded.raw("imu", "test")),
        **changes,
    }
    with pytest.raises(sf.DataError, match=message):
        sf.load_model(recorded.path).search(**asked)  # type: ignore[arg-type]

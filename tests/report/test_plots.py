"""Figures: that they draw for all sizes, and what they hold."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from sheafalign_fl.metrics.retrieval import Retrieval
from sheafalign_fl.protocol.rows import EdgeBytes, EvaluationRow
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.report import plots
from sheafalign_fl.report.graph_plot import graph_picture
from sheafalign_fl.report.style import figure_style, to_svg
from sheafalign_fl.runs.reading import ExchangePoint, Projection
from tests.report.run_folders import quality, settings


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with figure_style():
        yield


def test_a_user_s_own_matplotlibrc_changes_no_figure() -> None:
    """Such as LaTeX for papers, which a machine may not have."""
    usual = to_svg(graph_picture(settings(names(3))), "graph")
    with mpl.rc_context({"text.usetex": True, "axes.titlesize": 40, "lines.marker": "o"}):
        with figure_style():
            assert to_svg(graph_picture(settings(names(3))), "graph") == usual
        assert mpl.rcParams["text.usetex"]


def names(count: int) -> list[str]:
    return [f"sensor-{k}" for k in range(count)]


def texts(svg: str) -> list[str]:
    return [
        "".join(node.itertext()).strip()
        for node in ET.fromstring(svg).iter()
        if node.tag.endswith("}text")
    ]


@pytest.mark.parametrize(
    ("count", "graph"),
    [
        *[(count, {"topology": "complete", "dim": 32}) for count in (2, 3, 4, 10)],
        (3, {"topology": "path"}),
        (7, {"topology": "ring"}),
        (6, {"topology": "star", "centre": "sensor-2"}),
        (9, {"topology": "random", "probability": 0.4}),
        (100, {"topology": "complete"}),
        (100, {"topology": "small-world"}),
    ],
)
def test_graphs_of_every_size_are_drawn(count: int, graph: dict[str, object]) -> None:
    chosen = settings(names(count), graph=graph)
    svg = to_svg(graph_picture(chosen), "graph")
    found = texts(svg)
    if count <= 10:
        assert set(names(count)) <= set(found)
    edges = build_topology(chosen).edges
    if len(edges) <= 10:
        assert found.count(str(edges[0].dim)) >= len(edges)
    assert f"{count} clients, {len(edges):,} edge" in " ".join(found)
    assert len(svg) < 400_000


def test_edges_carry_their_own_dimension() -> None:
    edges = [{"between": ["a", "b"], "dim": 17}, {"between": ["b", "c"], "dim": 23}]
    found = texts(
        to_svg(graph_picture(settings("abc", graph={"topology": "edges", "edges": edges})), "graph")
    )
    assert {"17", "23"} <= set(found)


def test_names_are_neither_formulas_nor_markup() -> None:
    hostile = ["$x^2$", "<script src=x ", "a & b"]
    svg = to_svg(graph_picture(settings(hostile)), "graph")
    assert "<script" not in svg
    assert {"$x^2$", "a & b"} <= set(texts(svg))


def test_ids_of_two_figures_do_not_clash() -> None:
    figures = [to_svg(graph_picture(settings("abc")), name) for name in ("one", "two")]
    ids = [{node.get("id") for node in ET.fromstring(svg).iter()} - {None} for svg in figures]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert to_svg(graph_picture(settings("abc")), "one") == figures[0]


def point(exchange: int, total: float | None, *absent: str) -> ExchangePoint:
    terms = ("laplacian", "contrastive", "reconstruction", "cross_reconstruction")
    losses = (
        {}
        if total is None
        else {"total": total, **dict.fromkeys(terms, total / 4), "cross_reconstruction": 0.0}
    )
    return ExchangePoint(exchange, losses, absent, 100 * exchange, 0.1)


def test_loss_curves() -> None:
    assert plots.loss_curves([]) is None
    assert plots.loss_curves([point(0, None)]) is None
    assert plots.loss_curves([point(0, 1.0)]) is not None
    curve = [point(k, 5 / (k + 1), *(["a"] if k in (3, 4, 9) else [])) for k in range(200)]
    drawn = plots.loss_curves(curve)
    assert drawn is not None
    left, right = drawn.axes
    assert len(left.patches) == 2
    assert right.get_yscale() == "log"
    assert "cross reconstruction" not in {line.get_label() for line in right.lines}
    # The clear line is a running mean, so of a constant it is that constant, to both ends.
    flat = plots.loss_curves([point(k, 3.0) for k in range(200)])
    assert flat is not None
    assert np.allclose(np.asarray(flat.axes[0].lines[1].get_ydata()), 3)


def test_retrieval_curves_show_means_against_exchanges_and_bytes() -> None:
    assert plots.retrieval_curves([]) is None
    topology, generator = build_topology(settings()), np.random.default_rng(0)
    splits = ["validation", "validation", "test"]
    rows = [
        EvaluationRow(
            exchange=10 * k,
            payload_bytes=1000 * k,
            quality=quality(topology, split, k / 3, generator),
        )
        for k, split in enumerate(splits, start=1)
    ]
    drawn = plots.retrieval_curves(rows)
    assert drawn is not None
    line = drawn.axes[0].lines[0]
    expected = [
        100 * np.mean([row.recall_at_10 for row in item.quality.retrieval]) for item in rows[:2]
    ]
    assert np.allclose(np.asarray(line.get_ydata()), expected)
    assert list(np.asarray(line.get_xdata())) == [10, 20]
    assert list(np.asarray(drawn.axes[1].lines[0].get_xdata())) == [1000, 2000]
    assert plots.retrieval_curves(rows[2:]) is not None


def edge(source: str, target: str, purpose: str = "train") -> EdgeBytes:
    sizes = {"payload_bytes": 1000, "message_bytes": 1100, "relay_bytes": 2500}
    facts = {"source": source, "target": target, "purpose": purpose, "messages": 1, "events": 1}
    return EdgeBytes.model_validate({**facts, **sizes})


def widths_of(figure: Figure) -> list[float]:
    return [bar.get_width() for bar in figure.axes[0].patches if isinstance(bar, Rectangle)]


def test_bytes_bars_are_stacked_and_leave_out_what_is_no_training_edge() -> None:
    rows = [
        edge("a", "b"),
        edge("b", "a"),
        edge("a", "evaluator"),
        edge("relay", "a"),
        edge("a", "b", "evaluate"),
    ]
    drawn = plots.bytes_bars(rows, ["a", "b"])
    assert drawn is not None
    widths = widths_of(drawn)
    assert widths == [1000, 1000, 100, 100, 1400, 1400]
    assert plots.bytes_bars(rows[2:], ["a", "b"]) is None


def test_many_edges_are_added_up_by_client() -> None:
    rows = [edge(a, b) for a in names(20) for b in names(20) if a != b]
    drawn = plots.bytes_bars(rows, names(20))
    assert drawn is not None
    assert widths_of(drawn)[:20] == [19_000] * 20


def test_missing_curve_and_matrix() -> None:
    topology = build_topology(settings(names(5)))
    measured = quality(topology, "test", 1.0, np.random.default_rng(0))
    assert plots.missing_curve((), ()) is None
    drawn = plots.missing_curve(measured.missing, measured.probe)
    assert drawn is not None
    assert len(drawn.axes[0].lines) == 4
    ridged = [
        row.model_copy(update={"ridge": row.imputed + 0.05, "worst_ridge": row.imputed - 0.05})
        for row in measured.missing
    ]
    drawn = plots.missing_curve(ridged, measured.probe)
    assert drawn is not None
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in drawn.axes[0].lines}
    np.testing.assert_allclose(
        lines["imputed from neighbours"] - lines["the paper's way"], np.full(len(ridged), 5.0)
    )
    matrix = plots.recall_matrix(measured.retrieval, names(5))
    assert matrix is not None
    assert len(matrix.axes[0].texts) == 20
    assert plots.recall_matrix(measured.retrieval[:2], names(2)) is None


def test_matrix_holds_each_direction_in_its_place() -> None:
    row = {
        "events": 9,
        "recall_at_1": 0,
        "recall_at_5": 0,
        "median_rank": 1,
        "mean_average_precision": None,
    }
    rows = [Retrieval.model_validate({"source": "a", "target": "c", "recall_at_10": 0.25, **row})]
    drawn = plots.recall_matrix(rows, ["a", "b", "c"])
    assert drawn is not None
    (text,) = drawn.axes[0].texts
    assert (text.get_position(), text.get_text()) == ((2, 0), "25")


def places(axes: Axes) -> list[NDArray[np.float64]]:
    """Return the points of every set that `axes` show."""
    return [np.asarray(points.get_offsets(), dtype=np.float64) for points in axes.collections]


def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the two largest eigenvalues of the covariance of all rows, as unit vectors."""
    units = values / np.linalg.norm(values, axis=1, keepdims=True)
    found = np.linalg.eigvalsh(np.atleast_2d(np.cov(units, rowvar=False, bias=True)))[::-1]
    return np.pad(found, (0, 2))[:2]


@pytest.mark.parametrize("dim", [1, 2, 40])
@pytest.mark.parametrize("classes", [0, 2, 30])
def test_a_projection_shows_every_event_at_both_ends_along_the_main_directions(
    dim: int, classes: int
) -> None:
    generator = np.random.default_rng(0)
    z_i, z_j = generator.normal(size=(2, 60, dim))
    labels = generator.integers(-1, classes, 60) if classes else np.full(60, -1)
    drawn = plots.projection_plot(Projection("a", "b", z_i, z_j, labels, ("clear",)))
    left, right = drawn.axes
    a, b = places(left)
    assert a.shape == b.shape == (60, 2)
    expected = spread(np.concatenate([z_i, z_j]))
    assert np.allclose(np.concatenate([a, b]).var(axis=0), expected)
    share = 100 * expected[0] / spread_in_all(np.concatenate([z_i, z_j]))
    assert left.get_xlabel() == f"first component ({share:.0f} % of variance)"
    assert len(left.lines) == 60
    assert np.allclose(np.asarray(left.lines[7].get_xydata()), [a[7], b[7]])
    by_label = places(right)
    shown = sorted(set(labels[labels >= 0].tolist())) + ([-1] if (labels < 0).any() else [])
    assert len(by_label) == 2 * len(shown)
    for label, first, second in zip(shown, by_label[::2], by_label[1::2], strict=True):
        assert np.allclose(first, a[labels == label])
        assert np.allclose(second, b[labels == label])
    legend = right.get_legend()
    names = None if legend is None else [text.get_text() for text in legend.get_texts()]
    words = {-1: "no label", 0: "clear"}
    assert names == (None if classes == 30 else [words.get(k, f"class {k}") for k in shown])
    assert "<svg" in to_svg(drawn, "projection")


def spread_in_all(values: NDArray[np.float64]) -> float:
    """Return the variance of all rows, as unit vectors, in all directions together."""
    units = values / np.linalg.norm(values, axis=1, keepdims=True)
    return float(units.var(axis=0).sum())


def test_collapsed_embeddings_are_drawn_at_one_point() -> None:
    dead = np.zeros((5, 3))
    drawn = plots.projection_plot(Projection("a", "b", dead, dead, np.zeros(5, dtype=np.int64), ()))
    assert [points.tolist() for points in places(drawn.axes[0])] == [[[0, 0]] * 5] * 2
    assert drawn.axes[0].get_xlabel() == "first component (0 % of variance)"
    assert "nan" not in to_svg(drawn, "projection").lower()

"""The figures of a benchmark: what they hold, and that they draw whatever there is."""

from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib.lines import Line2D

from sheafalign_fl.benchmark import plots
from sheafalign_fl.benchmark.summaries import Entry, entries
from sheafalign_fl.report.style import figure_style, to_svg
from tests.benchmark.made_benchmark import benchmark, cell, curve


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with figure_style():
        yield


def points(line: Line2D) -> list[tuple[float, float]]:
    return [
        (float(x), round(float(y), 6))
        for x, y in zip(*map(np.asarray, line.get_data()), strict=True)
    ]


def made() -> list[Entry]:
    return entries(
        benchmark(
            cell("cheap", "sheaf", payload_bytes=100, recall_at_10=0.5),
            cell("worse", "sheaf", payload_bytes=200, recall_at_10=0.4),
            cell("good", "sheaf", 0, payload_bytes=300, recall_at_10=0.7),
            cell("good", "sheaf", 1, payload_bytes=300, recall_at_10=0.9),
            cell("pooled", "reference", payload_bytes=50, recall_at_10=0.99),
            cell("random", "reference", payload_bytes=0, recall_at_10=0.1, curve=()),
        ),
        "toy",
    )


def test_the_front_holds_what_no_cheaper_federated_entry_betters() -> None:
    figure = plots.pareto_plot(made())
    assert figure is not None
    (front,) = [line for line in figure.axes[0].lines if line.get_label() == "front"]
    assert points(front) == [(100, 50), (300, 80)]
    assert figure.axes[0].get_xscale() == "log"
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {"cheap", "worse", "good", "pooled", "random: no bytes", "front"}


def test_learning_has_a_line_for_each_seed_and_nothing_at_no_bytes() -> None:
    found = entries(
        benchmark(*(cell("a", "sheaf", seed, curve=curve(0.2, 0.5)) for seed in range(3))), "toy"
    )
    start = curve(0.05)[0].model_copy(update={"payload_bytes": 0})
    found += entries(benchmark(cell("b", "sheaf", curve=(start, *curve(0.1, 0.3)))), "toy")
    figure = plots.learning_plot(found)
    assert figure is not None
    lines = figure.axes[0].lines
    assert [points(line) for line in lines] == [[(500, 20), (1000, 50)]] * 3 + [
        [(500, 10), (1000, 30)]
    ]
    assert len({line.get_color() for line in lines}) == 2


def test_missing_clients_are_means_over_the_seeds_that_measured_them() -> None:
    low, high = cell("a", "sheaf", 0), cell("a", "sheaf", 1)
    high = high.model_copy(
        update={"missing": tuple(p.model_copy(update={"imputed": 1.0}) for p in high.missing[:2])}
    )
    figure = plots.missing_plot(entries(benchmark(low, high), "toy"))
    assert figure is not None
    assert points(figure.axes[0].lines[0]) == [(0, 95), (1, 90), (2, 70)]


def test_where_there_is_nothing_to_draw_nothing_is_drawn() -> None:
    bare = entries(
        benchmark(cell("random", "reference", payload_bytes=0, missing=(), curve=())), "toy"
    )
    assert plots.pareto_plot(bare) is None
    assert plots.learning_plot(bare) is None
    assert plots.missing_plot(bare) is None


@pytest.mark.parametrize("payloads", [(100_000_000, 393_000_000), (1_000, 100_000_000)])
def test_the_axis_of_bytes_always_has_figures(payloads: tuple[int, int]) -> None:
    found = entries(
        benchmark(*(cell(str(size), "sheaf", payload_bytes=size) for size in payloads)), "toy"
    )
    figure = plots.pareto_plot(found)
    assert figure is not None
    low, high = figure.axes[0].get_xlim()
    ticks = [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high]
    assert 2 <= len(ticks) <= 12
    assert "MB" in to_svg(figure, "pareto")


def test_many_entries_can_be_told_apart() -> None:
    assert len({plots._look(number) for number in range(24)}) == 24

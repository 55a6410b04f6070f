"""What a report and the command line say of the course of a run on validation events."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.retrieval import Retrieval
from sheafalign_fl.protocol.rows import EvaluationRow
from sheafalign_fl.report import plots
from sheafalign_fl.report.sections import sections
from sheafalign_fl.runs.reading import Run, read_run
from sheafalign_fl.runs.warnings import NO_VALIDATION, validation_curve, warnings
from tests.report.run_folders import settings, write_run

CHOSEN = settings(clients=("camera", "lidar"))


def course(values: Sequence[float], events: int = 200, first: int = 0) -> list[EvaluationRow]:
    """Return measurements every ten exchanges; both directions are as good."""
    return [
        EvaluationRow(
            exchange=10 * (first + k),
            payload_bytes=1000 * k,
            quality=Quality(
                split="validation",
                label=None,
                retrieval=tuple(
                    Retrieval(
                        source=source, target=target, events=events, recall_at_1=value / 2,
                        recall_at_5=value, recall_at_10=value, median_rank=3.0,
                        mean_average_precision=None,
                    )
                    for source, target in (("camera", "lidar"), ("lidar", "camera"))
                ),
            ),
        )
        for k, value in enumerate(values)
    ]  # fmt: skip


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(2, 2000))
def test_a_curve_has_fallen_if_it_lost_more_than_a_standard_error(
    values: list[float], events: int
) -> None:
    curve = validation_curve(CHOSEN, course(values, events, first=1))
    assert curve is not None
    assert curve.untrained is None
    highest = max(values)
    assert curve.best.exchange == 10 * (1 + values.index(highest))
    assert curve.best.value == pytest.approx(highest)
    lost, noise = highest - values[-1], math.sqrt(highest * (1 - highest) / events)
    if abs(lost - noise) > 1e-9:
        assert curve.falls == (lost > noise)
    assert bool(warnings(CHOSEN, course(values, events), validation=True, kept=False)) == (
        validation_curve(CHOSEN, course(values, events)).falls  # type: ignore[union-attr]
    )


def test_what_was_measured_before_training_is_no_best_exchange() -> None:
    curve = validation_curve(CHOSEN, course([0.9, 0.2, 0.3]))
    assert curve is not None
    assert curve.untrained == pytest.approx(0.9)
    assert curve.best.exchange == 20


@pytest.mark.parametrize(
    ("kept", "cure"),
    [
        (True, "the weights after 20 exchanges are kept beside the last"),
        (False, "checkpoint.best: R@10 keeps the best weights, training.patience stops early"),
    ],
)
def test_the_warning_says_when_by_how_much_and_what_helps(kept: bool, cure: str) -> None:
    rows = course([0.1, 0.3, 0.8, 0.5, 0.4])
    (line,) = warnings(CHOSEN, rows, validation=True, kept=kept)
    assert line == (
        "it overfits: R@10 on validation events was 80.0\N{NO-BREAK SPACE}% after 20 "
        f"exchanges and is 40.0\N{NO-BREAK SPACE}% after 40; {cure}"
    )
    assert warnings(CHOSEN, rows, validation=False, kept=kept) == [NO_VALIDATION]
    untrained = settings(training={"exchanges": 0})
    assert warnings(untrained, [], validation=False, kept=kept) == []


@pytest.fixture
def fallen(tmp_path: Path) -> Run:
    run = read_run(write_run(tmp_path / "run", CHOSEN, extras=False).path)
    return replace(run, evaluations=course([0.1, 0.3, 0.8, 0.5, 0.4]))


def test_the_report_warns_and_marks_the_best_exchange_and_the_untrained(fallen: Run) -> None:
    curve = validation_curve(fallen.settings, fallen.evaluations)
    assert curve is not None
    figure = plots.retrieval_curves(fallen.evaluations, curve.best)
    assert figure is not None
    for axes, place in zip(figure.axes, (20, 2000), strict=True):
        lines = {str(line.get_label()): line for line in axes.get_lines()}
        best, untrained = lines["best, exchange 20"], lines["R@10, untrained"]
        assert np.asarray(best.get_xdata()).tolist() == [place, place]
        assert np.asarray(untrained.get_ydata()).tolist() == pytest.approx([10.0, 10.0])
    page = "".join(str(content) for _, _, content in sections(fallen))
    assert "Careful: it overfits: R@10 on validation events was 80.0" in page
    assert "best, exchange 20" in page


def test_the_report_of_a_run_without_validation_events_says_so(fallen: Run) -> None:
    assert fallen.summary is not None
    edges = tuple(
        edge.model_copy(update={"shared_events": {**edge.shared_events, "validation": 0}})
        for edge in fallen.summary.edges
    )
    summary = fallen.summary.model_copy(update={"edges": edges})
    page = "".join(
        str(content) for _, _, content in sections(replace(fallen, summary=summary, evaluations=[]))
    )
    assert "there are no validation events" in page

"""Tables for the terminal."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from sheafalign_fl.metrics.missing import Missing
from sheafalign_fl.metrics.probe import Probe
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.retrieval import Retrieval
from sheafalign_fl.protocol.rows import AbsenceRow, EdgeBytes
from sheafalign_fl.report import print_summary
from sheafalign_fl.report.content import (
    FEW,
    GAP,
    MOST_ROWS,
    edge_table,
    purpose_table,
)
from sheafalign_fl.report.metric_tables import metric_table, quality_tables
from sheafalign_fl.runs.summary import Summary
from sheafalign_fl.runs.warnings import fit_warnings
from tests.report.run_folders import settings, write_run


def summary_of(path: Path, clients: int, **options: object) -> Summary:
    chosen = settings(
        [f"sensor-{k}" for k in range(clients)], training={"exchanges": 2, "batch_size": 64}
    )
    return write_run(
        path / f"{clients}",
        chosen,
        extras=False,
        **options,  # type: ignore[arg-type]
    ).load_summary()


def printed(summary: Summary, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_summary(summary, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("clients", [3, 30])
def test_everything_fits_and_nothing_is_cut_short(tmp_path: Path, width: int, clients: int) -> None:
    text = printed(summary_of(tmp_path, clients), width)
    assert max(map(len, text.splitlines())) <= width
    for title in (
        "Retrieval",
        "Zero-shot",
        "Linear probe",
        "Missing",
        "Consistency",
        "Bytes by purpose",
        "Absences",
    ):
        assert title in text
    # A number that rich had to shorten ends in an ellipsis; a row of its own is the gap between
    # worst and best.
    assert not [line for line in text.splitlines() if "…" in line.strip().strip("…")]
    assert len(text.splitlines()) < 180


def test_bytes_are_exact_and_readable(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, 3)
    text = printed(summary, 80)
    payload = 2 * 6 * 4 * 64 * 32
    assert f"{payload:,}" in text
    assert "98.3 kB" in text


def test_names_are_no_markup(tmp_path: Path) -> None:
    chosen = settings(
        ["[red]a", "[bold]", "b"], name="x", training={"exchanges": 1, "batch_size": 64}
    )
    absence = AbsenceRow(exchange=0, client="[bold]", event="failed", reason="[bold]broken[/nope]")
    text = printed(
        write_run(tmp_path / "r", chosen, absences=[absence], extras=False).load_summary(), 100
    )
    assert "[red]a → [bold]" in text
    assert "[bold]broken[/nope]" in text


def retrieval_rows(count: int) -> Quality:
    return Quality(
        split="test",
        label=None,
        retrieval=tuple(
            Retrieval(
                source="a",
                target=f"b{k}",
                events=50,
                recall_at_1=0,
                recall_at_5=0,
                recall_at_10=k / count,
                median_rank=1,
                mean_average_precision=None,
            )
            for k in range(count)
        ),
    )


def test_long_tables_show_extremes_and_the_mean_of_all() -> None:
    table = metric_table(retrieval_rows(100), "retrieval")
    shown = [row[0] for row in table.rows]
    assert shown == [
        *(f"a → b{k}" for k in range(FEW)),
        GAP[0],
        *(f"a → b{k}" for k in range(100 - FEW, 100)),
    ]
    assert table.summary[0][4] == "49.5"
    assert "100 rows" in table.note


def test_short_tables_are_whole_and_in_order() -> None:
    table = metric_table(retrieval_rows(MOST_ROWS), "retrieval")
    assert [row[0] for row in table.rows] == [f"a → b{k}" for k in range(MOST_ROWS)]
    assert table.summary[1] == ("chance", "", "2.0", "10.0", "20.0", "25.5", "")
    assert quality_tables(Quality(split="test", label=None)) == ()


def test_missing_table_of_many_clients_is_thinned() -> None:
    row = {
        "subsets": 1,
        "events": 9,
        "imputed": 1,
        "mean_fill": 1,
        "zero_fill": 1,
        "worst_imputed": 1,
    }
    rows = tuple(Missing.model_validate({"missing": k, **row}) for k in range(100))
    table = metric_table(Quality(split="test", label="x", missing=rows), "missing")
    assert [cells[0] for cells in table.rows] == [str(k) for k in range(0, 100, 5)]


def bytes_row(source: str, target: str, purpose: str, payload: int) -> EdgeBytes:
    return EdgeBytes.model_validate(
        {
            "source": source,
            "target": target,
            "purpose": purpose,
            "messages": 1,
            "events": 1,
            "payload_bytes": payload,
            "message_bytes": payload + 1,
            "relay_bytes": 2 * payload + 3,
        }
    )


def test_bytes_are_added_by_purpose_and_control_is_shown_apart() -> None:
    rows = [
        bytes_row("a", "b", "train", 1000),
        bytes_row("b", "a", "train", 2000),
        bytes_row("a", "evaluator", "evaluate", 500),
        bytes_row("relay", "a", "train", 0),
    ]
    table = purpose_table(rows)
    assert table.rows[1] == ("train", "3", "3,000\n3.00 kB", "3,003\n3.00 kB", "6,009\n6.01 kB")
    assert table.summary[0][2] == "3,500\n3.50 kB"
    assert table.summary[1] == ("of it control", "1", "0\n0 B", "1\n1 B", "3\n3 B")
    edges = edge_table(rows, ["b", "a"])
    assert edges is not None
    assert [row[0] for row in edges.rows] == ["b → a", "a → b"]
    assert edges.summary[0][2] == "3,000"


def test_whether_probes_converged_is_shown_and_counted() -> None:
    flags = (True, False, None)
    rows = tuple(
        Probe(client=f"c{k}", events=9, accuracy=0.5, majority=0.1, converged=flag)
        for k, flag in enumerate(flags)
    )
    table = metric_table(Quality(split="test", label="x", probe=rows), "probe")
    column = table.columns.index("converged")
    assert [row[column] for row in table.rows] == ["yes", "no", "–"]
    assert table.summary[0][column] == "1 of 2"
    before = metric_table(Quality(split="test", label="x", probe=rows[2:]), "probe")
    assert before.summary[0][column] == "–"
    (warning,) = fit_warnings(Quality(split="test", label="x", probe=rows))
    assert warning.startswith("probe: 1 of 3 classifiers")
    assert fit_warnings(Quality(split="test", label="x", probe=rows[:1])) == []

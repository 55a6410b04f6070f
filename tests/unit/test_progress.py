"""Bars: log lines go above them, and 80 columns are enough."""

import io
import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from sheafalign_fl.runs.progress import TerminalLog, count_progress, follow, sweep_progress

_ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Return a logger that prints as the command line's do, made before any bar is."""
    logger, handler = logging.getLogger("test-progress"), TerminalLog(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)


def terminal(width: int = 80) -> tuple[Console, io.StringIO]:
    """Return a console on a terminal, and what it writes."""
    screen = io.StringIO()
    return Console(file=screen, force_terminal=True, width=width, legacy_windows=False), screen


def lines(screen: io.StringIO) -> list[str]:
    return [line.rstrip() for line in re.split(r"[\r\n]+", _ANSI.sub("", screen.getvalue()))]


def test_a_log_line_stands_above_the_bar(logger: logging.Logger, tmp_path: Path) -> None:
    console, screen = terminal()
    before = sys.stderr
    with follow(tmp_path / "metrics.jsonl", 10, console):
        logger.warning("client 'lidar' is late")
        logger.info("not for the terminal")
    assert sys.stderr is before
    shown = lines(screen)
    assert "test-progress: client 'lidar' is late" in shown
    assert not any("not for" in line for line in shown)
    bars = [line for line in shown if "━" in line]
    assert bars
    assert not any("late" in line for line in bars)


def test_without_a_bar_lines_go_to_standard_error(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.warning("here")
    assert capsys.readouterr() == ("", "test-progress: here\n")


def test_something_else_that_is_counted_gets_a_bar_of_its_own(tmp_path: Path) -> None:
    console, screen = terminal()
    with follow(tmp_path / "metrics.jsonl", 10, console) as count:
        with count("client 'lidar'", 7) as done:
            done(5)
            time.sleep(0.3)  # the bar is drawn ten times a second
        shown = len(screen.getvalue())
    assert any("client 'lidar'" in line and "5/7" in line for line in lines(screen))
    assert "lidar" not in screen.getvalue()[shown:]


def _metrics(path: Path) -> None:
    quality = {"retrieval": [{"recall_at_10": 1.0}]}
    rows = [
        {"kind": "evaluation", "exchange": 99998, "quality": quality},
        {"kind": "exchange", "exchange": 99999, "losses": [{"total": 1234.5678}]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_the_bar_of_a_run_fits_80_columns_with_all_that_it_tells(tmp_path: Path) -> None:
    console, screen = terminal()
    metrics = tmp_path / "metrics.jsonl"
    _metrics(metrics)
    with follow(metrics, 100000, console):
        limit = time.monotonic() + 20
        while "100000/100000" not in _ANSI.sub("", screen.getvalue()):
            assert time.monotonic() < limit
            time.sleep(0.02)
    bars = [line for line in lines(screen) if "━" in line]
    assert all(len(line) <= 80 for line in bars)
    assert all(line.count("━") + line.count("╸") + line.count("╺") >= 10 for line in bars)
    assert any("100000/100000 loss 1234.568  R@10 100.0 %" in line for line in bars)


def test_the_bars_of_a_sweep_fit_80_columns_however_long_names_are() -> None:
    console, screen = terminal()
    with sweep_progress(console) as progress:
        progress.phase("tuning on validation", 1000, 0)
        progress.finished(
            "multifeature / clip-pairs, learning_rate 0.0003, temperature 0.2, seed 1"
        )
    bars = [line for line in lines(screen) if "━" in line]
    assert all(len(line) <= 80 for line in bars)
    assert any("multifeature / clip-" in line and "…" in line for line in bars)
    assert all(line.count("━") + line.count("╸") + line.count("╺") >= 10 for line in bars)


def test_a_count_is_shown_on_a_terminal_only() -> None:
    console, screen = terminal()
    with count_progress("events", 4, console) as done:
        done(3)
    assert any("3/4" in line for line in lines(screen))
    quiet = io.StringIO()
    with count_progress("events", 4, Console(file=quiet)) as done:
        done(3)
    assert quiet.getvalue() == ""

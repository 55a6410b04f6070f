"""Reading run folders, whole and damaged."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sheafalign_fl.errors import DataError, UserError
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.reading import read_run
from tests.report.run_folders import write_run


def test_ledger_totals_equal_the_summary(tmp_path: Path) -> None:
    write_run(tmp_path / "r")
    run = read_run(tmp_path / "r")
    assert run.summary is not None
    assert set(run.traffic) == set(run.summary.bytes)
    assert run.ledger_rows == 3 + 40 * 6
    assert run.done == len(run.exchanges) == 40
    assert set(run.samples) == {"camera", "lidar", "radar"}
    assert run.projection is not None
    assert run.projection.classes == ("clear", "blocked")


def test_losses_are_means_over_directed_edges(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", done=1)
    run = read_run(tmp_path / "r")
    assert run.exchanges[0].losses["laplacian"] == pytest.approx(
        2 * run.exchanges[0].losses["reconstruction"]
    )
    assert run.quality is None
    assert run.summary is None
    assert folder.metrics.exists()


@pytest.mark.parametrize("name", ["metrics.jsonl", "ledger.csv"])
def test_a_last_line_that_was_cut_short_is_left_out(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "r", done=5)
    path = tmp_path / "r" / name
    whole = read_run(tmp_path / "r")
    path.write_bytes(path.read_bytes()[:-7])
    cut = read_run(tmp_path / "r")
    assert len(cut.exchanges) + cut.ledger_rows == len(whole.exchanges) + whole.ledger_rows - 1


@pytest.mark.parametrize("name", ["metrics.jsonl", "ledger.csv"])
def test_a_last_line_that_was_cut_inside_a_character_is_left_out(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "r", done=5)
    whole = read_run(tmp_path / "r")
    with (tmp_path / "r" / name).open("ab") as file:
        file.write("5,ü".encode()[:-1])
    cut = read_run(tmp_path / "r")
    assert (len(cut.exchanges), cut.ledger_rows) == (len(whole.exchanges), whole.ledger_rows)


def test_a_run_that_was_stopped_before_its_first_exchange(tmp_path: Path) -> None:
    write_run(tmp_path / "r", done=0)
    (tmp_path / "r" / "metrics.jsonl").unlink()
    (tmp_path / "r" / "ledger.csv").unlink()
    run = read_run(tmp_path / "r")
    assert (run.done, run.bytes, run.quality) == (0, [], None)


def _append(line: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(
        path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("config.yaml", lambda path: path.write_text("clients: [", encoding="utf-8")),
        ("config.yaml", lambda path: path.write_text("nonsense: 1\n", encoding="utf-8")),
        ("metrics.jsonl", _append("{broken")),
        ("metrics.jsonl", _append('{"kind": "exchange"}')),
        ("metrics.jsonl", _append('{"kind": "other"}')),
        ("metrics.jsonl", lambda path: path.write_bytes(b"\xff\xfe\n")),
        ("ledger.csv", _append("1,a,b,train,float32,1,2,3")),
        ("ledger.csv", _append("1,a,b,train,float32,1,2,3,4,five")),
        ("ledger.csv", _append("1,a,b,lunch,float32,1,2,3,4,5")),
        ("ledger.csv", lambda path: path.write_text("a,b\n", encoding="utf-8")),
        ("summary.json", lambda path: path.write_text("{}", encoding="utf-8")),
        ("summary.json", lambda path: path.write_bytes(path.read_bytes()[:100])),
        ("status.json", lambda path: path.write_text("[]", encoding="utf-8")),
        (
            "samples/camera.png",
            lambda path: path.write_text("<svg onload=alert(1)>", encoding="utf-8"),
        ),
        ("projection.npz", lambda path: path.write_bytes(b"PK nonsense")),
        ("projection.npz", lambda path: np.savez(path, z_i=np.ones((2, 2)))),
        (
            "projection.npz",
            lambda path: np.savez(
                path,
                z_i=np.ones((2, 2)),
                z_j=np.ones((3, 2)),
                labels=np.ones(2),
                source="a",
                target="b",
                classes=[""],
            ),
        ),
    ],
)
def test_a_damaged_file_is_one_clear_line(
    tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    write_run(tmp_path / "r")
    damage(tmp_path / "r" / name)
    with pytest.raises(DataError) as caught:
        read_run(tmp_path / "r")
    assert name.rsplit("/", maxsplit=1)[-1] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", [read_run, lambda path: RunFolder(path).settings()])
def test_a_configuration_of_a_newer_version_is_not_called_damaged(
    tmp_path: Path, command: Callable[[Path], object]
) -> None:
    write_run(tmp_path / "r")
    config = tmp_path / "r" / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8") + "foresight: 2\n", encoding="utf-8")
    (tmp_path / "r" / "versions.json").write_text('{"sheafalign-fl": "999.1.0"}')
    with pytest.raises(DataError, match=r"written by sheafalign-fl 999\.1\.0, and this is") as told:
        command(tmp_path / "r")
    assert "foresight" in str(told.value)
    assert "damaged" not in str(told.value)
    for written in ('{"sheafalign-fl": "0.0.1"}', '{"sheafalign-fl": "soon"}', "{}", "[]", "{"):
        (tmp_path / "r" / "versions.json").write_text(written)
        with pytest.raises(UserError) as told_else:
            command(tmp_path / "r")
        assert "foresight" in str(told_else.value)
        assert "written by" not in str(told_else.value)


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run folder"):
        read_run(tmp_path)

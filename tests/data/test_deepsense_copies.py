"""DeepSense 6G as copies of it are: hand-made tables with every trait that was seen in public ones.

What is expected is written out beside each table, or computed here from what its files were made
of.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from typer.testing import CliRunner

from sheafalign_fl.cli import app
from sheafalign_fl.data.deepsense6g import present
from sheafalign_fl.errors import ConfigError, DataError
from tests.data.deepsense_files import load

ROWS = 24
BEST = [(5 * row + 3) % 64 + 1 for row in range(ROWS)]
"""The label of each row, from 1."""
WHOLE: dict[str, Any] = {"test": 0.0, "validation": 0.0}
Cells = dict[str, Sequence[object]]


def power(frame: int) -> Any:
    """Return the sweep of a frame: no two are alike; the strongest beam is that of `BEST`."""
    values = 0.01 + 0.002 * np.sin(np.arange(1, 65) * (frame + 1))
    values[BEST[frame % ROWS] - 1] = 1.0 + 0.01 * frame
    return values


def sweeps(folder: Path, frames: int = ROWS) -> list[str]:
    """Write a file of power for each frame, and return their names."""
    (folder / "pwr").mkdir(parents=True, exist_ok=True)
    for frame in range(frames):
        lines = "\n".join(f"{value:.9f}" for value in power(frame))
        (folder / "pwr" / f"{frame}.txt").write_text(lines)
    return [f"./pwr/{frame}.txt" for frame in range(frames)]


def write(path: Path, columns: Cells, delimiter: str = ",", bom: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8-sig" if bom else "utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def plain(folder: Path) -> Cells:
    """Return the columns of a table of a row for each frame, and write its files."""
    return {
        "index": range(1, ROWS + 1),
        "unit1_pwr_60ghz": sweeps(folder),
        "unit1_beam": BEST,
        "seq_index": [1 + row // 4 for row in range(ROWS)],
    }


def decibels(frames: Sequence[int]) -> Any:
    """Return what the loader should give: dB, beams scaled by all frames, as all are trained on."""
    x = 10 * np.log10(np.round([power(frame) for frame in frames], 9))
    return (x - x.mean(axis=0)) / x.std(axis=0)


def check(*words: str) -> Any:
    return CliRunner().invoke(app, ["data", "check", *words], env={"COLUMNS": "250"})


def rows_of(*rows: str) -> list[int]:
    return [int(character) for row in rows for character in row]


# ---- how the table is written --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delimiter", "upper", "bom"),
    [(",", False, False), (";", False, False), ("\t", True, True), (",", True, False),
     (";", True, True)],
)  # fmt: skip
def test_semicolons_upper_case_and_a_mark_before_the_header_change_nothing(
    tmp_path: Path, delimiter: str, upper: bool, bom: bool
) -> None:
    columns = plain(tmp_path)
    if upper:
        columns = {name.upper(): cells for name, cells in columns.items()}
    write(tmp_path / "scenario9.csv", columns, delimiter, bom)
    data = load(tmp_path, "beam", **WHOLE)
    assert data.event_ids.tolist() == [90_000_000 + row for row in range(1, ROWS + 1)]
    assert data.labels["beam"].tolist() == [beam - 1 for beam in BEST]
    np.testing.assert_allclose(data.x, decibels(range(ROWS)), atol=1e-4)


def test_empty_headers_are_passed_over(tmp_path: Path) -> None:
    """As written by programs that number rows, and with a delimiter too many at the ends."""
    columns = plain(tmp_path)
    names = ["", *columns, ""]
    cells = [range(ROWS), *columns.values(), [""] * ROWS]
    lines = [names, *(list(row) for row in zip(*cells, strict=True))]
    text = "\n".join(",".join(map(str, line)) for line in lines)
    (tmp_path / "scenario9.csv").write_text(text)
    data = load(tmp_path, "beam", **WHOLE)
    assert data.event_ids.tolist() == [90_000_000 + row for row in range(1, ROWS + 1)]
    np.testing.assert_allclose(data.x, decibels(range(ROWS)), atol=1e-4)


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    columns = plain(tmp_path)
    write(tmp_path / "scenario9.csv", {**columns, "UNIT1_BEAM": BEST})
    with pytest.raises(DataError, match=r"scenario9\.csv: the column 'unit1_beam' is there twice"):
        load(tmp_path, "beam")


# ---- which tables are read -----------------------------------------------------------------------


@pytest.mark.parametrize("deeper", ["scenario9", "Scenario9/scenario9"])
def test_tables_may_lie_a_folder_or_two_deeper(tmp_path: Path, deeper: str) -> None:
    write(tmp_path / deeper / "scenario9.csv", plain(tmp_path / deeper))
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._scenario9.csv").write_bytes(b"\0\5\26\7unit1_rgb")
    assert present(tmp_path) == ["beam"]
    np.testing.assert_allclose(load(tmp_path, "beam", **WHOLE).x, decibels(range(ROWS)), atol=1e-4)


def test_a_table_that_is_none_of_the_data_set_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "scenario9.csv", plain(tmp_path))
    write(tmp_path / "results.csv", {"epoch": [1, 2], "loss": [0.5, 0.4]})
    assert len(load(tmp_path, "beam")) == ROWS


def test_of_several_tables_those_named_for_a_scenario_are_read_and_others_named(
    tmp_path: Path,
) -> None:
    columns = plain(tmp_path)
    write(tmp_path / "scenario9.csv", columns)
    few: Cells = {name: list(cells)[:10] for name, cells in columns.items()}
    write(tmp_path / "selection.csv", few)
    data = load(tmp_path, "beam")
    assert len(data) == ROWS
    assert "tables not used: selection; choose with data.options.scenarios" in data.notes
    chosen = load(tmp_path, "beam", scenarios="selection")
    assert chosen.event_ids.tolist() == list(range(1, 11))
    with pytest.raises(ConfigError, match="there is no table 'scenario8'; known: scenario9, sel"):
        load(tmp_path, "beam", scenarios="scenario8")


def test_of_tables_without_a_scenario_s_name_one_is_chosen_by_the_user(tmp_path: Path) -> None:
    columns = plain(tmp_path)
    write(tmp_path / "one.csv", columns)
    write(tmp_path / "two.csv", columns)
    with pytest.raises(DataError, match=r"not one, two; choose with data\.options\.scenarios"):
        load(tmp_path, "beam")
    assert len(load(tmp_path, "beam", scenarios="two")) == ROWS


SPLITS = rows_of("000000000000", "111111", "222222")


def parts(folder: Path, stem: str, columns: Cells) -> None:
    """Write the rows once more in three tables, which count `index` anew."""
    for code, name in enumerate(("train", "val", "test")):
        kept = [row for row in range(ROWS) if SPLITS[row] == code]
        cells: Cells = {column: [values[row] for row in kept] for column, values in columns.items()}
        write(folder / f"{stem}_{name}.csv", {**cells, "index": range(1, len(kept) + 1)})


def test_tables_of_the_splits_give_the_split_where_that_is_asked_for(tmp_path: Path) -> None:
    columns = plain(tmp_path)
    write(tmp_path / "scenario17.csv", columns)
    parts(tmp_path, "scenario17", columns)
    data = load(tmp_path, "beam", splits="tables")
    assert data.event_ids.tolist() == [170_000_000 + row for row in range(1, ROWS + 1)]
    assert data.split.tolist() == SPLITS
    by_sequence = load(tmp_path, "beam", test=0.5)
    assert len(by_sequence) == ROWS
    for sequence in range(6):
        assert len(set(by_sequence.split[4 * sequence : 4 * sequence + 4].tolist())) == 1
    assert sum(by_sequence.split == 2) == 12
    assert any(
        note.startswith("24 of 24 rows are also in scenario17_train.csv, scenario17_val.csv")
        for note in data.notes
    )


def test_windows_do_not_reach_over_the_ends_of_the_tables_splits(tmp_path: Path) -> None:
    columns = {**plain(tmp_path), "seq_index": [1] * ROWS}
    write(tmp_path / "scenario17.csv", columns)
    parts(tmp_path, "scenario17", columns)
    data = load(tmp_path, "beam", splits="tables", window=4)
    ends = [row for row in range(3, ROWS) if SPLITS[row] == SPLITS[row - 3]]
    assert (data.event_ids - 170_000_001).tolist() == ends


def test_tables_of_the_splits_alone_are_one_scenario(tmp_path: Path) -> None:
    columns = {**plain(tmp_path), "unit1_pwr_60ghz_1": sweeps(tmp_path)}
    del columns["unit1_pwr_60ghz"], columns["seq_index"], columns["index"]
    for code, name in enumerate(("train", "val", "test")):
        kept = [row for row in range(ROWS) if SPLITS[row] == code]
        cells: Cells = {column: [values[row] for row in kept] for column, values in columns.items()}
        write(tmp_path / f"scenario17_{name}.csv", cells)
    data = load(tmp_path, "beam", splits="tables")
    assert len(data) == ROWS
    assert np.bincount(data.split).tolist() == [12, 6, 6]


def test_splits_of_tables_that_are_not_there_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "scenario9.csv", plain(tmp_path))
    with pytest.raises(ConfigError, match=r"data\.options\.splits: .* has no scenario9_train\.csv"):
        load(tmp_path, "beam", splits="tables")
    with pytest.raises(ConfigError, match="must be sequences or tables, not 'rows'"):
        load(tmp_path, "beam", splits="rows")


# ---- columns by other names ----------------------------------------------------------------------


def test_beams_may_be_called_beam_index(tmp_path: Path) -> None:
    columns = plain(tmp_path)
    columns["unit1_beam_index"] = columns.pop("unit1_beam")
    write(tmp_path / "scenario9.csv", columns)
    data = load(tmp_path, "beam")
    assert data.labels["beam"].tolist() == [beam - 1 for beam in BEST]
    assert data.labels["beam_sector"].tolist() == [(beam - 1) // 8 for beam in BEST]


def test_the_calibrated_position_is_preferred(tmp_path: Path) -> None:
    north = np.random.default_rng(0).permutation(ROWS) * 1e-4
    for row in range(ROWS):
        (tmp_path / f"cal{row}.txt").write_text(f"{33.4 + north[row]:.8f}\n-111.9\n")
        (tmp_path / f"raw{row}.txt").write_text(f"33.4\n{-111.9 + 1e-4 * row:.8f}\n")
    (tmp_path / "unit.txt").write_text("33.4\n-111.9\n")
    columns = {
        **plain(tmp_path),
        "unit1_loc": ["unit.txt"] * ROWS,
        "unit2_loc": [f"raw{row}.txt" for row in range(ROWS)],
        "unit2_loc_cal": [f"cal{row}.txt" for row in range(ROWS)],
    }
    write(tmp_path / "scenario9.csv", columns)
    data = load(tmp_path, "gps", **WHOLE)
    np.testing.assert_allclose(data.x[:, 1], (north - north.mean()) / north.std(), atol=1e-3)
    assert np.ptp(data.x[:, 0]) < 1e-6
    assert "scenario9: read unit2_loc_cal and unit1_loc" in data.notes


# ---- several frames a row ------------------------------------------------------------------------


FRAMES = 8
BLOCKED = {
    "blockage_1": rows_of("000000000011", "000000000000"),
    "blockage_2": rows_of("000000110011", "000000000000"),
    "blockage_3": rows_of("000011110011", "000000001111"),
    "blockage_final": rows_of("000011110011", "000000001111"),
}


def windowed(folder: Path) -> Cells:
    """Row r has the frames r to r + 7, the columns not in order; two sequences without overlap."""
    names = sweeps(folder, 2 * ROWS)
    first = [row if row < 12 else row + 12 for row in range(ROWS)]
    columns: Cells = {
        f"unit1_pwr_60ghz_{step}": [names[row + step - 1] for row in first]
        for step in (8, 1, 2, 3, 4, 5, 6, 7)
    }
    return {"": range(ROWS), **columns, **BLOCKED, "unit1_beam_8": BEST}


def test_a_row_has_any_number_of_frames_the_newest_last(tmp_path: Path) -> None:
    write(tmp_path / "scenario17.csv", windowed(tmp_path))
    first = [row if row < 12 else row + 12 for row in range(ROWS)]
    frames = np.array([[row + step for step in range(FRAMES)] for row in first])
    read = np.unique(frames)
    scaled = dict(zip(read.tolist(), decibels(read.tolist()), strict=True))
    data = load(tmp_path, "beam", window=FRAMES, **WHOLE)
    expected = [[scaled[frame] for frame in row] for row in frames.tolist()]
    np.testing.assert_allclose(data.x, expected, atol=1e-3)
    assert data.event_ids.tolist() == [170_000_001 + row for row in range(ROWS)]
    assert data.labels["beam"].tolist() == [beam - 1 for beam in BEST]
    # One frame alone is the newest; scaled by other frames it is the same but for one line.
    newest = load(tmp_path, "beam", **WHOLE)
    for beam in (3, 20, 50):
        assert np.corrcoef(newest.x[:, beam], data.x[:, 7, beam])[0, 1] > 0.9999
    assert "scenario17: read unit1_pwr_60ghz_1 to unit1_pwr_60ghz_8" in data.notes
    with pytest.raises(ConfigError, match=r"a row of scenario17\.csv has 8 frames, not 9"):
        load(tmp_path, "beam", window=9)


def test_rows_that_share_frames_are_in_one_split(tmp_path: Path) -> None:
    write(tmp_path / "scenario17.csv", windowed(tmp_path))
    data = load(tmp_path, "beam", test=0.5, validation=0.0)
    assert sorted(data.split[[0, 12]].tolist()) == [0, 2]
    assert len(set(data.split[:12].tolist())) == len(set(data.split[12:].tolist())) == 1


@pytest.mark.parametrize("horizon", [1, 2, 3, 5])
def test_blockage_is_that_of_any_of_the_next_frames_as_far_as_the_table_looks(
    tmp_path: Path, horizon: int
) -> None:
    write(tmp_path / "scenario17.csv", windowed(tmp_path))
    data = load(tmp_path, "beam", horizon=horizon, **WHOLE)
    looked = [BLOCKED[f"blockage_{step}"] for step in (1, 2, 3) if step <= horizon]
    assert data.labels["blockage_ahead"].tolist() == [max(row) for row in zip(*looked, strict=True)]
    assert data.labels["blockage_final"].tolist() == BLOCKED["blockage_final"]
    last = min(horizon, 3)
    named = "blockage_1" if last == 1 else f"blockage_1 to blockage_{last}"
    note = f"scenario17: labels from {named}, blockage_final, unit1_beam_8"
    assert note in data.notes


def test_a_horizon_of_no_frame_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "scenario17.csv", windowed(tmp_path))
    with pytest.raises(ConfigError, match=r"data\.options\.horizon: must be 1 or more, not 0"):
        load(tmp_path, "beam", horizon=0)


def test_pictures_of_a_row_are_in_the_order_of_time(tmp_path: Path) -> None:
    for frame in range(ROWS + 8):
        Image.new("L", (96, 54), 4 * frame).save(tmp_path / f"{frame}.png")
    columns: Cells = {
        f"unit1_rgb_{step}": [f"{row + step - 1}.png" for row in range(ROWS)]
        for step in range(1, 9)
    }
    write(tmp_path / "scenario17.csv", columns)
    levels = load(tmp_path, "camera", window=8, **WHOLE).x.mean(axis=(2, 3))
    steps = np.diff(levels, axis=1)
    np.testing.assert_allclose(steps, steps[0, 0], rtol=0.02)
    assert steps[0, 0] > 0


def test_a_table_without_sequences_is_cut_in_blocks_of_a_hundred_rows(tmp_path: Path) -> None:
    names = sweeps(tmp_path, 250)
    write(tmp_path / "scenario9.csv", {"unit1_pwr_60ghz": names})
    data = load(tmp_path, "beam", test=0.34, validation=0.33)
    blocks = [set(data.split[start : start + 100].tolist()) for start in (0, 100, 200)]
    assert [len(found) for found in blocks] == [1, 1, 1]
    assert set().union(*blocks) == {0, 1, 2}
    assert any("has no seq_index; 100 rows that follow each other" in note for note in data.notes)


# ---- files of other kinds ------------------------------------------------------------------------


@pytest.mark.parametrize("backwards", [False, True])
def test_power_in_one_file_is_read_in_the_order_that_the_labels_say(
    tmp_path: Path, backwards: bool
) -> None:
    """Seen: label = 64 - argmax of the gathered power, counted from 1."""
    columns = plain(tmp_path / "elsewhere")
    write(tmp_path / "scenario9.csv", columns)
    whole = np.round([power(row) for row in range(ROWS)], 9)
    gathered = whole[:, ::-1] if backwards else whole
    if backwards:
        assert (64 - gathered.argmax(axis=1)).tolist() == BEST
    np.save(tmp_path / "all_power.npy", gathered)
    np.save(tmp_path / "other.npy", np.zeros((ROWS, 3)))
    assert present(tmp_path) == ["beam"]
    data = load(tmp_path, "beam", **WHOLE)
    np.testing.assert_allclose(data.x, decibels(range(ROWS)), atol=1e-4)
    order = "its beams backwards" if backwards else "as it is there"
    assert f"scenario9: power from all_power.npy, {order}: 100% of labels agree" in data.notes


def test_power_of_other_rows_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "scenario9.csv", plain(tmp_path / "elsewhere"))
    shuffled = np.random.default_rng(0).permutation([power(row) for row in range(ROWS)])
    np.save(tmp_path / "all_power.npy", shuffled)
    with pytest.raises(DataError, match="it is of other rows"):
        load(tmp_path, "beam")


def test_a_sweep_with_nan_in_the_one_file_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "scenario9.csv", plain(tmp_path / "elsewhere"))
    whole = np.array([power(row) for row in range(ROWS)])
    whole[5, 7] = np.nan
    np.save(tmp_path / "all_power.npy", whole)
    assert load(tmp_path, "beam").event_ids.tolist() == [
        90_000_001 + row for row in range(ROWS) if row != 5
    ]


def test_lidar_and_radar_may_be_matlab_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    angles = np.linspace(-2.0941, 1.5621, 216)
    ranges = generator.uniform(1, 20, (ROWS, 216))
    for row in range(ROWS):
        scan = np.stack([ranges[row], angles], axis=1)
        savemat(tmp_path / f"lidar{row}.mat", {"data": scan})
        cube = (
            generator.normal(size=(4, 64, 16)) * 1e-3
            + np.exp(2j * np.pi * (10 + row) * np.arange(64) / 64)[None, :, None]
        )
        savemat(tmp_path / f"radar{row}.mat", {"data": cube.astype(np.complex64)})
    columns = {
        **plain(tmp_path),
        "unit1_lidar": [f"lidar{row}.mat" for row in range(ROWS)],
        "unit1_radar": [f"radar{row}.mat" for row in range(ROWS)],
    }
    write(tmp_path / "scenario9.csv", columns)
    assert present(tmp_path) == ["lidar-scan", "radar", "beam"]
    scans = load(tmp_path, "lidar-scan", **WHOLE)
    # All 216 returns are kept, each at its place.
    expected = (ranges - ranges.mean()) / ranges.std()
    np.testing.assert_allclose(scans.x[:, 0], expected, atol=1e-4)
    assert "scans from -2.0941 to 1.5621 rad" in scans.notes
    maps = load(tmp_path, "radar", **WHOLE)
    assert maps.x[:, 0].max(axis=2).argmax(axis=1).tolist() == [10 + row for row in range(ROWS)]


# ---- what was chosen is shown --------------------------------------------------------------------


def test_check_shows_what_was_chosen(tmp_path: Path) -> None:
    columns = windowed(tmp_path)
    write(tmp_path / "scenario17.csv", columns, ";")
    parts(tmp_path, "scenario17", columns)
    write(tmp_path / "old.csv", columns)
    said = check(str(tmp_path), "--set", "splits=tables", "--set", "window=8")
    shown = " ".join(said.output.split())
    for part in (
        "tables not used: old; choose with data.options.scenarios",
        "24 of 24 rows are also in scenario17_train.csv, scenario17_val.csv, scenario17_test.csv",
        "read unit1_pwr_60ghz_1 to unit1_pwr_60ghz_8",
        "labels from blockage_1 to blockage_2, blockage_final, unit1_beam_8",
        "1 of 2 sequences (rows that share files) are in several of the tables' own splits",
    ):
        assert part in shown

"""`data check` on recordings with clocks and with oddities: what it proposes runs, and helps."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from sheafalign_fl.cli import app
from sheafalign_fl.config import parse_settings
from sheafalign_fl.data.inspection import inspect
from sheafalign_fl.engines.check import check
from tests.data.made_sensors import recorded


def data_check(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["data", "check", *words], env={"COLUMNS": "200"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def runs(output: str) -> Any:
    """Check the configuration at the end of what `data check` prints, and return it."""
    content = yaml.safe_load(output.split("this configuration runs:\n")[1])
    check(parse_settings(content))
    return content


def save(folder: Path, name: str, x: Any, **arrays: Any) -> None:
    np.savez(folder / f"{name}.npz", x=x, **arrays)


def noise(count: int, *shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, *shape))


# ---- what is printed runs ----------------------------------------------------------------------


def test_no_labels_and_fewer_events_than_a_batch_end_in_a_configuration_that_runs(
    tmp_path: Path,
) -> None:
    for seed, name in enumerate("ab"):
        save(tmp_path, name, noise(60, 3, seed=seed), event_id=np.arange(60))
    code, output = data_check(str(tmp_path), "--seed", "3")
    assert code == 0
    content = runs(output)
    assert content["training"]["batch_size"] == 32
    assert content["seed"] == 3
    assert "note: batch_size: 32, as two sensors share few training events" in output
    assert "note: no client has labels, so transfer, probe, missing are not measured" in output


def test_one_modality_is_wrong(tmp_path: Path) -> None:
    save(tmp_path, "a", noise(300, 3), event_id=np.arange(300))
    code, output = data_check(str(tmp_path))
    assert code == 2
    assert "wrong: the configuration: 'clients': a federation needs at least two clients" in output


def test_what_check_refuses_is_wrong(tmp_path: Path) -> None:
    for name, kind in (("a", str), ("b", int)):
        label = (np.arange(300) % 2).astype(kind)
        save(tmp_path, name, noise(300, 3), event_id=np.arange(300), label=label)
    (tmp_path / "relay.npz").write_bytes((tmp_path / "a.npz").read_bytes())
    code, output = data_check(str(tmp_path))
    assert code == 2
    assert "wrong: the configuration: 'clients': 'relay' cannot name a client" in output


# ---- clocks ------------------------------------------------------------------------------------


def two_sensors(folder: Path, lag: float, drift: float = 0.0, span: float = 300.0) -> None:
    """Write a fast sensor with Unix times in seconds, and a slow one in milliseconds."""
    fast = recorded(4, span, 100.0, 0)
    slow = recorded(4, span, 20.0, 1, lag, drift)
    save(folder, "fast", fast.x, time=1.7e9 + fast.time)
    save(folder, "slow", slow.x, time=np.round((1.7e9 + slow.time) * 1000).astype(np.int64))


@pytest.mark.parametrize(("lag", "drift"), [(3.0, 0.0), (-0.6, 800.0)])
def test_a_clock_that_is_off_is_found_and_set_right_by_what_is_proposed(
    tmp_path: Path, lag: float, drift: float
) -> None:
    two_sensors(tmp_path, lag, drift)
    code, output = data_check(str(tmp_path))
    assert code == 0
    options = runs(output)["data"]["options"]
    assert options["period"] == 0.05
    assert options["clocks"]["slow"]["offset"] == pytest.approx(-lag, abs=0.05)
    assert options["clocks"]["slow"].get("drift", 0.0) == pytest.approx(-drift, abs=100)
    assert f"slow: its clock is {abs(lag):.1f}"[:-2] in output
    again = inspect(tmp_path, {key: value for key, value in options.items() if key != "path"})
    assert not [note for note in again.notes if "clock" in note]


def test_clocks_that_agree_are_left_alone(tmp_path: Path) -> None:
    two_sensors(tmp_path, 0.0)
    code, output = data_check(str(tmp_path))
    assert code == 0
    assert "clocks" not in runs(output)["data"]["options"]
    (used,) = re.findall(r"fast: 30,000 samples at (\S+) Hz, of which a clock of 20 Hz", output)
    assert float(used) == pytest.approx(100, rel=0.01)
    assert re.search(r"slow +6,000 +20\.?\d* +299\.\d", output)


def test_a_clock_in_another_zone_is_found(tmp_path: Path) -> None:
    two_sensors(tmp_path, 7200.0 + 1.5)
    code, output = data_check(str(tmp_path))
    assert code == 0
    offset = runs(output)["data"]["options"]["clocks"]["slow"]["offset"]
    assert offset == pytest.approx(-7201.5, abs=0.05)


def test_a_recording_of_half_a_minute_gets_a_block_that_fits(tmp_path: Path) -> None:
    two_sensors(tmp_path, 0.0, span=30.0)
    code, output = data_check(str(tmp_path), "--set", "window=8", "--set", "stride=4")
    assert code == 0
    options = runs(output)["data"]["options"]
    assert 25 <= options["block"] <= 30
    assert "block: 29 s, as the recordings share 29" in output


def test_times_in_units_that_their_size_does_not_tell_are_asked_about(tmp_path: Path) -> None:
    save(tmp_path, "a", noise(3000, 3), time=np.arange(3000) / 50)
    save(tmp_path, "b", noise(3000, 3, seed=1), time=np.arange(3000) * 20)
    _, output = data_check(str(tmp_path))
    assert "b: lasts 1000 times as long as a; are its times in ms? Then set" in output
    code, output = data_check(str(tmp_path), "--set", "time_unit={b: ms}")
    assert code == 0
    assert runs(output)["data"]["options"]["period"] == 0.02


def test_a_layout_that_is_likely_is_proposed(tmp_path: Path) -> None:
    save(tmp_path, "imu", noise(300, 128, 6), event_id=np.arange(300))
    save(tmp_path, "camera", noise(300, 24, 32, 3), event_id=np.arange(300))
    code, output = data_check(str(tmp_path))
    assert code == 0
    assert runs(output)["data"]["options"]["layout"] == {"imu": "TC", "camera": "HWC"}
    assert "imu: x looks like TC" in output
    assert "as it is, it would be 128 channels of 6 samples" in output
    assert "6 channels of 128 samples" in output
    assert "3 channels of 24 × 32 pixels" in output


# ---- oddities ----------------------------------------------------------------------------------


def oddities(folder: Path) -> list[str]:
    return list(inspect(folder, {}).warnings)


def test_constant_sensors_and_channels_are_named(tmp_path: Path) -> None:
    save(tmp_path, "a", np.full((300, 2), 7.0), event_id=np.arange(300))
    x = noise(300, 4)
    x[:, 1:3] = 5.0
    save(tmp_path, "b", x, event_id=np.arange(300))
    assert oddities(tmp_path) == [
        "a: x is the same for all events, so nothing can be told from it",
        "b: 2 of 4 features are constant",
    ]
    code, output = data_check(str(tmp_path))
    assert code == 0
    assert "careful: b: 2 of 4 features are constant" in output


def test_equal_rows_in_two_splits_and_in_one_are_counted(tmp_path: Path) -> None:
    split = np.array([0] * 200 + [1] * 40 + [2] * 60)
    x = noise(300, 3)
    x[250:255] = x[10:15]
    x[215] = x[3]
    x[100:104] = x[99]
    save(tmp_path, "a", x, event_id=np.arange(300), split=split)
    assert oddities(tmp_path) == [
        "a: 5 of 60 test events are equal to training events (first: 250 and 10)",
        "a: 1 of 40 validation events are equal to training events (first: 215 and 3)",
        "a: 5 of 200 training events are equal to another one; in a batch they are taken for "
        "different: objective.false_negatives: mask leaves them out",
    ]


def test_labels_of_one_class_and_labels_that_differ_are_named(tmp_path: Path) -> None:
    label = np.arange(300) % 3
    other = label.copy()
    other[[5, 70, 71]] = (other[[5, 70, 71]] + 1) % 3
    other[80] = -1
    save(tmp_path, "a", noise(300, 3), event_id=np.arange(300), label=label)
    save(tmp_path, "b", noise(300, 3, seed=1), event_id=np.arange(300), label=other)
    ones = np.zeros(300, dtype=int)
    save(tmp_path, "c", noise(300, 3, seed=2), event_id=np.arange(300), label_here=ones)
    assert oddities(tmp_path) == [
        "c: here: all labelled events are of one class, so nothing is told apart",
        "a – b: label: 3 of 299 events are labelled differently (first: 5)",
    ]


def test_values_below_zero_and_several_labels_are_counted_by_event(tmp_path: Path) -> None:
    heat = -1.0 - np.arange(300) / 7
    tags = np.ones((300, 3), dtype=int)
    fewer, some = heat.copy(), np.full((300, 3), -1)
    fewer[20:], some[:150, 0] = np.nan, 1  # no event of these has all three labels
    some[200:220] = 0
    first = {"label_heat": fewer, "label_tags": some}
    save(tmp_path, "a", noise(300, 3), event_id=np.arange(300), **first)
    both = {"label_heat": heat, "label_tags": np.where(np.arange(300)[:, None] < 60, tags, -1)}
    save(tmp_path, "b", noise(300, 3, seed=1), event_id=np.arange(300), **both)
    _, output = data_check(str(tmp_path))
    told = " ".join(output.split())
    assert "values -43.71 to -1 300" in told
    assert "0 60, 1 60, 2 60, not labelled 240" in told


def test_a_label_that_is_text_here_and_numbers_there_is_named(tmp_path: Path) -> None:
    save(tmp_path, "a", noise(300, 3), event_id=np.arange(300), label=np.array(["u", "v"] * 150))
    save(tmp_path, "b", noise(300, 3, seed=1), event_id=np.arange(300), label=np.arange(300) % 2)
    assert oddities(tmp_path) == ["a – b: label: is text in one and numbers in the other"]


@pytest.mark.parametrize("form", [" {}", "{:04d}", "E{}"])
def test_ids_that_nearly_agree_are_told(tmp_path: Path, form: str) -> None:
    plain = "e{}" if form.startswith("E") else "{}"
    for name, text in (("a", form), ("b", plain)):
        ids = np.array([text.format(event) for event in range(1, 100)])
        save(tmp_path, name, noise(99, 3), event_id=ids)
    (pair,) = inspect(tmp_path, {}).pairs
    assert str(pair.problem).endswith("; 99 would agree but for spaces, leading zeros or capitals")


def test_a_sensor_whose_samples_have_one_time_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "a", noise(300, 3), time=np.full(300, 5.0))
    save(tmp_path, "b", noise(300, 3), time=np.arange(300) / 10)
    assert inspect(tmp_path, {}).problems["a"].endswith("all 300 samples have one time, 5 s")


def test_sequences_that_a_sensor_lacks_are_named_for_machines_of_their_own(tmp_path: Path) -> None:
    sequence = np.repeat([4, 7, 9], 100)
    save(tmp_path, "a", noise(300, 3), event_id=np.arange(300), sequence=sequence)
    save(tmp_path, "b", noise(200, 3), event_id=np.arange(200), sequence=sequence[:200])
    for seed in range(6):
        _, output = data_check(str(tmp_path), "--seed", str(seed))
        if "this configuration runs" in output:
            assert runs(output)["data"]["options"]["sequences"] == "4, 7, 9"
        assert "note: sequences: some sensors lack some" in output
    save(tmp_path, "b", noise(300, 3), event_id=np.arange(300), sequence=sequence)
    assert "sequences" not in inspect(tmp_path, {}).options

"""Tables, sounds and folders of files as modalities: what they hold is written out beside each."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import wavfile

from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.data.tables.arrays import read_sound, spectrum
from sheafalign_fl.data.tables.cells import as_numbers, as_time_of_day, has_decimal_comma
from sheafalign_fl.data.tables.recordings import Recording, find_recordings, read_recording
from sheafalign_fl.errors import DataError

TIMES = [0.0, 0.02, 0.04, 0.06]
X = [[0.125, -9.81], [1234.5, 2.0], [-0.5, 3.25], [2e-3, 0.0]]


def table(delimiter: str = ",", decimal: str = ".", newline: str = "\n") -> str:
    """Return `TIMES` and `X` as text, with units in the header, as programs of all languages do."""
    header = delimiter.join(["Time (s)", "Acceleration x (m/s²)", "Acceleration y (m/s²)"])
    rows = [
        delimiter.join(str(value).replace(".", decimal) for value in (time, *values))
        for time, values in zip(TIMES, X, strict=True)
    ]
    return newline.join([header, *rows, ""])


def read(folder: Path, modality: str = "imu") -> Recording:
    return read_recording(folder, modality)


def load(folder: Path, modality: str, **options: Any) -> Any:
    return load_modality("folder", modality, 0, {"path": str(folder), **options}, "test")


# ---- how a table is written ----------------------------------------------------------------------


PLAIN = table().encode()
COMMA = table(";", ",").encode()
WRITTEN = {
    "imu.csv": PLAIN,
    "imu.tsv": table("\t").encode(),
    "imu.CSV": table(";").encode(),
    "imu.csv.gz": gzip.compress(PLAIN),
    "imu.tsv.gz": gzip.compress(table("\t").encode()),
}
CONTENT = {
    "semicolons and decimal commas": COMMA,
    "tabs and decimal commas": table("\t", ",").encode(),
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "UTF-16": table().encode("utf-16"),
    "an encoding of Windows": table(";", ",", "\r\n").encode("cp1252"),
    "comments before the header": b"# a logger\n\n#second\n" + PLAIN,
    "quotes": PLAIN.replace(b"Time (s)", b'"Time (s)"').replace(b"1234.5", b'"1234.5"'),
    "a delimiter at the ends of rows": PLAIN.replace(b"\n", b",\n"),
    "empty rows at the end": PLAIN + b",,\n,,\n\n",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_table_may_have_any_of_these_endings(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(WRITTEN[name])
    found = read(tmp_path)
    np.testing.assert_array_equal(found.arrays["x"], X)
    np.testing.assert_array_equal(found.arrays["time"], TIMES)


@pytest.mark.parametrize("case", CONTENT)
def test_the_way_a_table_is_written_changes_nothing(case: str, tmp_path: Path) -> None:
    (tmp_path / "imu.csv").write_bytes(CONTENT[case])
    found = read(tmp_path)
    np.testing.assert_array_equal(found.arrays["x"], X)
    np.testing.assert_array_equal(found.arrays["time"], TIMES)
    assert ("decimal commas" in found.notes) == ("comma" in case or "Windows" in case)
    assert found.notes[0].startswith("time from 'Time (s)' (1 s); 2 values from 'Acceleration x")


def test_parquet_has_the_same_columns(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads .parquet files")
    from pyarrow import parquet

    x = np.array(X)
    columns = {"time": TIMES, "x": x[:, 0], "y": x[:, 1], "label": ["a", "b", "a", None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "imu.parquet")
    pictures = np.arange(24.0).reshape(4, 2, 3)
    whole = {"event_id": [7, 8, 9, 11], "picture": pictures.tolist()}
    parquet.write_table(pyarrow.table(whole), tmp_path / "camera.parquet")
    found = read(tmp_path)
    np.testing.assert_array_equal(found.arrays["x"], X)
    assert found.arrays["label"].tolist() == ["a", "b", "a", ""]
    np.testing.assert_array_equal(read(tmp_path, "camera").arrays["x"], pictures)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"bad\.parquet: is no readable Parquet file"):
        read(tmp_path, "bad")


def test_columns_are_what_their_names_say(tmp_path: Path) -> None:
    text = (
        "index,event,label,label_room,subject,split,speed (m/s),note\n"
        "0,e4,walk,1,s1,train,0.5,ok\n1,e9,run,,s1,test,0.25,\n"
    )
    (tmp_path / "imu.csv").write_text(text)
    arrays = read(tmp_path).arrays
    assert {name: values.tolist() for name, values in arrays.items()} == {
        "x": [[0.5], [0.25]],
        "event_id": ["e4", "e9"],
        "label": ["walk", "run"],
        "label_room": [1, -1],
        "sequence": ["s1", "s1"],
        "split": ["train", "test"],
    }
    assert "not used: 'index', 'note'" in read(tmp_path).notes[0]


def test_an_empty_cell_of_values_is_unknown_and_minus_one_is_a_value(tmp_path: Path) -> None:
    cells = ["-1", "", "4", "0", "-3"] * 8
    rows = "".join(f"{row},{row / 7},{cell}\n" for row, cell in enumerate(cells))
    (tmp_path / "imu.csv").write_text("event,value,label_heat\n" + rows)
    heat = load(tmp_path, "imu", labels={"heat": "values"}).labels["heat"]
    np.testing.assert_array_equal(heat, [-1.0, np.nan, 4.0, 0.0, -3.0] * 8)
    (tmp_path / "imu.csv").write_text("event,value,label_heat\n" + rows.replace(",-3", ",1"))
    kind = load(tmp_path, "imu").labels["heat"]
    np.testing.assert_array_equal(kind, [-1, -1, 4, 0, 1] * 8)


@pytest.mark.parametrize(
    ("header", "values", "named"),
    [
        ("time,x,y,z", 3, {}),
        ("t,X (m/s²),Y (m/s²),Z (m/s²)", 3, {}),
        ("x1,x2,y", 2, {"label"}),
        ("time,T (°C),NO (ppb),class (0 or 1)", 3, {}),
        ("t,temperature,target", 1, {"label"}),
        ("time (UTC),frame,pressure", 1, {}),
    ],
)
def test_what_has_a_unit_or_is_an_axis_is_a_value(
    header: str, values: int, named: set[str], tmp_path: Path
) -> None:
    """A sensor's y axis is no label, nor is nitric oxide a number of rows."""
    count = header.count(",") + 1
    rows = [",".join(str(row + column) for column in range(count)) for row in range(3)]
    (tmp_path / "imu.csv").write_text("\n".join([header, *rows]))
    arrays = read(tmp_path).arrays
    assert arrays["x"].shape == (3, values)
    assert set(arrays) - {"x", "time", "event_id"} == set(named)
    assert ("time" in arrays) == header.startswith("t")


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("timestamp_ns", ["1700000000000000001", "1700000000020000001"], [0.0, 0.02]),
        ("time [ms]", ["0", "20"], [0.0, 0.02]),
        ("Time since start in ms", ["100", "120.0"], [0.1, 0.12]),
        ("t (min)", ["0", "0.5"], [0.0, 30.0]),
        ("seconds_elapsed", ["1.5", "1.75"], [1.5, 1.75]),
    ],
)
def test_the_unit_of_a_time_is_that_in_its_header(
    header: str, cells: list[str], expected: list[float], tmp_path: Path
) -> None:
    (tmp_path / "imu.csv").write_text("\n".join([f"{header},a", *(f"{cell},1" for cell in cells)]))
    times = read(tmp_path).arrays["time"]
    start = 1.7e9 if header.endswith("ns") else 0
    np.testing.assert_allclose(times - start, expected, atol=1e-6)


def test_numbers_with_commas_and_points() -> None:
    german = ["1.234,5", "0,25", "-3", ""]
    assert has_decimal_comma([german])
    np.testing.assert_array_equal(as_numbers(german, comma=True), [1234.5, 0.25, -3.0, np.nan])
    assert not has_decimal_comma([["0,25", "1"], ["0.5", "2"]])
    assert as_numbers(["walk", "1"]) is None
    whole = as_numbers(["9007199254740993", "1"])
    assert whole is not None
    assert whole.tolist() == [9007199254740993, 1]
    times = as_time_of_day(["23:59:59.250", "23:59:59,75", "00:00:00.25"])
    assert times is not None
    np.testing.assert_allclose(times, [86399.25, 86399.75, 86400.25])


def test_what_is_no_table_is_refused_with_file_and_row(tmp_path: Path) -> None:
    for content, message in (
        ("", r"imu\.csv: is empty"),
        ("a,b\n", r"imu\.csv: has no rows"),
        ("a,a\n1,2\n", "the column 'a' is there twice"),
        ("a,b\n1,2\n1,2,3\n", r"imu\.csv row 3: has 3 cells, but the header names 2 columns"),
        ("time,note\n1,a\n", "has no column of numbers that are values"),
    ):
        (tmp_path / "imu.csv").write_text(content)
        with pytest.raises(DataError, match=message):
            read(tmp_path)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "imu.csv").write_bytes(PLAIN)
    (tmp_path / "imu.tsv").write_bytes(table("\t").encode())
    with pytest.raises(DataError, match="gives the modality 'imu', as"):
        find_recordings(tmp_path)


# ---- loggers of phones ---------------------------------------------------------------------------


def sensor(rate: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """Return rows (time, x, y, z) of a sensor."""
    time = np.arange(0, seconds, 1 / rate)
    return np.column_stack([time, np.random.default_rng(seed).normal(size=(len(time), 3))])


def phyphox(folder: Path, rows: dict[str, NDArray[np.float64]], started: float) -> None:
    """Write a folder as phyphox's export does: one CSV a sensor, and `meta/time.csv`."""
    (folder / "meta").mkdir(parents=True)
    for name, values in rows.items():
        header = '"Time (s)","X (m/s^2)","Y (m/s^2)","Z (m/s^2)"'
        lines = [",".join(f"{value:.9E}" for value in row) for row in values.tolist()]
        (folder / f"{name}.csv").write_text("\n".join([header, *lines]))
    meta = '"event","experiment time","system time","system time text"\n'
    end = max(values[-1, 0] for values in rows.values())
    meta += f'"START",0.000,{started:.3f},"x"\n"PAUSE",{end:.6f},{started + end:.3f},"x"\n'
    (folder / "meta" / "time.csv").write_text(meta)
    (folder / "meta" / "device.csv").write_text('"property","value"\n"deviceModel","x"\n')


def test_a_folder_of_phyphox_is_two_sensors_on_one_clock(tmp_path: Path) -> None:
    rows = {"Accelerometer": sensor(50, 130, 0), "Gyroscope": sensor(50, 130, 1)}
    phyphox(tmp_path, rows, 1_700_000_000.25)
    (tmp_path / "._Gyroscope.csv").write_bytes(b"\0\5\26\7")
    assert find_recordings(tmp_path) == ["Accelerometer", "Gyroscope"]
    found = read(tmp_path, "Gyroscope")
    np.testing.assert_allclose(found.arrays["x"], rows["Gyroscope"][:, 1:], rtol=1e-9)
    expected = rows["Gyroscope"][:, 0] + 1_700_000_000.25
    np.testing.assert_allclose(found.arrays["time"], expected, atol=1e-5)
    data = [load(tmp_path, name, period=0.02, window=25, stride=25) for name in rows]
    assert data[0].input_shape == (3, 25)
    np.testing.assert_array_equal(data[0].event_ids, data[1].event_ids)
    assert len(data[0]) > 200


def test_folders_of_sessions_are_sequences(tmp_path: Path) -> None:
    for number, session in enumerate(("monday", "tuesday")):
        phyphox(tmp_path / session, {"imu": sensor(10, 3, number)}, 1e9 + 1000 * number)
    assert find_recordings(tmp_path) == ["imu"]
    found = read(tmp_path)
    assert found.arrays["sequence"].tolist() == ["monday"] * 30 + ["tuesday"] * 30
    np.testing.assert_allclose(found.arrays["time"][[0, 30]], [1e9, 1e9 + 1000])
    (tmp_path / "tuesday" / "imu.csv").write_text("Time (s),Other\n0,1\n")
    with pytest.raises(DataError, match=r"tuesday.imu\.csv: has other columns than .*monday"):
        read(tmp_path)


def test_physics_toolbox_writes_times_of_day_and_decimal_commas(tmp_path: Path) -> None:
    """Its header has units; with a German phone its cells have commas and are divided by `;`."""
    (tmp_path / "gforce.csv").write_text(
        "time;gFx;gFy;gFz;TgF\n"
        "23:59:59:981;0,0123;-0,9981;0,0405;0,999\n"
        "00:00:00:001;0,0119;-0,9979;0,0402;0,9988\n"
    )
    (tmp_path / "gyro.csv").write_text("time,wx (rad/s),wy (rad/s)\n0.004,0.1,0.2\n0.006,0.3,0.4\n")
    gforce = read(tmp_path, "gforce")
    np.testing.assert_allclose(gforce.arrays["time"], [86399.981, 86400.001])
    assert gforce.arrays["x"].tolist() == [
        [0.0123, -0.9981, 0.0405, 0.999],
        [0.0119, -0.9979, 0.0402, 0.9988],
    ]
    gyro = read(tmp_path, "gyro")
    assert gyro.arrays["time"].tolist() == [0.004, 0.006]
    assert gyro.arrays["x"].tolist() == [[0.1, 0.2], [0.3, 0.4]]


def test_gaps_and_repeated_stamps_cost_the_events_that_they_touch_and_no_more(
    tmp_path: Path,
) -> None:
    rows = sensor(50, 240, 0)
    gap = (rows[:, 0] >= 100) & (rows[:, 0] < 103)
    kept = np.repeat(rows[~gap], np.where(np.arange(int((~gap).sum())) % 1000 == 7, 2, 1), axis=0)
    lines = [",".join(f"{value:.6f}" for value in row) for row in kept.tolist()]
    (tmp_path / "imu.csv").write_text("\n".join(["Time (s),x,y,z", *lines]))
    data = load(tmp_path, "imu", period=0.02)
    # An event is a tick, whose number is its id: those of the gap have none, all others have one.
    expected = np.round(rows[~gap, 0] / 0.02).astype(np.int64)
    np.testing.assert_array_equal(np.sort(data.event_ids), expected)
    windows = load(tmp_path, "imu", period=0.02, window=50)
    inside = [row for row in windows.event_ids.tolist() if 5000 <= row < 5150 + 49]
    assert inside == []


# ---- a file for each event, and sound ------------------------------------------------------------


def tone(hertz: float, rate: int, seconds: float = 0.5) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def test_a_folder_of_arrays_is_an_event_a_file(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
    (tmp_path / "radar").mkdir()
    (tmp_path / "radar" / ".DS_Store").write_bytes(b"x")
    for number, values in zip((2, 10, 1, 3), x, strict=True):
        np.save(tmp_path / "radar" / f"frame{number}.npy", values)
    found = read(tmp_path, "radar")
    order = np.argsort(found.arrays["event_id"])
    assert found.arrays["event_id"][order].tolist() == [1, 2, 3, 10]
    np.testing.assert_array_equal(found.arrays["x"][order], x[[2, 0, 3, 1]])
    np.save(tmp_path / "radar" / "frame4.npy", x[0, :2])
    with pytest.raises(DataError, match=r"frame4\.npy: has shape \(2, 5\), but"):
        read(tmp_path, "radar")


def test_folders_in_a_folder_are_labels(tmp_path: Path) -> None:
    for label, count in (("clap", 2), ("snap", 3)):
        (tmp_path / "mic" / label).mkdir(parents=True)
        for number in range(count):
            samples = (tone(440 + 100 * number, 8000) * 32767).astype(np.int16)
            wavfile.write(tmp_path / "mic" / label / f"take{number}.wav", 8000, samples)
    found = read(tmp_path, "mic")
    assert found.arrays["label"].tolist() == ["clap", "clap", "snap", "snap", "snap"]
    assert found.arrays["event_id"].tolist()[:3] == ["clap/take0", "clap/take1", "snap/take0"]
    assert found.arrays["x"].shape == (5, 1, 4000)
    np.testing.assert_allclose(found.arrays["x"][3, 0], tone(540, 8000), atol=1e-4)
    assert found.encoder == "audio"


def test_shorter_sounds_end_in_silence_and_rates_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "mic").mkdir()
    wavfile.write(tmp_path / "mic" / "1.wav", 8000, tone(440, 8000, 0.5).astype(np.float32))
    wavfile.write(tmp_path / "mic" / "2.wav", 8000, tone(440, 8000, 0.25).astype(np.float32))
    x = read(tmp_path, "mic").arrays["x"]
    assert x.shape == (2, 1, 4000)
    assert not x[1, 0, 2000:].any()
    wavfile.write(tmp_path / "mic" / "3.wav", 16000, tone(440, 16000).astype(np.float32))
    with pytest.raises(DataError, match=r"3\.wav: has 16000 Hz, but 1\.wav has 8000"):
        read(tmp_path, "mic")


@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "float32"])
def test_samples_of_a_wav_file_are_from_minus_one_to_one(kind: str, tmp_path: Path) -> None:
    wave = np.column_stack([tone(300, 8000), tone(300, 8000) / 2])
    if kind == "uint8":
        stored: NDArray[Any] = np.round(wave * 128 + 128).astype(np.uint8)
    elif kind == "float32":
        stored = wave.astype(np.float32)
    else:
        stored = np.round(wave * np.iinfo(kind).max).astype(kind)
    wavfile.write(tmp_path / "a.wav", 8000, stored)
    samples, rate = read_sound(tmp_path / "a.wav")
    assert rate == 8000
    np.testing.assert_allclose(samples, wave.mean(axis=1), atol=5e-3 if kind == "uint8" else 1e-4)


@pytest.mark.parametrize("ending", ["flac", "ogg"])
def test_compressed_sound_is_read_where_soundfile_is(ending: str, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile", reason="soundfile reads .flac and .ogg files")
    wave = tone(440, 16000)
    soundfile.write(tmp_path / f"a.{ending}", wave, 16000)
    samples, rate = read_sound(tmp_path / f"a.{ending}")
    assert rate == 16000
    # FLAC is exact to its 16 bits; Vorbis is not, but the tone is the same.
    assert np.corrcoef(samples, wave)[0, 1] > (0.999999 if ending == "flac" else 0.99)
    (tmp_path / f"b.{ending}").write_bytes(b"no sound")
    with pytest.raises(DataError, match="is no readable sound"):
        read_sound(tmp_path / f"b.{ending}")


def test_a_sound_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF and no more")
    with pytest.raises(DataError, match=r"a\.wav: is no readable \.wav file"):
        read_sound(tmp_path / "a.wav")


@pytest.mark.parametrize("hertz", [300.0, 1000.0, 3500.0])
def test_a_spectrum_s_strongest_band_is_the_tone_s(hertz: float) -> None:
    """Bands are even on the mel scale, so the band follows from the tone alone."""
    values, time = spectrum(tone(hertz, 16000, 1.0).astype(np.float32), 16000)
    mel = 2595 * np.log10(1 + np.array([hertz, 8000.0]) / 700)
    assert set(np.abs(values.argmax(axis=1) - mel[0] / mel[1] * 64).round().tolist()) <= {0.0, 1.0}
    assert values.shape == (98, 64)  # (16000 - 400) // 160 + 1 frames
    np.testing.assert_allclose(time, 0.0125 + 0.01 * np.arange(98))


def test_the_power_of_a_spectrum_is_that_of_the_transform() -> None:
    """All bands together have the power of all bins: each bin is in one band."""
    wave = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    values, _ = spectrum(wave, 8000)
    for frame in (0, 7):
        part = wave[80 * frame : 80 * frame + 200] * np.hanning(200)
        bins = np.abs(np.fft.rfft(part, 256)) ** 2
        assert np.sum(10 ** (values[frame] / 10)) == pytest.approx(bins.sum(), rel=1e-6)


def test_one_long_sound_is_frames_of_a_spectrum_in_time(tmp_path: Path) -> None:
    wavfile.write(tmp_path / "mic.wav", 8000, tone(440, 8000, 1.0).astype(np.float32))
    found = read(tmp_path, "mic")
    assert found.arrays["x"].shape == (98, 64)
    np.testing.assert_allclose(np.diff(found.arrays["time"]), 0.01)
    assert found.notes == ("frames of a spectrum of 1.0 s at 8000 Hz",)

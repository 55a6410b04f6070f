"""The cache of prepared arrays: what is read again, and what is not."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sheafalign_fl.data.preparation import Files, check_faults, prepare
from sheafalign_fl.data.readers import BadFileError, Mended
from sheafalign_fl.errors import DataError


@dataclass(frozen=True)
class Numbers:
    """Reads whitespace-separated numbers; 'bad' and 'odd' are faults, 'nan' is made good."""

    factor: float = 1.0
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32] | Mended:
        try:
            words = " ".join(path.read_text() for path in files).split()
        except FileNotFoundError:
            raise BadFileError("does not exist") from None
        if {"bad", "odd"} & set(words):
            raise BadFileError(f"is {words[0]}", known="odd" in words)
        values = (
            np.array([0.0 if word == "nan" else float(word) for word in words], dtype=np.float32)
            * self.factor
        )
        return Mended(values, "NaN replaced") if "nan" in words else values


def frames_of(folder: Path, texts: Sequence[str]) -> list[Files]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.txt" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return [(path,) for path in paths]


@pytest.fixture
def frames(tmp_path: Path) -> list[Files]:
    return frames_of(tmp_path / "files", [f"{number} {number + 10}" for number in range(6)])


EXPECTED = np.array([[number, number + 10] for number in range(6)], dtype=np.float32)


def entries() -> list[Path]:
    return sorted((Path(os.environ["XDG_CACHE_HOME"]) / "sheafalign-fl").glob("*"))


def test_what_is_in_the_cache_is_not_read_again(frames: list[Files]) -> None:
    first, again = prepare(Numbers(), frames, "x"), prepare(Numbers(), frames, "x")
    assert (first.read, again.read) == (6, 0)
    for found in (first, again):
        np.testing.assert_array_equal(found.x, EXPECTED)
        with pytest.raises(ValueError, match="read-only"):
            found.x[0] = 1
    assert len(entries()) == 1
    assert sorted(path.name for path in entries()[0].iterdir()) == ["index.json", "x.npy"]


def test_without_a_cache_everything_is_read_and_nothing_kept(frames: list[Files]) -> None:
    assert [prepare(Numbers(), frames, "x", cache=False).read for _ in range(2)] == [6, 6]
    assert entries() == []


def test_a_file_that_was_only_touched_is_not_read(frames: list[Files]) -> None:
    prepare(Numbers(), frames, "x")
    os.utime(frames[2][0], (1, 1))
    for _ in range(2):
        found = prepare(Numbers(), frames, "x")
        assert found.read == 0
        np.testing.assert_array_equal(found.x, EXPECTED)


def test_a_file_with_other_content_alone_is_read_even_where_size_and_time_are_as_before(
    frames: list[Files],
) -> None:
    prepare(Numbers(), frames, "x")
    path = frames[3][0]
    status = path.stat()
    path.write_text("7 77")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    found = prepare(Numbers(), frames, "x")
    assert found.read == 1
    np.testing.assert_array_equal(found.x, [*EXPECTED[:3], [7, 77], *EXPECTED[4:]])
    assert prepare(Numbers(), frames, "x").read == 0


@pytest.mark.parametrize("name", ["index.json", "x.npy"])
@pytest.mark.parametrize("content", [None, b"", b"[1, 2]", b"\x93NUMPY\x01\x00"])
def test_a_damaged_entry_is_made_again(
    frames: list[Files], name: str, content: bytes | None
) -> None:
    prepare(Numbers(), frames, "x")
    path = entries()[0] / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    found = prepare(Numbers(), frames, "x")
    assert found.read == 6
    np.testing.assert_array_equal(found.x, EXPECTED)
    assert prepare(Numbers(), frames, "x").read == 0


@pytest.mark.parametrize("shape", [(), (5, 2)])
def test_an_array_of_another_length_is_not_taken(
    frames: list[Files], shape: tuple[int, ...]
) -> None:
    prepare(Numbers(), frames, "x")
    np.save(entries()[0] / "x.npy", np.zeros(shape, dtype=np.float32))
    found = prepare(Numbers(), frames, "x")
    assert found.read == 6
    np.testing.assert_array_equal(found.x, EXPECTED)


def test_a_cache_that_cannot_be_written_is_done_without(frames: list[Files]) -> None:
    Path(os.environ["XDG_CACHE_HOME"]).write_text("a file in the place of the folder")
    for _ in range(2):
        found = prepare(Numbers(), frames, "x")
        assert found.read == 6
        np.testing.assert_array_equal(found.x, EXPECTED)


def test_the_cache_lies_where_the_environment_says(
    frames: list[Files], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        assert prepare(Numbers(), frames, "x").read == 6
        assert len(entries()) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    prepare(Numbers(), frames, "x")
    assert len(list((tmp_path / "home/.cache/sheafalign-fl").iterdir())) == 1


def test_readers_that_differ_have_entries_of_their_own(frames: list[Files]) -> None:
    for reader in (Numbers(), Numbers(factor=2.0), Numbers(version=2)):
        found = prepare(reader, frames, "x")
        assert found.read == 6
        np.testing.assert_array_equal(found.x, EXPECTED * reader.factor)
    assert prepare(Numbers(), frames[:5], "x").read == 5
    assert len(entries()) == 4


def test_faults_are_remembered_until_a_file_is_mended(tmp_path: Path) -> None:
    frames = frames_of(tmp_path / "files", ["1 2", "bad", "odd", "nan 4", "5 6"])
    (frames[4][0]).unlink()
    for read in (5, 0):
        found = prepare(Numbers(), frames, "x")
        assert found.read == read
        assert {row: (fault.reason, fault.known) for row, fault in found.faults.items()} == {
            1: ("is bad", False), 2: ("is odd", True), 4: ("does not exist", False),
        }  # fmt: skip
        assert {row: fault.file for row, fault in found.faults.items()} == {
            k: str(frames[k][0]) for k in (1, 2, 4)
        }
        assert found.mended == {3: "NaN replaced"}
        np.testing.assert_array_equal(found.x, [[1, 2], [0, 0], [0, 0], [0, 4], [0, 0]])
    frames[1][0].write_text("8 9")
    frames[4][0].write_text("5 6")
    found = prepare(Numbers(), frames, "x")
    assert found.read == 2
    assert list(found.faults) == [2]
    np.testing.assert_array_equal(found.x, [[1, 2], [8, 9], [0, 0], [0, 4], [5, 6]])
    frames[0][0].write_text("bad")
    found = prepare(Numbers(), frames, "x")
    assert (found.read, sorted(found.faults)) == (1, [0, 2])
    np.testing.assert_array_equal(found.x[0], [0, 0])


def test_what_is_left_out_is_counted_and_what_is_not_known_stops(tmp_path: Path) -> None:
    frames = frames_of(tmp_path / "files", ["1 2", "bad", "odd", "nan 4", "bad"])
    found, where = prepare(Numbers(), frames, "x"), [f"table row {row}" for row in range(5)]
    with pytest.raises(DataError, match=r"table row 1: x: .*1\.txt is bad \(and 1 more\)"):
        check_faults(found, where, "x", "stop")
    notes = check_faults(found, where, "x", "drop")
    assert notes[0] == "NaN replaced in 1 of 5 frames"
    assert notes[1].startswith(
        "1 of 5 frames left out, a known fault of this data (first: table row 2: 2.txt is odd"
    )
    assert notes[2].startswith(
        "2 of 5 frames left out, bad files (first: table row 1: 1.txt is bad"
    )


def test_frames_of_another_shape_than_most_are_faults(tmp_path: Path) -> None:
    frames = frames_of(tmp_path / "files", ["1 2", "1 2 3", "3 4", "5 6"])
    for read in (4, 0):
        found = prepare(Numbers(), frames, "x")
        assert found.read == read
        assert found.faults[1].reason == "gives an array of shape (3,), but most give (2,)"
        np.testing.assert_array_equal(found.x, [[1, 2], [0, 0], [3, 4], [5, 6]])


def test_what_most_frames_are_like_does_not_depend_on_what_was_there_before(tmp_path: Path) -> None:
    frames = frames_of(tmp_path / "files", ["1 2", "1 2 3", "3 4", "5 6"])
    prepare(Numbers(), frames, "x")
    for row in (2, 3):
        frames[row][0].write_text("7 8 9")
    cached, fresh = prepare(Numbers(), frames, "x"), prepare(Numbers(), frames, "x", cache=False)
    np.testing.assert_array_equal(cached.x, fresh.x)
    assert cached.faults == fresh.faults
    assert list(fresh.faults) == [0]
    assert prepare(Numbers(), frames, "x").read == 0


@pytest.mark.parametrize("before", [True, False])
def test_not_one_good_frame_is_an_error(tmp_path: Path, before: bool) -> None:
    frames = frames_of(tmp_path / "files", ["1 2", "3 4"])
    if before:
        prepare(Numbers(), frames, "x")
    for (path,) in frames:
        path.write_text("bad")
    for _ in range(2):
        with pytest.raises(DataError, match=r"0\.txt: is bad; not one of 2 frames could be read"):
            prepare(Numbers(), frames, "x")


def test_many_frames_of_several_files_are_as_a_slow_loop_reads_them(tmp_path: Path) -> None:
    texts = [f"{number} {number * number}" for number in range(301)]
    singles = [path for (path,) in frames_of(tmp_path / "files", texts)]
    frames: list[Files] = list(pairwise(singles))
    found = prepare(Numbers(), frames, "x")
    slow = np.stack([np.asarray(Numbers()(*files)) for files in frames])
    np.testing.assert_array_equal(found.x, slow)
    singles[100].write_text("0 0")
    assert prepare(Numbers(), frames, "x").read == 2

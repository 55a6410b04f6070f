"""A relay hands out a run's files: what a submitter takes of them, and where it puts it."""

import json
from pathlib import Path
from typing import Any

import pytest

from sheafalign_fl.engines.mirror import FILES, MOST_BYTES, PREFIX, Mirror
from sheafalign_fl.errors import RunError


class FakeRelay:
    """Answers from a folder, and counts what it has answered."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.listed, self.asked = folder, None, list[str]()
        folder.mkdir()

    def get(self, path: str, most: int) -> bytes:
        self.asked.append(path)
        name = path.removeprefix(f"{PREFIX}17").lstrip("/")
        if not name:
            sizes = {each.name: each.stat().st_size for each in self.folder.iterdir()}
            return json.dumps(self.listed or sizes).encode()
        name, _, offset = name.partition("?offset=")
        return (self.folder / name).read_bytes()[int(offset or 0) :][:most]


@pytest.fixture
def relay(tmp_path: Path) -> FakeRelay:
    return FakeRelay(tmp_path / "relay")


def mirror(relay: Any, tmp_path: Path) -> Mirror:
    (tmp_path / "copy").mkdir(exist_ok=True)
    return Mirror(relay, "17", tmp_path / "copy")


def test_growing_files_are_fetched_from_where_they_were(relay: FakeRelay, tmp_path: Path) -> None:
    for text in ("one\n", "one\ntwo\n", "one\ntwo\n", "less\n"):
        (relay.folder / "metrics.jsonl").write_text(text)
        (relay.folder / "status.json").write_text(json.dumps({"state": text}))
        mirror(relay, tmp_path).refresh()
        assert (tmp_path / "copy" / "metrics.jsonl").read_text() == text
        assert json.loads((tmp_path / "copy" / "status.json").read_text()) == {"state": text}
    asked = [path.partition("metrics.jsonl")[2] for path in relay.asked if "metrics" in path]
    assert asked == ["?offset=0", "?offset=4", "?offset=0"]


def test_names_of_a_lying_relay_are_no_paths_here(relay: FakeRelay, tmp_path: Path) -> None:
    wrong = {"../up": 1, "/etc/x": 1, "checkpoints": 1, "identity": 1, ".lock": 1, "a": 1}
    relay.listed = wrong  # type: ignore[assignment]
    mirror(relay, tmp_path).refresh()
    assert list((tmp_path / "copy").iterdir()) == []
    assert len(relay.asked) == 1


def test_a_file_without_end_is_not_fetched(relay: FakeRelay, tmp_path: Path) -> None:
    relay.listed = {"summary.json": MOST_BYTES + 1}  # type: ignore[assignment]
    with pytest.raises(RunError, match="no more than"):
        mirror(relay, tmp_path).refresh()


@pytest.mark.parametrize("content", ["", "[]", "1", "{", "[" * 100_000])
def test_what_is_no_object_is_not_kept(content: str, relay: FakeRelay, tmp_path: Path) -> None:
    (relay.folder / "status.json").write_text(content or " ")
    with pytest.raises(RunError, match=r"damaged status\.json"):
        mirror(relay, tmp_path).refresh()
    assert list((tmp_path / "copy").iterdir()) == []


def test_a_folder_is_the_relay_s_own_by_its_identity(relay: FakeRelay, tmp_path: Path) -> None:
    made = mirror(relay, tmp_path)
    (tmp_path / "copy" / "identity").write_text("a")
    assert not made.same_place()
    (relay.folder / "identity").write_text("b")
    assert not made.same_place()
    made.refresh()
    assert not made.same_place()
    (relay.folder / "identity").write_text("a")
    assert made.same_place()


def test_checkpoints_are_not_among_what_is_fetched() -> None:
    assert not [name for name in FILES if "/" in name or "checkpoint" in name]

"""`sheafalign status`: what is shown of a run that is being written, read on and not again."""

import json
from pathlib import Path
from typing import Any

import pytest

from sheafalign_fl.deploy.status import RunView
from sheafalign_fl.errors import UserError
from sheafalign_fl.files import Tail
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.ledger import COLUMNS
from tests.conftest import toy_settings


def test_a_tail_returns_whole_lines_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(path)
    assert tail.lines() == ([], False)
    path.write_bytes(b"one\ntw")
    assert tail.lines() == ([b"one\n"], False)
    assert tail.lines() == ([], False)
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    assert tail.lines() == ([b"two\n", b"three\n"], False)
    path.write_bytes(b"1\n")
    assert tail.lines() == ([b"1\n"], True)
    path.unlink()
    assert tail.lines() == ([], True)


def exchange(number: int) -> dict[str, Any]:
    return {"kind": "exchange", "exchange": number, "seconds": 1.0 + number, "absent": []}


def ledger(number: int) -> str:
    values: dict[str, object] = {
        "exchange": number, "source": "m0", "destination": "m1", "purpose": "train",
        "codec": "float32", "events": 4, "dim": 2, "payload_bytes": 32,
        "message_bytes": 40 + number, "relay_bytes": 90 + number,
    }  # fmt: skip
    return ",".join(str(values[name]) for name in COLUMNS) + "\n"


def test_a_view_reads_on_and_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(toy_settings())
    view = RunView(folder)
    view.refresh()
    assert (view.exchanges, dict(view.up)) == (0, {})
    folder.ledger.write_text(",".join(COLUMNS) + "\n")
    read: list[int] = []
    monkeypatch.setattr("sheafalign_fl.deploy.status.json.loads", counted(read))
    for number in range(30):
        with folder.metrics.open("a") as file:
            file.write(json.dumps(exchange(number)) + "\n")
        with folder.ledger.open("a") as file:
            file.write(ledger(number))
        view.refresh()
        assert len(read) == number + 1  # every row once, and not all of them at every look
    assert view.exchanges == 30
    assert list(view.seconds) == [1.0 + number for number in range(10, 30)]
    assert view.up["m0"] == sum(40 + number for number in range(30))
    assert view.down["m1"] == 30 * 50


def test_a_run_that_is_resumed_is_counted_anew(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(toy_settings())
    folder.metrics.write_text("".join(json.dumps(exchange(n)) + "\n" for n in range(9)))
    folder.ledger.write_text(",".join(COLUMNS) + "\n" + "".join(map(ledger, range(9))))
    view = RunView(folder)
    view.refresh()
    folder.metrics.write_text(json.dumps(exchange(0)) + "\n")
    folder.ledger.write_text(",".join(COLUMNS) + "\n" + ledger(0))
    view.refresh()
    assert (view.exchanges, view.up["m0"], view.down["m1"]) == (1, 40, 50)


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        RunView(RunFolder(tmp_path))


def counted(read: list[int]) -> Any:
    real = json.loads

    def loads(text: Any) -> Any:
        if b'"exchange"' in (text if isinstance(text, bytes) else text.encode()):
            read.append(1)
        return real(text)

    return loads

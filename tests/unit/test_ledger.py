"""The ledger adds up, and its file can be cut, reopened and refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.errors import DataError
from sheafalign_fl.ledger import COLUMNS, Ledger, LedgerRow, Totals, read_ledger, truncate_ledger
from sheafalign_fl.protocol import PURPOSES


@st.composite
def rows(draw: st.DrawFn) -> LedgerRow:
    payload, framing, down = (draw(st.integers(0, 10**9)) for _ in range(3))
    return LedgerRow(
        draw(st.integers(0, 999)),
        draw(st.sampled_from(["a", "b,c", 'd"e', "relay"])),
        draw(st.sampled_from(["x", "y"])),
        draw(st.sampled_from(PURPOSES)),
        "float32",
        draw(st.integers(0, 99)),
        draw(st.integers(0, 99)),
        payload,
        payload + framing,
        payload + framing + down,
    )


@given(st.lists(rows(), max_size=30))
@settings(deadline=None, max_examples=40)
def test_totals_equal_a_slow_count(given_rows: list[LedgerRow]) -> None:
    ledger = Ledger()
    ledger.record(given_rows)
    for purpose in PURPOSES:
        chosen = [row for row in given_rows if row.purpose == purpose]
        assert ledger.totals(purpose) == Totals(
            sum(row.payload_bytes for row in chosen),
            sum(row.message_bytes for row in chosen),
            sum(row.relay_bytes for row in chosen),
        )
    for edge in ledger.edges():
        key = (edge.source, edge.target, edge.purpose)
        chosen = [r for r in given_rows if (r.source, r.destination, r.purpose) == key]
        assert edge.messages == len(chosen)
        assert edge.events == sum(row.events for row in chosen)
        assert edge.relay_bytes == sum(row.relay_bytes for row in chosen)


def row(exchange: int = 0, **changes: Any) -> LedgerRow:
    fields = {"payload_bytes": 4, "message_bytes": 5, "relay_bytes": 9, **changes}
    return LedgerRow(exchange, "a", "b", "train", "float32", 1, 1, **fields)


def test_what_is_written_is_read_back_and_goes_on_counting(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    first = Ledger(path)
    first.record([row(0), row(1)])
    first.close()
    size = path.stat().st_size
    second = Ledger(path)
    second.record([row(2)])
    second.close()
    assert second.totals("train") == Totals(12, 15, 27)
    assert list(read_ledger(path)) == [row(0), row(1), row(2)]
    truncate_ledger(path, size)
    assert list(read_ledger(path)) == [row(0), row(1)]
    with pytest.raises(DataError, match="shorter"):
        truncate_ledger(path, size + 1)


@pytest.mark.parametrize(
    "changes", [{"payload_bytes": -1}, {"payload_bytes": 6}, {"relay_bytes": 4}, {"message_bytes": 3}]
)
def test_impossible_rows_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"negative|does not hold"):
        row(**changes)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", ",".join(COLUMNS) + "\n0,a,b,train,float32,one,1,4,5,9\n", ""])
def test_a_file_that_is_no_ledger_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"ledger\.csv"):
        Ledger(path)

"""The ledger: totals recounted by other means, reopening, cutting, and every kind of damage."""

import csv
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.errors import DataError
from sheafalign_fl.protocol.verbs import PURPOSES
from sheafalign_fl.runs.ledger import (
    COLUMNS,
    Ledger,
    LedgerRow,
    Totals,
    read_ledger,
    truncate_ledger,
)

HEADER = ",".join(COLUMNS) + "\n"
COUNTED = ("payload_bytes", "message_bytes", "relay_bytes")
clients = st.sampled_from(["a", "b,c", 'd"e"', "ü f", "relay", " g", "'", "evaluator"])


@st.composite
def rows(draw: st.DrawFn) -> LedgerRow:
    payload, framing, down = (draw(st.integers(0, 10**12)) for _ in range(3))
    numbers = payload, payload + framing, payload + framing + down
    shape = draw(st.integers(0, 10**6)), draw(st.integers(0, 999))
    purpose = draw(st.sampled_from(PURPOSES))
    return LedgerRow(
        draw(st.integers(0, 10**6)),
        draw(clients),
        draw(clients),
        purpose,
        "float16",
        *shape,
        *numbers,
    )


def recount(path: Path) -> tuple[dict[str, Totals], dict[tuple[str, str, str], list[int]]]:
    """Count the CSV again with a reader that knows nothing of the ledger."""
    totals = {purpose: [0, 0, 0] for purpose in PURPOSES}
    edges: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            numbers = [int(row[name]) for name in COUNTED]
            for position, number in enumerate(numbers):
                totals[row["purpose"]][position] += number  # type: ignore[index]
            counts = edges[row["source"], row["destination"], row["purpose"]]
            for position, number in enumerate([1, int(row["events"]), *numbers]):
                counts[position] += number
    return {purpose: Totals(*numbers) for purpose, numbers in totals.items()}, dict(edges)


@given(sessions=st.lists(st.lists(rows(), max_size=6), max_size=5))
@settings(deadline=None, max_examples=40)
def test_totals_equal_a_recount_of_the_file_however_often_it_is_reopened(
    sessions: list[list[LedgerRow]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.csv"
    for session in [*sessions, []]:
        ledger = Ledger(path)
        ledger.record(session)
        ledger.close()
    totals, edges = recount(path)
    assert {purpose: ledger.totals(purpose) for purpose in PURPOSES} == totals
    found = {
        (edge.source, edge.target, edge.purpose): [
            edge.messages, edge.events, edge.payload_bytes, edge.message_bytes, edge.relay_bytes
        ]
        for edge in ledger.edges()
    }  # fmt: skip
    assert found == edges
    assert list(found) == list(edges)  # in order of first use
    assert list(read_ledger(path)) == [row for session in sessions for row in session]
    memory = Ledger()
    memory.record(row for session in sessions for row in session)
    assert memory.edges() == ledger.edges()


def row(exchange: int, **changes: int) -> LedgerRow:
    numbers = {"payload_bytes": 40, "message_bytes": 50, "relay_bytes": 90, **changes}
    return LedgerRow(exchange, "a", "ü", "train", "float32", 10, 1, **numbers)


@pytest.mark.parametrize("name", ["exchange", "events", "dim", *COUNTED])
def test_a_negative_number_is_refused(name: str) -> None:
    fields: dict[str, int] = {
        "exchange": 0,
        "events": 1,
        "dim": 1,
        "payload_bytes": 0,
        "message_bytes": 0,
    }
    with pytest.raises(ValueError, match=rf"{name}.* -1|does not hold"):
        LedgerRow(
            source="a",
            destination="b",
            purpose="train",
            codec="",
            **{**fields, "relay_bytes": 0, name: -1},
        )


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
@settings(deadline=None)
def test_a_row_is_taken_if_and_only_if_its_sizes_nest(
    payload: int, message: int, relay: int
) -> None:
    sizes = {"payload_bytes": payload, "message_bytes": message, "relay_bytes": relay}
    if payload <= message and message <= relay:
        assert row(0, **sizes).relay_bytes == relay
    else:
        with pytest.raises(ValueError, match="does not hold"):
            row(0, **sizes)


def written(path: Path, count: int) -> list[int]:
    """Write `count` rows, one by one; return the file's size before the first and after each."""
    ledger = Ledger(path)
    sizes = [path.stat().st_size]
    for exchange in range(count):
        ledger.record([row(exchange, relay_bytes=900 + exchange)])
        sizes.append(path.stat().st_size)
    ledger.close()
    return sizes


def test_rows_are_in_the_file_as_soon_as_they_are_recorded(tmp_path: Path) -> None:
    sizes = written(tmp_path / "ledger.csv", 3)
    assert sizes[0] == len(HEADER)
    assert sizes == sorted(set(sizes))


def test_cutting_back_to_a_checkpoint_leaves_the_rows_before_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    sizes = written(path, 5)
    for kept in (5, 3, 3, 0):
        truncate_ledger(path, sizes[kept])
        assert [found.exchange for found in read_ledger(path)] == list(range(kept))
        reopened = Ledger(path)
        assert reopened.totals("train").payload_bytes == 40 * kept
        reopened.close()
    with pytest.raises(DataError, match="shorter than the checkpoint says"):
        truncate_ledger(path, sizes[1])
    with pytest.raises(DataError, match="shorter than the checkpoint says"):
        truncate_ledger(tmp_path / "absent.csv", 0)
    assert path.stat().st_size == sizes[0]


# ---- damage --------------------------------------------------------------------------------------

GOOD = "3,a,b,train,float32,1,1,4,5,9"


def read(path: Path, content: bytes) -> Ledger:
    path.write_bytes(content)
    return Ledger(path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n",
        "nonsense",
        GOOD + "\n",
        HEADER.replace("dim", "dimension") + GOOD + "\n",
        HEADER.replace("\n", ",more\n") + GOOD + ",1\n",
        HEADER + "\n",
        HEADER + GOOD + ",7\n",
        HEADER + GOOD.rpartition(",")[0] + "\n",
        HEADER + GOOD.replace(",1,", ",one,") + "\n",
        HEADER + GOOD.replace(",4,", ",4.0,") + "\n",
        HEADER + GOOD.replace(",4,", ",-4,") + "\n",
        HEADER + GOOD.replace(",4,", ",6,") + "\n",
        HEADER + GOOD.replace("3,", "x,") + "\n",
        HEADER + GOOD + "\n" + GOOD[:-4] + "\n",
    ],
)
def test_a_damaged_file_is_refused_and_named(content: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ledger\.csv"):
        read(tmp_path / "ledger.csv", content.encode())


def test_the_line_of_the_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3: not a ledger row"):
        read(tmp_path / "ledger.csv", f"{HEADER}{GOOD}\n{GOOD},\n{GOOD}\n".encode())


@pytest.mark.parametrize(
    "content",
    [
        HEADER.encode() + GOOD.replace("train", "training").encode() + b"\n",
        HEADER.encode() + b"3,\xff" + GOOD[3:].encode() + b"\n",
    ],
    ids=["unknown purpose", "no text"],
)
def test_a_row_that_holds_what_no_row_can_hold_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ledger\.csv"):
        read(tmp_path / "ledger.csv", content)


def test_a_last_row_that_was_cut_short_is_left_out_wherever_it_was_cut(tmp_path: Path) -> None:
    """A number of which only the first digits were written is not that number."""
    path = tmp_path / "ledger.csv"
    _, before, whole = written(path, 2)
    content = path.read_bytes()
    for size in range(before, whole):
        path.write_bytes(content[:size])
        assert [found.exchange for found in read_ledger(path)] == [0], content[before:size]
        reopened = Ledger(path)
        assert reopened.totals("train").relay_bytes == 900
        reopened.record([row(1, relay_bytes=901)])
        reopened.close()
        assert path.read_bytes() == content


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_whatever_byte_is_changed_the_file_is_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = f"{HEADER}{GOOD}\n{GOOD}\n".encode()
    position = data.draw(st.integers(0, len(whole) - 1))
    changed = (
        whole[:position] + data.draw(st.binary(min_size=1, max_size=1)) + whole[position + 1 :]
    )
    with suppress(DataError):
        read(tmp_path_factory.getbasetemp() / "damaged.csv", changed).close()

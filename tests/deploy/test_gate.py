"""The guard before Flower's SuperLink, alone: who passes, and with how much."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheafalign_fl.deploy.members import is_local
from sheafalign_fl.deploy.run_files import names_run_file
from sheafalign_fl.engines.mirror import FILES, PREFIX
from sheafalign_fl.flower import gate
from sheafalign_fl.flower.gate import CONTROL, FLEET, KNOWN, STRANGER, Allowance, Doors, Gate


def scope(path: bytes, method: str = "POST", **more: Any) -> dict[str, Any]:
    decoded = path.decode("latin-1")
    return {
        "type": "http", "method": method, "path": decoded, "raw_path": path, "query_string": b"",
        "headers": [], **more,
    }  # fmt: skip


def doors(*, operator: bool = False, node: bool = False) -> Doors:
    return Doors(lambda _: operator, lambda _: node, names_run_file, lambda _: False)


def ask(
    path: bytes, who: Doors, parts: tuple[bytes, ...] = (b"",), pause: float = 0.0, **more: Any
) -> tuple[int, bytes | None]:
    """Return the status of the answer, and the body that came through, None if none did.

    There is a `pause` before each part.
    """
    seen: list[bytes] = []
    sent: list[Any] = []
    left = [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1}
        for index, part in enumerate(parts)
    ]

    async def application(_: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        if not left:
            await asyncio.Event().wait()
        await asyncio.sleep(pause)
        return left.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Gate(application, who)(scope(path, **more), receive, send))
    return sent[0]["status"], seen[0] if seen else None


@given(st.one_of(st.binary(max_size=60), st.sampled_from(sorted(FLEET | CONTROL)).map(bytes.upper)))
def test_any_other_path_is_refused_to_everybody(path: bytes) -> None:
    if path not in FLEET | CONTROL:
        assert ask(path, doors(operator=True, node=True)) == (403, None)


@pytest.mark.parametrize("path", sorted(CONTROL))
def test_operators_alone_control(path: bytes) -> None:
    assert ask(path, doors(operator=True)) == (200, b"")
    assert ask(path, doors(node=True)) == (403, None)
    assert ask(path, doors(operator=True), method="GET") == (403, None)


def test_a_path_that_is_decoded_to_a_good_one_is_not_it() -> None:
    coded = scope(b"/v1/%63ontrol/list-runs") | {"path": "/v1/control/list-runs"}
    assert doors(operator=True).allowance(coded) is None


def test_a_body_passes_whole_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "STRANGER", Allowance(10, 60.0))
    path = b"/v1/fleet/push-object"
    assert ask(path, doors(), (b"12345", b"", b"67890")) == (200, b"1234567890")
    assert ask(path, doors(), (b"12345", b"678901")) == (413, None)
    for stated in (b"11", b"-1", b"x", b"1" * 30):
        assert ask(path, doors(), headers=[(b"content-length", stated)]) == (413, None)
    assert ask(path, doors(node=True), (b"12345", b"678901"))[0] == 200


def test_a_body_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "STRANGER", Allowance(10, 0.01))
    assert ask(b"/v1/fleet/push-object", doors(), ()) == (408, None)


def test_a_body_that_trickles_is_not_waited_for_beyond_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each part comes well within the pause; all of them would take 20 s."""
    path, parts = b"/v1/fleet/push-object", (b"x",) * 2000
    monkeypatch.setattr(gate, "STRANGER", Allowance(10_000, 60.0, 0.1))
    assert ask(path, doors(), parts, pause=0.01) == (408, None)
    assert ask(path, doors(node=True), parts[:20], pause=0.01) == (200, b"x" * 20)


def test_known_callers_may_send_more_than_strangers() -> None:
    assert STRANGER.body_bytes < KNOWN.body_bytes
    assert STRANGER.seconds is not None
    assert KNOWN.seconds is None


@pytest.mark.parametrize("name", sorted(FILES))
def test_results_are_for_operators(name: str) -> None:
    path = f"{PREFIX}17/{name}".encode()
    assert ask(path, doors(operator=True), method="GET") == (200, b"")
    assert ask(path, doors(node=True), method="GET") == (403, None)


@pytest.mark.parametrize(
    "path",
    [
        "17/checkpoints", "17/../config.yaml", "17/%2e%2e/config.yaml", "17/submission.json",
        "../17", "17/", "-1", "x", "17/config.yaml/", "999999999999999999999999", "17//config.yaml",
    ],
)  # fmt: skip
def test_no_other_file_of_a_run_is_answered(path: str) -> None:
    asked = f"{PREFIX}{path}".encode()
    assert ask(asked, doors(operator=True, node=True), method="GET") == (403, None)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False), ("::ffff:10.0.0.1", False), ("0.0.0.0", False), ("fe80::1", False),
    ],
)  # fmt: skip
def test_this_machine_is_known_by_its_loopback_address(host: str, local: bool) -> None:
    assert is_local({"client": (host, 1)}) is local
    assert not is_local({"client": None})

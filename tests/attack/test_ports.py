"""An outsider reaches the relay's port: nothing is its to ask, however it is spelled."""

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from flwr.common.constant import FLWR_TASK_TOKEN_LENGTH

from sheafalign_fl.deploy.certificates import Authority
from sheafalign_fl.flower.address import Address
from tests.system.command import ROOT, free_port
from tests.system.deployment import SECONDS, Deployment, deployment, quiet
from tests.system.namespaces import Machine, machines, permitted

pytestmark = pytest.mark.slow
TOKEN = 2 * FLWR_TASK_TOKEN_LENGTH
"""Digits of a token, in hex."""
REFUSED = {400, 403}
"""400: a server that takes such a request for none at all."""


def far_away(machine: Machine | None, module: str, *words: str, **given: Any) -> str:
    """Run a module of the tests on a machine and return what it printed."""
    prefix = machine.prefix() if machine is not None else []
    done = subprocess.run(
        [*prefix, sys.executable, "-m", module, *words], cwd=ROOT, env=quiet(), check=False,
        capture_output=True, text=True, timeout=SECONDS, **given,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed: str = done.stdout
    return printed


class Besieged(Deployment):
    """A deployment whose relay is in a network namespace."""

    def __init__(self, folder: Path, home: Machine, guests: dict[str, Machine]) -> None:
        super().__init__(folder, ["m0", "m1"], secure=False)
        self.secure, self._home, self.guests = True, home, guests
        hosts = [word for guest in guests.values() for word in ("--host", guest.relay_address)]
        for name in ("keys", "foreign"):
            done = self.command("keys", "init", name, "--clients", "m0,m1", *hosts)
            assert done.returncode == 0, done.stderr

    def start(self, name: str, *words: str) -> Any:
        more = ("--host", "0.0.0.0") if name == "relay" else ()
        return self.start_with(self._home.prefix(), name, *words, *more)

    def operator(self, keys: str, *words: str) -> str:
        """Return what an operator on another machine got."""
        guest = self.guests["operator"]
        where = str(self.folder / keys / "operators" / "operator")
        address = f"{guest.relay_address}:{self.port}"
        return far_away(guest, "tests.attack.operator", address, where, *words)

    def hold(self) -> "subprocess.Popen[str]":
        """Return an operator who keeps a connection."""
        guest = self.guests["operator"]
        where = str(self.folder / "keys" / "operators" / "operator")
        words = ["tests.attack.operator", f"{guest.relay_address}:{self.port}", where, "hold"]
        return subprocess.Popen(
            [*guest.prefix(), sys.executable, "-m", *words], cwd=ROOT, env=quiet(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    """Return a running relay, an outsider's machine and an operator's."""
    if (reason := permitted()) is not None:
        pytest.skip(reason)
    with machines(["outsider", "operator"]) as (home, guests):
        made = Besieged(tmp_path_factory.mktemp("besieged"), home, guests)
        try:
            made.relay()
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def answered(besieged: Besieged) -> dict[str, dict[str, list[int]]]:
    """Return what the outsider was answered."""
    guest = besieged.guests["outsider"]
    words = (guest.relay_address, str(besieged.port), "tls")
    found: dict[str, dict[str, list[int]]] = json.loads(
        far_away(guest, "tests.attack.outsider", *words)
    )
    return found


def test_every_api_but_the_nodes_is_forbidden(answered: dict[str, dict[str, list[int]]]) -> None:
    assert len(answered["apis"]) > 60
    assert {name: found for name, found in answered["apis"].items() if found != [403]} == {}


def test_no_spelling_of_a_path_passes(answered: dict[str, dict[str, list[int]]]) -> None:
    asked = answered["spellings"] | answered["protocols"]
    # A second request on one connection is a request like any other.
    harmless = {"length and chunks": [401, 403], "pipelined": [401, 403]}
    assert {name: asked.pop(name) for name in harmless} == harmless
    let_in = {name: found for name, found in asked.items() if not found or set(found) - REFUSED}
    assert let_in == {}


def test_a_node_that_nobody_knows_can_do_nothing(
    answered: dict[str, dict[str, list[int]]],
) -> None:
    asked = answered["node calls"]
    large = {name: asked.pop(name) for name in ("64 KiB and a byte", "a length stated", "chunks")}
    assert large.pop("a length stated") == [413]
    # The relay hangs up on a body that it does not read: the reset may overtake its answer.
    assert set(map(tuple, large.values())) <= {(413,), ()}
    assert set(map(tuple, asked.values())) == {(401,)}


def test_an_operator_far_away_submits_lists_and_stops(besieged: Besieged) -> None:
    run = json.loads(besieged.operator("keys", "submit", "far"))
    assert run in json.loads(besieged.operator("keys", "list"))
    until(lambda: "sheafalign_fl.flower.task" in " ".join(command_lines(besieged)))
    assert [line for line in command_lines(besieged) if tells_a_token(line)] == []
    assert json.loads(besieged.operator("keys", "stop", run)) is None
    until(
        lambda: json.loads(besieged.operator("keys", "list"))[run] == "finished:stopped",
    )


def test_a_certificate_of_another_authority_is_none(besieged: Besieged) -> None:
    there = besieged.folder
    (there / "foreign/operators/operator/ca.crt").write_bytes(
        (there / "keys/ca/ca.crt").read_bytes()
    )
    told = besieged.operator("foreign", "list")
    assert told.startswith("refused: ")
    assert "hangs up on certificates of another authority" in told


def test_a_revoked_operator_is_out_at_once_on_an_old_connection_too(besieged: Besieged) -> None:
    holder = besieged.hold()
    try:
        assert ask(holder).startswith("{")
        revoke_operator(besieged.folder / "keys")
        until(lambda: ask(holder).startswith("refused: "))
        assert "that has not been revoked" in besieged.operator("keys", "list")
    finally:
        holder.kill()
        holder.wait()


def test_the_same_requests_get_through_where_nobody_stands_guard(tmp_path: Path) -> None:
    """Flower's own SuperLink, as it was used before: the attack is a real one."""
    port = free_port()
    words = ["--insecure", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        program = str(Path(sys.executable).parent / "flower-superlink")
        environment = quiet() | {"PATH": str(Path(sys.executable).parent)}
        process = subprocess.Popen([program, *words], stdout=log, stderr=log, env=environment)
    try:
        until(lambda: Address("127.0.0.1", port).answers())
        found = json.loads(far_away(None, "tests.attack.outsider", "127.0.0.1", str(port), "plain"))
    finally:
        process.terminate()
        process.wait(timeout=SECONDS)
    for name in ("list", "POST /v1/runtime/acquire-task", "POST /v1/control/list-nodes"):
        assert found["apis"][name] == [200]
    assert found["apis"]["submit"] != [403]
    assert found["spellings"]["target /v1/%63ontrol/list-runs"] == [200]
    assert found["protocols"]["pipelined"][1] == 200


def test_an_insecure_relay_is_for_one_machine(tmp_path: Path) -> None:
    with deployment(tmp_path / "here", ["m0", "m1"], secure=False) as made:
        done = made.command("relay", "--insecure", "--host", "0.0.0.0", "--state", "s")
        assert done.returncode == 2
        assert "can be reached from others" in " ".join(done.stderr.split())
        made.relay()
        found = json.loads(
            far_away(None, "tests.attack.outsider", "127.0.0.1", str(made.port), "plain")
        )
        assert found["apis"]["POST /v1/runtime/acquire-task"] == [403]
        assert found["apis"]["POST /v1/control/register-node"] == [403]
        assert found["apis"]["list"] == [200]  # whoever is on this machine


def ask(holder: "subprocess.Popen[str]") -> str:
    """Let an operator list the runs again."""
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    return holder.stdout.readline()


def until(true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    limit = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.2)


def command_lines(made: Deployment) -> list[str]:
    """Return the command lines of all of a relay's processes."""
    found = []
    for process in psutil.Process(made.processes["relay"].pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(process.cmdline()))
    return found


def tells_a_token(line: str) -> bool:
    """Return whether a command line holds what may be a token of Flower's."""
    return "--token" in line or re.search(rf"\b[0-9a-f]{{{TOKEN}}}\b", line) is not None


def revoke_operator(keys: Path) -> None:
    """Take the operator's certificate back, as who holds the authority's key can."""
    key: Any = load_pem_private_key((keys / "ca" / "ca.key").read_bytes(), None)
    root = x509.load_pem_x509_certificate((keys / "ca" / "ca.crt").read_bytes())
    own = x509.load_pem_x509_certificate((keys / "operators/operator/operator.crt").read_bytes())
    revoked = Authority(key, root).sign_revocations([own.serial_number])
    (keys / "relay" / "revoked.crl").write_bytes(revoked.public_bytes(Encoding.PEM))

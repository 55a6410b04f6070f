"""`sheafalign doctor` against machines with one thing wrong each, and a relay's real TLS port."""

import shutil
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sheafalign_fl.cli import app
from sheafalign_fl.deploy import doctor
from sheafalign_fl.deploy.changing import renew
from sheafalign_fl.deploy.doctor import FAILURE, OK, WARNING, Finding, Patient, examine
from sheafalign_fl.deploy.issuing import init_keys
from sheafalign_fl.flower.address import Address


@contextmanager
def port(keys: Path | None, ahead: float = 0.0) -> Iterator[Address]:
    """Answer 403 as a relay does, with its certificate and a clock that is `ahead` seconds."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(403)
            self.send_header("date", self.date_time_string(time.time() + ahead))
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Answers)
    if keys is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(keys / "relay" / "relay.crt", keys / "relay" / "relay.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Address("127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def about(findings: list[Finding], name: str) -> Finding:
    (found,) = [each for each in findings if each.about == name]
    return found


def client(keys: Path) -> Path:
    return keys / "clients" / "camera"


def test_a_machine_that_is_well_has_nothing_to_mend(keys: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    with port(keys) as relay:
        found = examine(Patient(state, relay, client(keys)))
    assert {each.state for each in found if each.about != "disk"} == {OK}
    assert "127.0.0.1" in about(found, "relay's names").found


@pytest.mark.parametrize(
    ("ahead", "state", "said"),
    [
        (0.0, OK, "within 2 s"),
        (-60.0, FAILURE, "ahead of the relay's: the relay refuses"),
        (60.0, WARNING, "behind the relay's"),
        (4000.0, FAILURE, "behind the relay's: the relay refuses"),
    ],
)
def test_the_clock_is_held_against_the_relays(
    keys: Path, tmp_path: Path, ahead: float, state: str, said: str
) -> None:
    with port(keys, ahead) as relay:
        found = about(examine(Patient(tmp_path, relay, client(keys))), "clock")
    assert found.state == state
    assert said in found.found


def test_a_name_that_the_certificate_lacks_is_shown_with_those_it_has(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getaddrinfo", _to_loopback)
    with port(keys) as relay:
        elsewhere = Address("relay.example", relay.port)
        found = examine(Patient(tmp_path, elsewhere, client(keys)))
    assert "Hostname mismatch" in about(found, "relay").found
    names = about(found, "relay's names")
    assert names.state == FAILURE
    assert "localhost" in names.found
    assert "relay.example" in names.cure


def _to_loopback(host: object, port: int, *_: object, **__: object) -> list[object]:
    import socket

    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


def test_another_authority_plain_http_and_nobody_are_told_apart(keys: Path, tmp_path: Path) -> None:
    init_keys(tmp_path / "other", ["camera", "lidar"], [])
    with port(tmp_path / "other") as relay:
        foreign = about(examine(Patient(tmp_path, relay, client(keys))), "relay")
    with port(None) as relay:
        plain = about(examine(Patient(tmp_path, relay, client(keys))), "relay")
    nobody = about(examine(Patient(tmp_path, relay, client(keys))), "relay")
    assert "is not to be trusted" in foreign.found
    assert "does not speak TLS" in plain.found
    assert "cannot be reached" in nobody.found
    assert all(each.cure and each.state == FAILURE for each in (foreign, plain, nobody))


def test_what_others_can_read_and_what_expires_is_found(tmp_path: Path) -> None:
    init_keys(tmp_path / "keys", ["camera", "lidar"], [])
    own, state = tmp_path / "keys" / "relay", tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "samples").mkdir(mode=0o755)
    (own / "relay.key").chmod(0o640)
    renew(tmp_path / "keys", "relay", 20)
    found = examine(Patient(state, None, own))
    assert str(own / "relay.key") in about(found, "keys: permissions").found
    assert about(found, "keys: permissions").state == FAILURE
    assert str(state / "samples") in about(found, "state: permissions").found
    assert about(found, "relay.crt").state == WARNING
    soon = datetime.now(UTC) + timedelta(days=20)
    assert f"{soon - timedelta(hours=1):%Y-%m-%d}" in about(found, "relay.crt").found


def test_what_a_mac_leaves_beside_certificates_is_none(keys: Path, tmp_path: Path) -> None:
    own = shutil.copytree(client(keys), tmp_path / "own")
    (own / "._relay.crt").write_bytes(b"\x00\x05\x16\x07")
    (own / "broken.crt").write_bytes(b"no certificate")
    found = examine(Patient(tmp_path / "state", None, own))
    assert [each.about for each in found if "no certificate" in each.found] == ["broken.crt"]


def test_versions_are_held_against_what_the_package_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "0.1" if name == "flwr" else "9.9")
    found = examine(Patient(tmp_path))
    assert about(found, "flwr").state == FAILURE
    assert about(found, "flwr").cure.startswith("pip install 'flwr")
    assert about(found, "torch").state == OK


def test_the_command_ends_with_1_only_if_something_has_to_be_mended(
    keys: Path, tmp_path: Path
) -> None:
    words = ["doctor", "--keys", str(client(keys)), "--state", str(tmp_path)]
    with port(keys) as relay:
        well = CliRunner().invoke(app, [*words, "--relay", str(relay)])
    unwell = CliRunner().invoke(app, [*words, "--relay", str(relay)])
    assert (well.exit_code, unwell.exit_code) == (0, 1), (well.output, unwell.output)
    assert "nothing has to be mended" in well.output
    assert max(map(len, unwell.output.splitlines())) <= 80

"""The commands that deploy: what they print, what they write, and what they refuse in one line."""

import configparser
import errno
import json
import logging
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from sheafalign_fl.cli import app
from sheafalign_fl.cli.commands import _exit
from sheafalign_fl.deploy.relay_process import parser
from sheafalign_fl.errors import SheafAlignError, UserError
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings

CONFIG = "experiments/deploy.yaml"


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    logger = logging.getLogger("sheafalign")
    before = list(logger.handlers), logger.level, logger.propagate
    mask = os.umask(0o022)
    yield
    os.umask(mask)
    for handler in logger.handlers:
        if handler not in before[0]:
            handler.close()
    logger.handlers, logger.level, logger.propagate = before


def refused(*words: str) -> str:
    """Return the one line with which a command refuses."""
    result = CliRunner().invoke(app, list(words))
    assert isinstance(result.exception, SheafAlignError), (result.output, result.exception)
    line = str(result.exception)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["keys", "init", "{tmp}/k"], "give --clients camera,lidar or --config FILE"),
        (["keys", "init", "{tmp}/k", "--clients", "a"], "two clients at least"),
        (["keys", "init", "{keys}", "--clients", "a,b"], "never overwritten"),
        (["relay"], "give --keys DIR"),
        (["relay", "--keys", "{keys}", "--insecure"], "exclude each other"),
        (["relay", "--keys", "{tmp}"], "there is no"),
        (
            ["relay", "--keys", "{keys}", "--host", "192.0.2.1", "--state", "{tmp}/s"],
            "cannot listen on 192.0.2.1:9092",
        ),
        (["node", "lidar", "--relay", "here", "--keys", "{keys}"], "write it as HOST:PORT"),
        (["node", "lidar", "--relay", "here:99999", "--keys", "{keys}"], "write it as HOST:PORT"),
        (["node", "lidar", "--relay", "here:1"], "give --keys DIR"),
        (["node", "radar", "--relay", "here:1", "--keys", "{keys}"], "there is no"),
        (
            ["node", "lidar", "--relay", "here:1", "--keys", "{keys}/clients/camera"],
            "those of client 'camera'",
        ),
        (
            ["node", "lidar", "--relay", "here:1", "--keys", "{keys}", "--data", "{tmp}/no"],
            "no such folder",
        ),
        (
            ["node", "lidar", "--relay", "127.0.0.1:1", "--keys", "{keys}",
             "--patience", "0", "--state", "{tmp}/n"],
            "the relay at 127.0.0.1:1 cannot be reached",
        ),
        (["run", CONFIG, "--relay", "127.0.0.1:1"], "give --keys DIR"),
        (["run", CONFIG, "--keys", "{keys}"], "are for --relay"),
        (["run", CONFIG, "--out", "{tmp}/r"], "security.sealed needs clients with keys"),
        (["run", CONFIG, "--relay", "127.0.0.1:1", "--keys", "{tmp}"], "has no operator's keys"),
        (["status"], "give a run folder"),
        (["status", "{tmp}"], "is no run folder"),
        (
            ["deploy", "render", "{tmp}/x", "--config", CONFIG, "--relay", "nowhere"],
            "write it as HOST:PORT",
        ),
        (["deploy", "render", "{keys}", "--config", CONFIG], "exists already"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(
    words: list[str], line: str, keys: Path, tmp_path: Path
) -> None:
    assert line in refused(*(word.format(keys=keys, tmp=tmp_path) for word in words))
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {"relay.log", "node.log", ".lock", "traffic.json"}


def test_a_port_in_use_is_said(keys: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(
            "relay", "--keys", str(keys), "--port", str(port), "--state", str(tmp_path / "s")
        )
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in line


def test_a_relay_that_cannot_be_reached_ends_the_run_with_the_reason(
    keys: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    line = refused("run", CONFIG, "--relay", "127.0.0.1:1", "--keys", str(keys), "--out", str(out))
    assert "the relay at 127.0.0.1:1 cannot be reached" in line
    assert RunFolder(out).status()["state"] == "failed"


def shown(*words: str) -> list[str]:
    result = CliRunner().invoke(app, [*words, "--show"])
    assert result.exit_code == 0, result.output
    return shlex.split(result.output)


def test_the_commands_are_shown(keys: Path, tmp_path: Path) -> None:
    relay = shown("relay", "--keys", str(keys), "--host", "10.0.0.1", "--port", "9100")
    assert relay[:3] == [sys.executable, "-m", "sheafalign_fl.deploy.relay_process"]
    words = parser().parse_args(relay[3:])
    assert (words.host, words.port, words.keys) == ("10.0.0.1", 9100, keys / "relay")
    node = shown(
        "node",
        "lidar",
        "--relay",
        "10.0.0.1:9100",
        "--keys",
        str(keys),
        "--state",
        str(tmp_path / "state"),
    )
    assert node[0] == "flower-supernode"
    assert node[node.index("--auth-supernode-private-key") + 1] == str(
        keys / "clients" / "lidar" / "node.key"
    )
    config = dict(part.split("=", 1) for part in shlex.split(node[node.index("--node-config") + 1]))
    assert config["client"] == "lidar"
    assert config["keys"] == str(keys / "clients" / "lidar")
    assert parser().parse_args(shown("relay", "--insecure")[3:]).keys is None
    assert not list(tmp_path.iterdir())


def test_service_files_start_the_commands_that_there_are(tmp_path: Path) -> None:
    folder = tmp_path / "services"
    result = CliRunner().invoke(
        app, ["deploy", "render", str(folder), "--config", CONFIG, "--relay", "relay.lan:9100"]
    )
    assert result.exit_code == 0, result.output
    units = sorted(folder.glob("systemd/*.service"))
    assert [unit.stem.rpartition("-")[2] for unit in units] == [
        "beam",
        "camera",
        "lidar",
        "radar",
        "relay",
    ]
    for unit in units:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(unit)
        words = shlex.split(parser["Service"]["ExecStart"])[1:]
        told = CliRunner().invoke(app, [*words, "--show"])  # parses; only the keys are missing here
        assert "there is no" in str(told.exception), (words, told.output)
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    assert set(compose["services"]) == {
        "relay",
        "node-beam",
        "node-camera",
        "node-lidar",
        "node-radar",
    }
    for name, service in compose["services"].items():
        told = CliRunner().invoke(app, [*service["command"], "--show"])
        assert isinstance(told.exception, UserError), (name, told.output)
        others = [volume for volume in service["volumes"] if "keys/" in volume]
        assert others == [
            f"./keys/{'relay' if name == 'relay' else 'clients/' + name.removeprefix('node-')}"
            ":/keys:ro"
        ]
    assert set(compose["volumes"]) == {
        "relay-state",
        "beam-state",
        "camera-state",
        "lidar-state",
        "radar-state",
    }


def test_status_reads_well_at_80_columns_and_obeys_no_peer(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(toy_settings())
    first = CliRunner().invoke(app, ["status", str(folder.path)], env={"COLUMNS": "80"})
    assert first.exit_code == 0, first.output
    assert first.output.count("none yet") == len(toy_settings().clients)
    assert "absent" not in first.output
    parts = ("compute", "encode", "save", "wire", "wait")
    exchange = {
        "kind": "exchange", "exchange": 0, "losses": [], "absent": [], "payload_bytes": 1,
        "message_bytes": 2, "relay_bytes": 3, "seconds": 0.25,
        "timing": [{"client": "m0", **dict.fromkeys(parts, 12.3456)}],
    }  # fmt: skip
    said = "[bold]x[/bold] [link=http://e.example]y[/link] \x1b[2J\x1b]0;title\x07 \u202eback\r"
    absence = {"kind": "absence", "exchange": 0, "client": "m1", "event": "failed", "reason": said}
    folder.metrics.write_text(json.dumps(exchange) + "\n" + json.dumps(absence) + "\n")
    shown = CliRunner().invoke(app, ["status", str(folder.path)], env={"COLUMNS": "80"}).output
    assert "[bold]x[/bold] [link=http://e.example]y[/link]" in " ".join(shown.split())
    assert not {"\x1b", "\x07", "\u202e", "\r"} & set(shown)
    assert "12345.6" in shown
    assert max(map(len, shown.splitlines())) <= 80
    headings = [
        line for line in shown.splitlines() if line.startswith(" client") or "client " in line
    ]
    assert any("last exchange" in line and "down" in line for line in headings), shown


def test_status_of_a_run_folder_needs_no_relay(tmp_path: Path) -> None:
    settings = toy_settings()
    folder = RunFolder(tmp_path / "run")
    folder.create(settings)
    folder.set_status("running")
    row = {
        "kind": "exchange", "exchange": 0, "losses": [], "absent": ["m1"],
        "payload_bytes": 1, "message_bytes": 2,
        "relay_bytes": 3, "seconds": 0.25,
        "timing": [
            {"client": "m0", "compute": 0.123, "encode": 0.0, "save": 0.0, "wire": 0.1, "wait": 0.0}
        ],
    }  # fmt: skip
    folder.metrics.write_text(json.dumps(row) + "\n")
    result = CliRunner().invoke(app, ["status", str(tmp_path / "run")], env={"COLUMNS": "140"})
    assert result.exit_code == 0, result.output
    assert "running, 1 of 6 exchanges, 0.25 s each lately" in result.output
    assert "123.0" in result.output
    assert result.output.count("absent") == 1


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "no space left on device: /srv/state; make room"),
        (errno.EDQUOT, "disk quota exceeded: /srv/state; make room"),
        (errno.EROFS, "read-only file system: /srv/state; it is mounted read-only"),
        (errno.EACCES, "permission denied: /srv/state; it has to belong to the user"),
        (errno.EPERM, "operation not permitted: /srv/state; it has to belong to the user"),
    ],
)
def test_a_disk_that_is_full_or_closed_is_said_in_one_line(
    number: int, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise OSError(number, os.strerror(number), "/srv/state")

    with pytest.raises(SystemExit) as ended:
        _exit(command)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(f"error: {cure}")
    assert "doctor" in said
    assert said.count("\n") == 1


def test_other_errors_of_the_system_are_not_taken_for_the_disks() -> None:
    def command() -> None:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    with pytest.raises(ConnectionResetError):
        _exit(command)

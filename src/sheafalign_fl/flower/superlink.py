"""Flower's own programs: starting a SuperLink, and asking one with `flwr`."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sheafalign_fl.errors import RunError
from sheafalign_fl.flower.address import Address
from sheafalign_fl.flower.proxies import direct_environment, proxy_told

_CONNECTION = "relay"
_STARTUP_SECONDS = 60.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class SuperLink:
    """How Flower's own commands reach a SuperLink."""

    home: Path
    """Flower's home (FLWR_HOME), which holds the connection."""
    environment: Mapping[str, str]
    proxy: str = ""
    """What an error should say of the proxy that it is asked through."""

    @classmethod
    def at(
        cls, address: str, home: Path, ca: Path | None, environment: Mapping[str, str] | None = None
    ) -> "SuperLink":
        """Write the connection to `address` (host:port) into `home`; without `ca` it is insecure.

        `environment` is the one of Flower's programs, by default this process's own.
        """
        flower = home / "flwr"
        flower.mkdir(parents=True, exist_ok=True)
        trust = (
            "insecure = true"
            if ca is None
            else f"root-certificates = {json.dumps(str(ca.resolve()))}"
        )
        (flower / "config.toml").write_text(
            f'[superlink]\ndefault = "{_CONNECTION}"\n\n[superlink.{_CONNECTION}]\naddress = "{address}"\n{trust}\n',
            encoding="utf-8",
        )
        told = proxy_told(Address.parse(address).host, secure=ca is not None)
        return cls(home, {**flower_environment(environment), "FLWR_HOME": str(flower)}, told)

    def flwr(self, *words: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
        """Run ``flwr WORDS CONNECTION OPTIONS --format json`` and return its answer."""
        done = self._run(*words, _CONNECTION, *options, "--format", "json")
        found = _json_in(done.stdout)
        if not found:
            found = {"success": False, "error-message": (done.stdout + done.stderr)[-500:]}
        if not found.get("success"):
            found["error-message"] = f"{found.get('error-message')}{self.proxy}"
        return found

    def printed(self, run_id: str) -> str:
        """Return what the processes of a run printed, which they send to the SuperLink."""
        done = self._run("log", run_id, _CONNECTION, "--show")
        return done.stdout + done.stderr

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [program("flwr"), *words],
            env=dict(self.environment),
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )


def start_superlink(
    command: Sequence[str],
    address: Address,
    environment: Mapping[str, str],
    log: Path,
    home: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start `command`, a flower-superlink, and wait until it listens.

    Parameters
    ----------
    command
        The program's name and its arguments.
    address
        Where this machine reaches it.
    environment
        Its whole environment.
    log
        File for all that it prints, appended.
    home
        The folder that it works in; default: that of `log`.

    Raises
    ------
    RunError
        It ends before it listens, or does not in a minute; the message holds the end of its log.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [program(command[0]), *command[1:]], env=dict(environment), cwd=home or log.parent,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    limit = time.monotonic() + _STARTUP_SECONDS
    while process.poll() is None and time.monotonic() < limit:
        if address.answers():
            return process
        time.sleep(_POLL_SECONDS)
    tail = " ".join(log.read_text(errors="replace").split())[-500:]
    raise RunError(f"flower-superlink did not start: {tail}")


def flower_environment(environment: Mapping[str, str] | None = None, *hosts: str) -> dict[str, str]:
    """Return an environment for Flower's programs: quiet, without downloads, with this interpreter's programs.

    This machine and `hosts` are reached without a proxy.
    """
    base = direct_environment(os.environ if environment is None else environment, *hosts)
    return base | {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", "")]),
    }


def program(name: str) -> str:
    """Return the path of a program that was installed with this interpreter."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    if (found := shutil.which(name)) is None:
        raise RunError(f"the program '{name}' is not installed; install flwr[simulation]")
    return found


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _json_in(text: str) -> dict[str, Any]:
    """Return the JSON object in `text`, which Flower may have put notes before; empty if there is none."""
    start = text.find("{")
    try:
        found: dict[str, Any] = json.JSONDecoder().raw_decode(text[start:])[0] if start >= 0 else {}
    except json.JSONDecodeError:
        return {}
    return found

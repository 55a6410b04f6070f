"""The rendered units, started, used and stopped by a real systemd."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sheafalign_fl.deploy.render import render
from sheafalign_fl.flower.address import Address
from tests.system.deployment import SECONDS, Deployment
from tests.system.service_manager import NUMBER, USER, ServiceManager, booted, unable
from tests.toy import source

CLIENTS = ["m0", "m1"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.field,
    pytest.mark.skipif(unable() is not None, reason=str(unable())),
]


def until(true: Callable[[], bool], what: str, systemd: ServiceManager) -> None:
    limit = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > limit:
            output = (systemd.root / "run/output").read_text(errors="replace")
            pytest.fail(f"{what}: {systemd.systemctl('status', '*.service')}\n{output[-3000:]}")
        time.sleep(0.2)


def prepared(folder: Path, keys: Path) -> str:
    """Return the commands that an administrator of each machine gives."""
    lines = [f"mkdir -p /etc/sheafalign && cp -r {keys}/relay /etc/sheafalign/relay"]
    for client in CLIENTS:
        data = source(client, seed=0)
        np.savez(folder / f"{client}.npz", x=data.x, event_id=data.event_ids, split=data.split)
        lines += [
            f"cp -r {keys}/clients/{client} /etc/sheafalign/{client}",
            f"mkdir -p /srv/sheafalign/{client}",
            f"cp {folder}/{client}.npz /srv/sheafalign/{client}",
        ]
    return "\n".join([*lines, f"chown -R {USER}:{USER} /etc/sheafalign /srv/sheafalign", ""])


def test_the_units_run_as_rendered_and_end_well(tmp_path: Path) -> None:
    """Their own user, its files its own, a sealed run through them, exit 0 on SIGTERM."""
    made = Deployment(tmp_path / "operator", CLIENTS)
    render(tmp_path / "services", CLIENTS, Address("127.0.0.1", made.port))
    units = sorted((tmp_path / "services" / "systemd").iterdir())
    prepare = prepared(tmp_path, made.folder / "keys")
    with booted(tmp_path / "systemd", units, prepare) as systemd:
        state = systemd.root / "var/lib/sheafalign"
        for client in CLIENTS:
            log = state / client / "node.log"
            until(lambda log=log: log.is_file() and "connected to" in log.read_text(),  # type: ignore[misc]
                  client, systemd)  # fmt: skip
        content: dict[str, object] = {
            "name": "services", "data": {"source": "folder", "options": {"path": "nowhere"}},
            "clients": {client: {"dim": 8} for client in CLIENTS}, "graph": {"dim": 4},
            "training": {"exchanges": 2, "batch_size": 16, "setup_deadline": 100},
            "evaluation": {"every": 0, "metrics": ["retrieval"]}, "security": {"sealed": True},
        }  # fmt: skip
        made.run(content, "run")
        assert made.wait("run") == 0, made.printed("run")
        for path in state.rglob("*"):
            status = path.lstat()
            assert status.st_uid == NUMBER, path
            if not stat.S_ISLNK(status.st_mode):
                assert not status.st_mode & 0o077, (path, oct(status.st_mode))
        names = [unit.name for unit in units]
        main = {name: systemd.show(name, "MainPID") for name in names}
        for name in names:
            assert systemd.show(name, "ActiveState") == "active"
            inside = f"/proc/{main[name]}/status"
            status_text = (systemd.root / inside.lstrip("/")).read_text()
            assert f"Uid:\t{NUMBER}\t{NUMBER}" in status_text
            assert "CapEff:\t0000000000000000" in status_text
        systemd.systemctl("stop", *names)
        for name in names:
            ended = {key: systemd.show(name, key) for key in ("Result", "ExecMainStatus")}
            assert ended == {"Result": "success", "ExecMainStatus": "0"}, (name, ended)
            assert systemd.show(name, "NRestarts") == "0"
    assert not Path("/var/lib/sheafalign").exists() or os.getuid() != 0

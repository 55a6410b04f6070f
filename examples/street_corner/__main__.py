"""``python -m examples.street_corner OUT``: the LiDAR's service is killed; the answer goes on."""

import json
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from examples.street_corner.client import Corner
from examples.street_corner.judge import Judge, Row, table
from examples.street_corner.machines import (
    CLIENTS,
    Recordings,
    Service,
    equip,
    serving,
    train,
    trusting,
)

SENSOR, STAND_IN = "lidar", "lidar-standby"
_BEFORE = 20
"""Events that are asked one by one before the service is killed, and as many after."""


def main(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    events: Annotated[int, typer.Option(help="Scenes to train and test on.", min=500)] = 3000,
    exchanges: Annotated[int, typer.Option(help="Exchanges of the training.", min=1)] = 120,
) -> None:
    """Train four sensors, serve their shares, kill one, and measure what the answers are worth."""
    out.mkdir(parents=True)
    begun = time.monotonic()
    run = train(out, events, exchanges)
    typer.echo(f"trained in {time.monotonic() - begun:.0f} s")
    recordings = Recordings.of(events)
    machines = equip(out, run, recordings)
    processes = [*machines.items(), (STAND_IN, machines[SENSOR])]
    with serving(out, processes) as services:
        addresses = {name: service.address for name, service in services.items()}
        with Corner(addresses, trusting(out), SENSOR, STAND_IN) as corner:
            judge = Judge(corner, recordings, machines[SENSOR] / "share")
            rows = [judge.itself()]
            gap = _killed(corner, recordings, services[SENSOR])
            rows += [*judge.stood_in(), *judge.floors()]
    result = {
        "events": len(recordings.rows("test")),
        "gap_ms": gap,
        "start_seconds": services[SENSOR].start_seconds,
        "rows": [asdict(row) for row in rows],
    }
    (out / "corner.json").write_text(json.dumps(result, indent=1))
    _tell(rows, gap, services[SENSOR].start_seconds)


def _killed(corner: Corner, recordings: Recordings, service: Service) -> float:
    """Ask event by event, kill the service in between; return the milliseconds without answer."""
    test = recordings.rows("test")
    for row in test[:_BEFORE]:
        if corner.ask(_event(recordings, [row])).stood_in_for:
            raise RuntimeError("the service was dead before it was killed")
    service.process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    first = corner.ask(_event(recordings, test[_BEFORE : _BEFORE + 1]))
    gap = 1000 * (time.monotonic() - killed)
    for row in test[_BEFORE + 1 : 2 * _BEFORE]:
        if not (first.stood_in_for and corner.ask(_event(recordings, [row])).stood_in_for):
            raise RuntimeError("a service that was killed has answered")
    return gap


def _event(recordings: Recordings, rows: Sequence[int] | np.ndarray) -> dict[str, list[object]]:
    return {name: recordings.x[name][rows].tolist() for name in CLIENTS}


def _tell(rows: Sequence[Row], gap: float, start: float) -> None:
    typer.echo(table(rows))
    typer.echo(f"without an answer after kill -9: {gap:.0f} ms")
    typer.echo(f"a service takes {start:.1f} s to start (five at once, on this machine)")


if __name__ == "__main__":
    typer.run(main)

"""`python -m experiments.service_load`: a service of one share under load, and what it takes.

Callers on the same machine ask for embeddings, each again as soon as it has its answer: 1, 8 and 64
at a time. Beside latencies and requests a second stand the service's own resident memory, as the
operating system counts it, and what became of 64 requests at a time that are as large as may be and
grow most when they are parsed.
"""

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import typer
from rich.console import Console

import sheafalign_fl as sf
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.report.content import Table
from sheafalign_fl.report.tables import rich_table

SENSORS = ("lidar", "beam")
_MEBI = 1024 * 1024
_START_SECONDS = 180.0
_PATIENCE_SECONDS = 300.0


@dataclass
class Load:
    """What callers met.

    Attributes
    ----------
    callers
        At a time.
    seconds
        How long they asked.
    latencies
        Of the requests that were answered, seconds.
    statuses
        HTTP status -> how many; 0: the connection was lost before there was one.
    peak_bytes
        Most resident memory of the service meanwhile.
    """

    callers: int
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    peak_bytes: int = 0

    def row(self, name: str) -> tuple[str, ...]:
        """Return what a table says of it."""
        shown = ["–"] * 3
        if self.latencies:
            shown = [f"{1000 * q:.0f}" for q in np.percentile(self.latencies, [50, 95, 99])]
        rate = f"{len(self.latencies) / self.seconds:.1f}"
        answers = ", ".join(
            f"{count} x {status}" for status, count in sorted(self.statuses.items())
        )
        return name, rate, *shown, answers, f"{self.peak_bytes / _MEBI:.0f}"


def main(
    seconds: Annotated[float, typer.Option(help="How long each load lasts.")] = 10.0,
    events: Annotated[int, typer.Option(help="Events of a request.")] = 1,
    max_body: Annotated[int, typer.Option(help="MiB of one request.")] = 16,
) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        run = trained(Path(folder))
        x = load_modality("scenes", SENSORS[0], 0, {"events": 500}, SENSORS[0]).x[:events]
        body = httpx.Request("POST", "http://x", json={"x": x.tolist()}).content
        with served(run, SENSORS[0], "--max-body", str(max_body)) as (url, process):
            rows = []
            for callers in (1, 8, 64):
                load = asyncio.run(asked(url, body, callers, seconds, process.pid))
                rows.append(load.row(f"{callers} callers, {events} event(s)"))
            worst = largest_body(max_body * _MEBI)
            load = asyncio.run(asked(url, worst, 64, 0.0, process.pid))
            rows.append(load.row(f"64 callers, {max_body} MiB of brackets"))
    columns = ("load", "answers / s", "p50 ms", "p95 ms", "p99 ms", "answers", "peak MiB")
    Console(width=120).print(rich_table(Table("One service", columns, tuple(rows), text_columns=1)))


def trained(folder: Path) -> Path:
    """Return a run whose shares have seen little: what they answer does not matter here."""
    settings = {
        "name": "load",
        "engine": "inprocess",
        "data": {"source": "scenes", "options": {"events": 500}},
        "clients": list(SENSORS),
        "training": {"exchanges": 3, "batch_size": 32},
        "evaluation": {"every": 0, "metrics": ["retrieval"]},
    }
    return sf.run(settings, folder / "run").path


@contextmanager
def served(
    run: Path, client: str, *options: str
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run `sheafalign serve` in a process of its own; yield its address and the process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = str(Path(sys.executable).parent / "sheafalign")
    words = [program, "serve", str(run), "--client", client, "--port", str(port), *options]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        url, begun = f"http://127.0.0.1:{port}", time.monotonic()
        while not _lives(url):
            if process.poll() is not None or time.monotonic() > begun + _START_SECONDS:
                raise RuntimeError("the service does not start")
            time.sleep(0.1)
        yield url, process
    finally:
        process.kill()
        process.wait()


def _lives(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


async def asked(url: str, body: bytes, callers: int, seconds: float, pid: int) -> Load:
    """Let `callers` post `body` to /embed, each again and again for `seconds`, and once at least.

    A caller who is told to come again does so after as long as it was told to.
    """
    load, begun = Load(callers), time.monotonic()
    forget_peak(pid)
    limits = httpx.Limits(max_connections=callers, max_keepalive_connections=callers)
    async with httpx.AsyncClient(
        base_url=url, limits=limits, timeout=_PATIENCE_SECONDS, trust_env=False
    ) as client:
        await asyncio.gather(
            *(_caller(client, body, begun + seconds, load) for _ in range(callers))
        )
    load.seconds, load.peak_bytes = time.monotonic() - begun, peak_bytes(pid)
    return load


async def _caller(client: httpx.AsyncClient, body: bytes, until: float, load: Load) -> None:
    while True:
        begun = time.monotonic()
        headers = {"content-type": "application/json"}
        try:
            answer = await client.post("/embed", content=body, headers=headers)
        except httpx.TransportError:
            load.statuses[0] += 1
            return
        load.statuses[answer.status_code] += 1
        if answer.is_success:
            load.latencies.append(time.monotonic() - begun)
        if time.monotonic() >= until:
            return
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            await asyncio.sleep(float(answer.headers["retry-after"]))


def largest_body(size: int) -> bytes:
    """Return a body of almost `size` bytes that grows most when it is parsed: empty lists."""
    return b'{"x": [' + b",".join([b"[]"] * ((size - 16) // 3)) + b"]}"


def peak_bytes(pid: int) -> int:
    """Return the most resident memory that a process had since it began, or `forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text().split()
    return 1024 * int(status[status.index("VmHWM:") + 1])


def forget_peak(pid: int) -> None:
    """Let the most resident memory of a process be what it has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


if __name__ == "__main__":
    typer.run(main)

"""`python -m experiments.exports`: every built-in encoder as ONNX, its size and its differences.

Differences are from torch, over batches of 1, 2 and 7 random events of the encoder's example shape,
in units of the largest output or of 1.
"""

import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.filesize import decimal

from sheafalign_fl.encoders.registry import ENCODERS, EncoderInfo
from sheafalign_fl.report.content import Table
from sheafalign_fl.report.tables import rich_table
from sheafalign_fl.seeding import torch_seeded
from sheafalign_fl.shares.export import convert, difference
from sheafalign_fl.shares.graph import Graph

DIM = 128


def main() -> None:
    """Print the table."""
    rows = tuple(measured(info) for info in ENCODERS.values())
    columns = ("encoder", "events", "file", "largest difference")
    Console().print(rich_table(Table("Exports to ONNX", columns, rows, text_columns=2)))


def measured(info: EncoderInfo) -> tuple[str, str, str, str]:
    """Return one row."""
    with torch_seeded(0, "exports", info.name), tempfile.TemporaryDirectory() as folder:
        encoder = info.factory(info.example, DIM).eval()
        file = Path(folder) / "encoder.onnx"
        run = convert(Graph(encoder, {}, None, info.example), "onnx", file)
        worst = 0.0
        for count in (1, 2, 7):
            x = torch.randn(count, *info.example)
            with torch.no_grad():
                expected = encoder(x).numpy()
            worst = max(worst, difference(run(x.numpy())[0], expected))
        return info.name, str(info.example), decimal(file.stat().st_size), f"{worst:.1e}"


if __name__ == "__main__":
    main()

"""Put a benchmark's results where the documentation shows them.

``python -m experiments.publish runs/benchmark``

Copies ``benchmark.json`` to experiments/benchmark/results/ (``--long``: experiments/long/results/,
``--paper``: experiments/paper/results/) and writes the tables anew from it, so that the figures
there are those of the committed results; a test compares the two.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from sheafalign_fl.benchmark.markdown import replace_tables
from sheafalign_fl.benchmark.results import load_benchmark
from sheafalign_fl.errors import UserError
from sheafalign_fl.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Publication:
    """Results that a page of the documentation shows tables of."""

    results: Path
    page: Path
    prefix: str
    """Of the markers in the page."""
    tables: tuple[str, ...]

    def tables_in(self, text: str, results: Path | None = None) -> str:
        """Return `text` with its tables made from `results`; default: the committed ones."""
        return replace_tables(
            text, load_benchmark(results or self.results), self.prefix, self.tables
        )


PUBLICATIONS = {
    "": Publication(
        ROOT / "experiments" / "benchmark" / "results" / "benchmark.json",
        ROOT / "docs" / "benchmark.md",
        "benchmark",
        ("results", "claims"),
    ),
    "--long": Publication(
        ROOT / "experiments" / "long" / "results" / "benchmark.json",
        ROOT / "docs" / "benchmark.md",
        "long",
        ("results",),
    ),
    "--paper": Publication(
        ROOT / "experiments" / "paper" / "results" / "benchmark.json",
        ROOT / "docs" / "sensors.md",
        "paper",
        ("results",),
    ),
}


def publish(folder: Path, publication: Publication) -> None:
    """Publish the benchmark in `folder`; raise `UserError` if it holds none."""
    source = folder / "benchmark.json"
    text = publication.tables_in(publication.page.read_text(encoding="utf-8"), source)
    write_atomically(publication.results, source.read_bytes(), public=True)
    write_atomically(publication.page, text.encode(), public=True)


def main() -> None:
    """Publish the benchmark in the folder that the command line names."""
    folders = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    flags = [argument for argument in sys.argv[1:] if argument.startswith("--")] or [""]
    if len(folders) != 1 or len(flags) != 1 or flags[0] not in PUBLICATIONS:
        raise SystemExit("usage: python -m experiments.publish BENCHMARK_DIR [--long | --paper]")
    publication = PUBLICATIONS[flags[0]]
    try:
        publish(Path(folders[0]), publication)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    sys.stdout.write(
        f"published {publication.results.relative_to(ROOT)} and {publication.page.name}\n"
    )


if __name__ == "__main__":
    main()

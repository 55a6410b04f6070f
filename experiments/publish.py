"""Put a benchmark's results where README shows them: ``python -m experiments.publish runs/benchmark``.

Copies ``benchmark.json`` to experiments/benchmark/results/ and writes README's tables anew from it, so that the figures
in README are those of the committed results; a test compares the two.
"""

import sys
from pathlib import Path

from sheafalign_fl.benchmark import load_benchmark
from sheafalign_fl.benchmark.readme_tables import replace_tables
from sheafalign_fl.errors import UserError
from sheafalign_fl.run.folder import write_atomically

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "benchmark" / "results" / "benchmark.json"
README = ROOT / "README.md"


def publish(folder: Path) -> None:
    """Publish the benchmark in `folder`; raise `UserError` if it holds none."""
    source = folder / "benchmark.json"
    benchmark = load_benchmark(source)
    text = replace_tables(README.read_text(encoding="utf-8"), benchmark)
    write_atomically(RESULTS, source.read_bytes())
    write_atomically(README, text.encode())


def main() -> None:
    """Publish the benchmark in the folder that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m experiments.publish BENCHMARK_DIR")
    try:
        publish(Path(sys.argv[1]))
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    sys.stdout.write(f"published {RESULTS.relative_to(ROOT)} and README's tables\n")


if __name__ == "__main__":
    main()

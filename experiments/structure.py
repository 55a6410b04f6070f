"""How large the code is and which room imports which, room by room.

``python -m experiments.structure [CHECKOUT]`` prints the tables of ARCHITECTURE.md in Markdown, and
what an addition of one's own costs in lines (docs/extending.md). A room is a folder of the library;
what lies loose in the library is its ``.``. Tests are no part of it.
"""

import ast
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LIBRARY = "sheafalign_fl"
TOPS = {
    LIBRARY: Path("src") / LIBRARY,
    **{name: Path(name) for name in ("clients", "strategies", "experiments", "examples")},
}
"""Package -> its folder in a checkout."""

OWN = {
    "encoder": ("examples/own_encoder.py", "build"),
    "codec": ("examples/own_codec.py", "SixteenLevels"),
    "graph": ("examples/own_codec.py", "double_star"),
    "metric": ("examples/own_metric.py", "LinearCKA"),
    "data source": ("experiments/own_data/source.py", "load"),
    "term of the objective": ("docs/extending.md", "spread"),
    "optimiser": ("docs/extending.md", "slow_sgd"),
}
"""What may be added -> where an example of it is, a class or a function."""


@dataclass(frozen=True)
class Module:
    """One file of the code."""

    room: str
    lines: int
    functions: tuple[int, ...]
    """Lines of every function and method, from `def` to its end."""
    imports: frozenset[str]
    """Other rooms whose modules it imports, delayed imports among them."""


@dataclass(frozen=True)
class Size:
    """How large some modules are."""

    files: int
    lines: int
    longest_file: int
    functions: int
    median: int
    percentile_90: int
    longest: int

    @classmethod
    def of(cls, found: Sequence[Module]) -> "Size":
        """Measure `found`."""
        lengths = sorted(length for module in found for length in module.functions) or [0]
        return cls(
            len(found),
            sum(module.lines for module in found),
            max(module.lines for module in found),
            len(lengths),
            round(statistics.median(lengths)),
            lengths[round(0.9 * (len(lengths) - 1))],
            lengths[-1],
        )


def modules(checkout: Path) -> list[Module]:
    """Return every module of a checkout."""
    rooms = {path.parent.name for path in (checkout / TOPS[LIBRARY]).glob("*/__init__.py")}
    return [
        _module(path, ".".join([top, *path.relative_to(checkout / folder).parts]), rooms)
        for top, folder in TOPS.items()
        for path in sorted((checkout / folder).rglob("*.py"))
    ]


def _module(path: Path, name: str, rooms: set[str]) -> Module:
    text = path.read_text(encoding="utf-8")
    tree, room = ast.parse(text), _room_of(name, rooms)
    lengths = (
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    imports = {_room_of(found, rooms) for found in _imported(tree)} - {room}
    return Module(room, len(text.splitlines()), tuple(lengths), frozenset(imports))


def _room_of(module: str, rooms: set[str]) -> str:
    """Return the room of a dotted name: ``sheaf``, ``clients``, ``.``."""
    top, *below = module.split(".")
    if top != LIBRARY:
        return top
    return below[0] if below and below[0] in rooms else "."


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield what is imported of this repository; ``from x import y`` may mean the module x.y."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == LIBRARY:
            names = [f"{LIBRARY}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        yield from (name for name in names if name.split(".")[0] in TOPS)


def whole(found: Sequence[Module]) -> str:
    """Return the table of the whole, of library, apps, experiments and examples."""
    size = Size.of(found)
    return "\n".join(
        [
            "| files | lines | longest file | functions | median | 90th percentile | longest |",
            "|---|---|---|---|---|---|---|",
            f"| {size.files} | {size.lines:,} | {size.longest_file} | {size.functions:,} | "
            f"{size.median} | {size.percentile_90} | {size.longest} |",
        ]
    )


def by_room(found: Sequence[Module]) -> str:
    """Return the table with a row for each room."""
    lines = [
        "| room | files | lines | functions: median, 90th percentile, longest | imports |",
        "|---|---|---|---|---|",
    ]
    for room in dict.fromkeys(module.room for module in found):
        inside = [module for module in found if module.room == room]
        size = Size.of(inside)
        others = sorted(set().union(*(module.imports for module in inside)) - {"."})
        lines.append(
            f"| `{room}` | {size.files} | {size.lines:,} | {size.median}, {size.percentile_90}, "
            f"{size.longest} | {', '.join(others)} |"
        )
    return "\n".join(lines)


def own_lines(checkout: Path) -> dict[str, int]:
    """Return for everything in `OWN` how many lines of code it takes, docstrings left out."""
    return {what: _code_lines(checkout / path, name) for what, (path, name) in OWN.items()}


def _code_lines(path: Path, name: str) -> int:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    found = next(
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
    )
    left_out: set[int] = set()
    for node in ast.walk(found):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            said = node.body[0]
            left_out |= set(range(said.lineno, (said.end_lineno or said.lineno) + 1))
    lines = text.splitlines()
    place = range(found.lineno, (found.end_lineno or found.lineno) + 1)
    return sum(bool(lines[number - 1].strip()) for number in place if number not in left_out)


def main() -> None:
    """Print all of it for a checkout, this one by default."""
    checkout = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    found = modules(checkout)
    print(f"{whole(found)}\n\n{by_room(found)}")
    for what, lines in own_lines(Path(__file__).resolve().parents[1]).items():
        print(f"{what}: {lines} lines")


if __name__ == "__main__":
    main()

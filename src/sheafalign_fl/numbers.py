"""Numbers as people read them."""

from collections.abc import Callable, Iterable

NONE = "–"
_UNITS = ("kB", "MB", "GB", "TB", "PB")


def human_bytes(count: int) -> str:
    """Return bytes with three digits and a decimal unit: 12345678 is "12.3 MB"."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in _UNITS:
        value /= 1000
        if value < 999.5 or unit == _UNITS[-1]:
            break
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


def exact(count: int) -> str:
    """Return an integer with its thousands set apart: "12,345,678"."""
    return f"{count:,}"


def percent(fraction: float | None) -> str:
    """Return a fraction as "54.3", to stand under a heading that says %; a dash for None."""
    return NONE if fraction is None else f"{100 * fraction:.1f}"


def percent_sign(fraction: float | None) -> str:
    """Return a fraction with its sign, which stays on the same line: "54.3 %"."""
    return f"{percent(fraction)}\N{NO-BREAK SPACE}%"


def percent_with_spread(values: Iterable[float | None]) -> str:
    """Return mean and sample standard deviation of fractions as "54.3 ± 1.2", as `with_spread`."""
    return with_spread(values, percent)


def with_spread(
    values: Iterable[float | None],
    shown: Callable[[float], str] = lambda value: f"{value:.3g}",
) -> str:
    """Return mean and sample standard deviation; the mean alone of one value; a dash for none."""
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    centre = sum(known) / len(known)
    if len(known) < 2:
        return shown(centre)
    spread = (sum((value - centre) ** 2 for value in known) / (len(known) - 1)) ** 0.5
    return f"{shown(centre)} ± {shown(spread)}"


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known, None where there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def duration(seconds: float) -> str:
    """Return a time as "4.2 s", "3 min 05 s" or "2 h 07 min"."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count_of(count: int, thing: str) -> str:
    """Return "1 edge" or "3 edges"."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def short_commit(commit: str | None) -> str:
    """Return the first digits of a commit, with its "+" where the work tree had changes."""
    if not commit:
        return "unknown"
    return commit.removesuffix("+")[:12] + ("+" if commit.endswith("+") else "")

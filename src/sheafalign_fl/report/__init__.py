"""What a run shows: tables in the terminal, and a self-contained HTML report."""

from sheafalign_fl.report.html import write_report
from sheafalign_fl.report.tables import print_summary

__all__ = ["print_checked", "print_source", "print_sources", "print_summary", "write_report"]


def __getattr__(name: str) -> object:
    """Load the listings on demand: they need every data source, and writing a report does not."""
    if name in {"print_checked", "print_source", "print_sources"}:
        from sheafalign_fl.report import listings

        return getattr(listings, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

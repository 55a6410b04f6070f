"""What a run shows: tables in the terminal, and a self-contained HTML report."""

from sheafalign_fl.report.html import draw_report, write_report
from sheafalign_fl.report.tables import print_summary

__all__ = ["draw_report", "print_summary", "write_report"]

"""Runs of this folder draw no report either, unless a test is marked with `draws_report`."""

from tests.federation.conftest import no_reports_by_default

__all__ = ["no_reports_by_default"]

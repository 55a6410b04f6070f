"""Runs of this folder draw no report, unless a test is marked with `draws_report`."""

import pytest


@pytest.fixture(autouse=True)
def no_reports_by_default(request: pytest.FixtureRequest) -> None:
    if "draws_report" not in request.keywords:
        request.getfixturevalue("no_reports")

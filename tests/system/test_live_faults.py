"""Two of the live faults that no other test has; `tests.system.live_faults` goes through all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.deployment import Deployment
from tests.system.live_faults import FAULTS, check, strike, theatre

pytestmark = [pytest.mark.slow, pytest.mark.field]
HERE = ("node: disk full for a while", "node: state lost")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A relay with three nodes."""
    with theatre(tmp_path_factory.mktemp("live") / "here") as deployed:
        yield deployed


@pytest.mark.parametrize("name", HERE)
def test_it_is_survived_with_the_weights_that_it_has_to_have(
    name: str, made: Deployment, tmp_path: Path
) -> None:
    (fault,) = (each for each in FAULTS if each.name == name)
    if (why := fault.needs()) is not None:
        pytest.skip(why)
    survived = strike(fault, made, tmp_path)
    check(fault, survived)
    if fault.gone:
        (departure,) = survived.summary.departures
        assert departure.reason.startswith("its state is lost")
        assert f"without '{departure.client}'" in made.command("status", survived.name).stdout

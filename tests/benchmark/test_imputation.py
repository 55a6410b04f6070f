"""The program that compares ways to stand in for a sensor: settings, table, resumption."""

from pathlib import Path

import pytest

from experiments import imputation
from sheafalign_fl.engines import launch
from sheafalign_fl.metrics.missing import Missing


def made(missing: int, ridge: float) -> Missing:
    return Missing(
        missing=missing,
        subsets=1,
        events=10,
        imputed=0.5,
        mean_fill=0.25,
        zero_fill=0.1,
        worst_imputed=0.4,
        ridge=ridge,
        unexplained=0.3,
        unexplained_imputed=0.6,
    )


@pytest.mark.parametrize("data", imputation.EXCHANGES)
def test_ways_differ_in_nothing_but_what_their_row_says(data: str) -> None:
    learnt, untrained, one = (
        imputation.settings_of(data, method, 1) for method in imputation.METHODS
    )
    assert learnt.evaluation == untrained.evaluation == one.evaluation
    assert learnt.data == untrained.data == one.data
    assert list(learnt.clients) == list(untrained.clients) == list(one.clients)
    assert learnt.seed == untrained.seed == one.seed == 1
    assert learnt.maps == untrained.maps
    assert learnt.training == one.training
    assert one.maps.family == "identity"
    # What untrained encoders send is as much as a share keeps.
    batches = untrained.training.exchanges * untrained.training.batch_size
    assert batches >= 4096


def test_the_table_has_means_and_deviations_over_seeds() -> None:
    runs = [tuple(made(count, ridge) for count in range(3)) for ridge in (0.6, 0.8)]
    *_, line = imputation.table({("halves", "learnt"): runs})
    assert line == (
        "| halves | learnt | 50.0 ± 0.0 | 70.0 ± 14.1 / 70.0 ± 14.1 | 50.0 ± 0.0 / 50.0 ± 0.0 | "
        "25.0 ± 0.0 / 25.0 ± 0.0 | 30.0 / 60.0 |"
    )


def test_a_finished_run_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Path] = []

    def start(settings: object, path: Path) -> None:
        assert not path.exists()
        begun.append(path)
        path.mkdir()
        (path / "summary.json").write_text("{}")

    monkeypatch.setattr(launch, "start", start)
    (tmp_path / "watch-one-space-2").mkdir()  # cut off before it had an end
    for _ in range(2):
        with pytest.raises(Exception, match=r"summary\.json"):
            imputation.measured("watch", "one space", 2, tmp_path)
    assert begun == [tmp_path / "watch-one-space-2"]

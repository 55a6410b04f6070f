"""Experiment trackers as callbacks: TensorBoard, MLflow, Weights & Biases.

Each hears what every callback hears, so it works with every engine and changes nothing. What a
tracker is told is the same for all: the settings once, then numbers by name and exchange
(``loss/TERM`` as means over directed edges, ``bytes/payload``, ``validation/SCORE``, at the end
``test/SCORE`` and ``bytes/PURPOSE``), and the report as a file.
"""

import os
import re
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sheafalign_fl.config import Settings
from sheafalign_fl.errors import UserError
from sheafalign_fl.extras import require
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.registry import known_metric
from sheafalign_fl.protocol.rows import EvaluationRow, ExchangeRow
from sheafalign_fl.runs.callbacks import Callback
from sheafalign_fl.runs.reading import Run

_PROJECT = "sheafalign-fl"
"""Experiment or project, unless the tracker's own environment variable says another."""
_MOST_PARAMETERS = 100
"""Of one message to MLflow."""
_ODD = re.compile(r"[^\w./ -]")


class Tracker(Callback):
    """Turns rows into numbers by name; a subclass hands them on."""

    @abstractmethod
    def begin(self, name: str, settings: Mapping[str, str | int | float | bool], text: str) -> None:
        """Begin a run; `settings` are flat, ``training.exchanges`` and so on, `text` is YAML."""

    @abstractmethod
    def log(self, numbers: Mapping[str, float], exchange: int) -> None:
        """Log numbers after so many exchanges."""

    @abstractmethod
    def finish(self, report: Path | None, failure: str = "") -> None:
        """End the run; `report` is the HTML report, if one was drawn, `failure` why it failed."""

    def on_start(self, settings: Settings, folder: Path) -> None:
        """Begin a run named by its folder."""
        from sheafalign_fl.config import to_yaml

        flat = dict(flattened(settings.model_dump(mode="json")))
        self.begin(folder.resolve().name, flat, to_yaml(settings))

    def on_exchange(self, row: ExchangeRow) -> None:
        """Log the losses and the bytes of training so far."""
        values: dict[str, list[float]] = {}
        for loss in row.losses:
            for term, value in loss.terms.items():
                values.setdefault(f"loss/{term}", []).append(value)
        numbers = {name: sum(found) / len(found) for name, found in values.items()}
        numbers["bytes/payload"] = float(row.payload_bytes)
        numbers["clients/absent"] = float(len(row.absent))
        self.log(numbers, row.exchange + 1)

    def on_evaluation(self, row: EvaluationRow) -> None:
        """Log every score that was measured."""
        if numbers := dict(scores_of(row.quality)):
            self.log(numbers, row.exchange)

    def on_end(self, run: Run) -> None:
        """Log the bytes of every purpose, and end the run with its report."""
        totals: dict[str, float] = {}
        for edge in run.bytes:
            for kind in ("payload", "message", "relay"):
                name = f"bytes/{edge.purpose}_{kind}"
                totals[name] = totals.get(name, 0.0) + float(getattr(edge, f"{kind}_bytes"))
        self.log(totals, run.done)
        self.finish(run.report if run.report.is_file() else None)

    def on_failure(self, reason: str) -> None:
        """End the run as one that has failed."""
        self.finish(None, reason)


def flattened(
    value: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str | int | float | bool]]:
    """Yield (dotted name, value) of every setting; what is no number or text is its text."""
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from flattened(inner, f"{prefix}{plain_name(str(name))}.")
        else:
            plain = isinstance(inner, str | int | float | bool)
            yield f"{prefix}{plain_name(str(name))}", inner if plain else str(inner)


def scores_of(quality: Quality) -> Iterator[tuple[str, float]]:
    """Yield (``SPLIT/SCORE``, value) of everything that was measured, R@10 as ``R_at_10``."""
    for name in quality.measured():
        rows = quality.rows(name)
        for score in known_metric(name, rows).scores:
            if (value := score.of(rows)) is not None:
                yield f"{quality.split}/{plain_name(score.name)}", value


def plain_name(name: str) -> str:
    """Return a name that all trackers take: letters, digits, and ``_ - . / `` and spaces."""
    return _ODD.sub("_", name.replace("@", "_at_"))


class TensorBoardTracker(Tracker):
    """Writes event files into the run folder: ``tensorboard --logdir runs``."""

    def __init__(self) -> None:
        """Need the package tensorboard; raise `MissingExtraError` without it."""
        require("tensorboard", "--track tensorboard")
        self._folder, self._text = Path(), ""
        self._writer: Any = None

    def on_start(self, settings: Settings, folder: Path) -> None:
        """Write below the run folder, once there is one."""
        self._folder = folder / "tensorboard"
        super().on_start(settings, folder)

    def begin(self, name: str, settings: Mapping[str, str | int | float | bool], text: str) -> None:
        """Keep the configuration for the first event: the run folder is not there yet."""
        self._text = text

    def log(self, numbers: Mapping[str, float], exchange: int) -> None:
        """Write scalars."""
        for name, value in numbers.items():
            self._events().add_scalar(name, value, exchange)

    def finish(self, report: Path | None, failure: str = "") -> None:
        """Say where the report lies, or why there is none, and close the file."""
        if self._writer is None and failure:  # there may not even be a run folder
            return
        self._events().add_text("report", failure if report is None else str(report.resolve()))
        self._events().close()

    def _events(self) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
            self._writer.add_text("settings", f"```yaml\n{self._text}\n```")
        return self._writer


class MlflowTracker(Tracker):
    """Logs to MLflow, where MLFLOW_TRACKING_URI says; by its client, which no thread owns."""

    def __init__(self) -> None:
        """Need the package mlflow; raise `MissingExtraError` without it."""
        require("mlflow", "--track mlflow")
        self._run = ""

    def begin(self, name: str, settings: Mapping[str, str | int | float | bool], text: str) -> None:
        """Create a run in the experiment of MLFLOW_EXPERIMENT_NAME, with its settings."""
        import mlflow
        from mlflow.entities import Param

        self._client = mlflow.MlflowClient()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        known = self._client.get_experiment_by_name(experiment)
        place = self._client.create_experiment(experiment) if known is None else known.experiment_id
        self._run = self._client.create_run(place, run_name=name).info.run_id
        parameters = [Param(key, str(value)) for key, value in settings.items()]
        for start in range(0, len(parameters), _MOST_PARAMETERS):
            part = parameters[start : start + _MOST_PARAMETERS]
            self._client.log_batch(self._run, params=part)
        self._client.log_text(self._run, text, "config.yaml")

    def log(self, numbers: Mapping[str, float], exchange: int) -> None:
        """Log metrics, the exchange as their step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, exchange) for name, value in numbers.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def finish(self, report: Path | None, failure: str = "") -> None:
        """Log the report as an artefact, and end the run."""
        if not self._run:
            return
        if report is not None:
            self._client.log_artifact(self._run, str(report))
        if failure:
            self._client.set_tag(self._run, "failure", failure)
        self._client.set_terminated(self._run, status="FAILED" if failure else "FINISHED")


class WandbTracker(Tracker):
    """Logs to Weights & Biases, or with WANDB_MODE=offline below ``wandb/``."""

    def __init__(self) -> None:
        """Need the package wandb; raise `MissingExtraError` without it."""
        require("wandb", "--track wandb")
        self._run: Any = None

    def begin(self, name: str, settings: Mapping[str, str | int | float | bool], text: str) -> None:
        """Begin a run in the project of WANDB_PROJECT, with its settings."""
        import wandb

        project = os.environ.get("WANDB_PROJECT", _PROJECT)
        self._run = wandb.init(project=project, name=name, config=dict(settings))

    def log(self, numbers: Mapping[str, float], exchange: int) -> None:
        """Log numbers, the exchange as their step."""
        self._run.log(dict(numbers), step=exchange)

    def finish(self, report: Path | None, failure: str = "") -> None:
        """Log the report as an artefact, and end the run."""
        import wandb

        if self._run is None:
            return
        if report is not None:
            artefact = wandb.Artifact(f"report-{self._run.id}", type="report")
            artefact.add_file(str(report))
            self._run.log_artifact(artefact)
        self._run.finish(exit_code=1 if failure else 0)


TRACKERS: dict[str, Callable[[], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MlflowTracker,
    "wandb": WandbTracker,
}


def trackers(names: Sequence[str]) -> list[Callback]:
    """Return the trackers of these names.

    Raises
    ------
    UserError
        There is none of a name, or its package is not installed: names the extra that brings it.
    """
    if unknown := [name for name in names if name not in TRACKERS]:
        raise UserError(f"--track {unknown[0]}: it must be one of {', '.join(TRACKERS)}")
    return [TRACKERS[name]() for name in dict.fromkeys(names)]

"""What a benchmark is to run: data sets x methods, each a configuration of the one algorithm.

A benchmark file is an experiment's file with some more keys::

    methods:                        # name -> settings, laid over its `method`,
                                    # which is laid over the file's own
      sheafalign: {}
      imagebind: {method: imagebind}
      equal: {method: clip-pairs, variant: equal bytes, tuned_as: clip-pairs}
      own-grid:
        maps: {family: orthogonal}
        tune: {objective.temperature: [0.1, 0.2]}   # {}: not tuned
    variants: {...}                 # made of several methods alike: see `variants`
    tune:                           # tried for every method alike, on validation events
      grid: {training.learning_rate: [0.001, 0.003]}
      settings: {training: {exchanges: 200}}
      search: grid                  # every combination; by-turns: one key after the other, the
                                    # later ones in the middle of their values, the earlier ones
                                    # at their best
      per_seed: false               # true: each seed's cells take what is best on its own
                                    # validation events; needed where these are test events of
                                    # another seed. false: all take what is best with seed 0
    quick: {training: {exchanges: 20}}   # laid over everything by --quick

    include: common/methods.yaml    # another file that this one is laid over

An entry may say `every_client: {dim: 64}` for settings of all clients, and `false` leaves out a
method of the included file. An experiment's file without `methods` is a benchmark of the one method
that it describes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sheafalign_fl.benchmark.variants import prescribed, with_variants
from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.config.load import read_content
from sheafalign_fl.config.methods import merge
from sheafalign_fl.errors import ConfigError

Scalar = float | int | str | bool
Point = Mapping[str, Scalar]
"""Dotted key -> value."""
Grid = dict[str, Annotated[list[Scalar], Field(min_length=1)]]

Search = Literal["grid", "by-turns"]

TUNING_METRICS = ("retrieval", "transfer")
CRITERION = (
    "the mean of R@10 and of zero-shot transfer by prototypes, on validation events that are test "
    "events of no seed it is used for; every method has the same grid and the same number of "
    "exchanges for it"
)


class _Tune(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    grid: Grid = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    search: Search = "grid"
    per_seed: bool = False


@dataclass(frozen=True)
class MethodPlan:
    """One method on one data set."""

    data: str
    method: str
    variant: str
    content: Mapping[str, Any]
    """Settings before validation, without the seed."""
    grid: Mapping[str, Sequence[Scalar]]
    trial_content: Mapping[str, Any]
    """Laid over `content` in tuning: usually fewer exchanges."""
    fixed: tuple[str, ...]
    """Dotted keys that the method's entry sets, for the record."""
    tuned_as: str = ""
    """Another method of the file, whose choice this one takes over instead of being tuned."""
    base: str = ""
    """The method that this is a variant of by the file's ``variants``."""
    per_seed: bool = False
    """Tuned anew for each seed."""
    search: Search = "grid"
    """How the grid's values are tried: all combinations, or key by key."""

    def points(self) -> list[dict[str, Scalar]]:
        """Return every combination of the grid's values; one empty point without a grid."""
        return [
            dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())
        ]

    @property
    def rounds(self) -> int:
        """How many times points are tried, each time knowing which of the last were best."""
        return len(self.grid) if self.search == "by-turns" and self.grid else 1

    def round(self, number: int, best: Point) -> list[dict[str, Scalar]]:
        """Return the points of one round, `best` being the best of the round before (if any)."""
        if self.rounds == 1:
            return self.points()
        turn = list(self.grid)[number]
        middle = {key: values[(len(values) - 1) // 2] for key, values in self.grid.items()}
        return [{**middle, **best, turn: value} for value in self.grid[turn]]

    def trial(self, point: Point, seed: int = 0) -> Settings:
        """Return the settings of one trial, on validation events whatever the grid says."""
        # Data without labels is measured without transfer, here as in the final runs.
        metrics = [
            name for name in TUNING_METRICS if name in self.cell(point, seed).evaluation.metrics
        ]
        measured = {"split": "validation", "metrics": metrics, "every": 0}
        return self._parsed(
            merge(self.content, self.trial_content), point, {"seed": seed, "evaluation": measured}
        )

    def cell(self, point: Point, seed: int) -> Settings:
        """Return the settings of the final run with `seed`, which must measure what a `Cell` holds.

        Raises
        ------
        ConfigError
            It would not.
        """
        settings = self._parsed(self.content, point, {"seed": seed})
        if settings.evaluation.split != "test":
            raise ConfigError(
                f"{self._name}: evaluation.split must be test; tuning alone looks at validation "
                "events"
            )
        if "retrieval" not in settings.evaluation.metrics:
            raise ConfigError(
                f"{self._name}: evaluation.metrics must have retrieval, which methods are compared "
                "by"
            )
        return settings

    @property
    def _name(self) -> str:
        return f"{self.data}, method '{self.method}'"

    def _parsed(
        self, content: Mapping[str, Any], point: Point, last: Mapping[str, Any]
    ) -> Settings:
        return parse_settings(merge(merge(content, nested(point)), last), where=self._name)


@dataclass(frozen=True)
class Plan:
    """One benchmark file: a data set and the methods to compare on it."""

    data: str
    methods: tuple[MethodPlan, ...]


def load_plan(path: Path, overrides: Sequence[str] = (), *, quick: bool = False) -> Plan:
    """Read a benchmark file and check every cell's settings.

    Raises
    ------
    ConfigError
        The file is no benchmark file, or a method's settings are wrong.
    """
    content = _with_included(path, overrides)
    methods, fast = content.pop("methods", None), content.pop("quick", {})
    variants = content.pop("variants", {})
    tune = _tune(content.pop("tune", {}), str(path))
    base = {"engine": "inprocess", "name": path.stem, **content}
    if methods is None:
        methods = {str(base["name"]): {}}
    if not isinstance(methods, dict) or not all(
        isinstance(m, dict | None) or m is False for m in methods.values()
    ):
        raise ConfigError(
            f"{path}: methods must map each method's name to its settings, or to false to leave it "
            "out"
        )
    methods = {str(name): entry or {} for name, entry in methods.items() if entry is not False}
    methods, bases = with_variants(str(path), base, methods, variants)
    bad = [
        name
        for name in methods
        if not name.isprintable() or set(name) & set("/\\") or name[:1] in ("", ".", " ")
    ]
    if bad:
        raise ConfigError(f"{path}: '{bad[0]}' cannot name a method; folders are named after it")
    if not methods:
        raise ConfigError(f"{path}: methods is empty")
    if not isinstance(fast, dict):
        raise ConfigError(f"{path}: quick must be a mapping of settings")
    plans = [
        replace(_method(str(path), base, name, entry, tune), base=bases.get(name, ""))
        for name, entry in methods.items()
    ]
    if quick:
        plans = [_quick(plan, fast) for plan in plans]
    _check_references(str(path), plans)
    for plan in plans:
        trials = [plan.trial(point).digest() for point in plan.points()]
        if len(set(trials)) < len(trials):
            raise ConfigError(
                f"{path}: methods.{plan.method}: two combinations of tune.grid are the same trial"
            )
    return Plan(str(base["name"]), tuple(plans))


def _with_included(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    content = read_content(path, overrides)
    included = content.pop("include", None)
    if included is None:
        return content
    if not isinstance(included, str):
        raise ConfigError(f"{path}: include must be the path of one file")
    return merge(read_content(path.parent / included), content)


def _method(
    where: str, base: Mapping[str, Any], name: str, entry: Mapping[str, Any], tune: _Tune
) -> MethodPlan:
    own = dict(entry)
    variant, grid, tuned_as = own.pop("variant", ""), own.pop("tune", None), own.pop("tuned_as", "")
    if not isinstance(variant, str) or not isinstance(tuned_as, str):
        raise ConfigError(f"{where}: methods.{name}: variant and tuned_as must be text")
    every_client = own.pop("every_client", {})
    if not isinstance(every_client, dict):
        raise ConfigError(
            f"{where}: methods.{name}.every_client must be a mapping of a client's settings"
        )
    if tuned_as and grid is not None:
        raise ConfigError(f"{where}: methods.{name}: give tune or tuned_as, not both")
    chosen = (
        tune.grid if grid is None else _tune({"grid": grid or {}}, f"{where}: methods.{name}").grid
    )
    return MethodPlan(
        data=str(base["name"]),
        method=name,
        variant=variant,
        content=_for_every_client(
            merge(merge(base, prescribed(own.get("method"))), own), every_client
        ),
        grid=chosen,
        trial_content=tune.settings,
        fixed=tuple(_dotted(own)),
        tuned_as=tuned_as,
        per_seed=tune.per_seed,
        search=tune.search,
    )


def _check_references(where: str, plans: Sequence[MethodPlan]) -> None:
    tuned = [plan.method for plan in plans if not plan.tuned_as]
    for plan in plans:
        if plan.tuned_as and plan.tuned_as not in tuned:
            raise ConfigError(
                f"{where}: methods.{plan.method}.tuned_as: '{plan.tuned_as}' is not tuned in this "
                "file"
            )


def _for_every_client(content: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return `content` with `settings` laid over those of each client."""
    clients = content.get("clients")
    if not settings or not isinstance(clients, dict | list):
        return content
    each = dict.fromkeys(clients) if isinstance(clients, list) else clients
    return {
        **content,
        "clients": {name: merge(client or {}, settings) for name, client in each.items()},
    }


def _quick(plan: MethodPlan, fast: Mapping[str, Any]) -> MethodPlan:
    """Return the plan with `fast` laid over it and only the first value of all that is tuned."""
    content = merge(plan.content, fast)
    training = plan.content.get("training")
    if isinstance(training, dict) and training.get("exchanges") == 0:  # the floor stays untrained
        content = merge(content, {"training": {"exchanges": 0}})
    return replace(
        plan, content=content, grid={key: values[:1] for key, values in plan.grid.items()}
    )


def _tune(content: object, where: str) -> _Tune:
    try:
        return _Tune.model_validate(content or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: tune.{key}: {first['msg']}") from None


def nested(point: Point) -> dict[str, Any]:
    """Return the settings that a point's dotted keys stand for."""
    content: dict[str, Any] = {}
    for key, value in point.items():
        *parents, last = key.split(".")
        inner: Any = value
        for part in (last, *reversed(parents)):
            inner = {part: inner}
        content = merge(content, inner)
    return content


def _dotted(content: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        keys += _dotted(value, f"{name}.") if isinstance(value, dict) and value else [name]
    return keys

"""A head on disk: a folder with `head.json` and `weights.safetensors`; no code, no event.

::

    HEAD_DIR/
      head.json             which sensors it takes, in which order, and what it answers
      weights.safetensors   the linear map, the mean of its features, and how sure it is

A head may be kept beside what it stands on: RUN/heads/NAME, or SHARE/heads/NAME of one client.
"""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator
from safetensors.numpy import load, save

from sheafalign_fl.errors import DataError
from sheafalign_fl.labels import Kind
from sheafalign_fl.shares import calibration
from sheafalign_fl.shares.facts import Facts, Texts
from sheafalign_fl.shares.folder import WEIGHTS, read_json, read_weights, replace_folder
from sheafalign_fl.shares.heads import Head, Linear
from sheafalign_fl.shares.model import Model

FORMAT: Literal[1] = 1
FACTS = "head.json"
HEADS = "heads"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,98}")
Classes = Annotated[
    tuple[str, ...] | tuple[int, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]


class HeadFacts(Facts):
    """`head.json`."""

    format: Literal[1] = FORMAT
    kind: Kind
    run_id: str
    clients: Texts
    classes: Classes
    flat: bool
    weights: str
    """SHA-256 of weights.safetensors."""


def save_head(head: Head, folder: str | Path) -> None:
    """Write a head into a folder, which is made or replaced.

    Raises
    ------
    OSError
        It cannot be written.
    """
    linear = head.linear
    content = save(
        {name: np.ascontiguousarray(getattr(linear, name)) for name in Linear.__annotations__}
    )
    facts = HeadFacts(
        kind=head.kind,
        run_id=head.run_id,
        clients=head.clients,
        classes=tuple(head.classes.tolist()),
        flat=head.flat,
        weights=hashlib.sha256(content).hexdigest(),
    )
    replace_folder(
        Path(folder), {WEIGHTS: content, FACTS: facts.model_dump_json(indent=1).encode()}
    )


def kept_head(where: Path, name: str) -> Path:
    """Return the folder of the head called `name` beside the run, or the share, at `where`.

    Raises
    ------
    DataError
        The name is none that a folder can have.
    """
    if not _NAME.fullmatch(name):
        raise DataError(f"'{name}' cannot name a head; use letters, digits, '.', '_' and '-'")
    return where / HEADS / name


def find_head(where: Path, given: Path) -> Path:
    """Return the folder of a head that is given by its folder or by the name it is kept under."""
    if (given / FACTS).is_file() or len(given.parts) != 1 or not _NAME.fullmatch(given.name):
        return given
    kept = kept_head(where, given.name)
    return kept if kept.is_dir() else given


def load_head(folder: str | Path, model: Model) -> Head:
    """Return the head that `save_head` wrote, on the shares of `model`.

    Raises
    ------
    DataError
        The folder is no head, is damaged, of a newer version or of another run; or a share that it
        takes is not in the model.
    """
    where = Path(folder)
    facts = read_json(where / FACTS, HeadFacts, "head", FORMAT)
    content = read_weights(where, FACTS, facts.weights, "; fit the head again")
    if facts.run_id not in {share.run_id for share in model.facts.values()}:
        raise DataError(f"the head {where} was fitted on embeddings of another run")
    try:
        arrays = load(content)
        linear = Linear(**arrays)
        _check_shapes(linear, sum(model[client].facts.dim for client in facts.clients), facts)
    except DataError:
        raise
    except Exception as error:  # safetensors has errors of its own
        raise DataError(f"the head {where} is damaged ({error})") from None
    classes: Any = np.array(facts.classes)
    return Head(model, facts.kind, facts.clients, classes, linear, flat=facts.flat)


def _check_shapes(linear: Linear, width: int, facts: HeadFacts) -> None:
    outputs = len(facts.classes) if facts.kind != "values" else linear.bias.shape[0]
    sensors = len(facts.clients)
    keys = 1 + max(key for key, _ in calibration.groups(sensors))
    shapes = {
        "weights": (width, outputs),
        "bias": (outputs,),
        "centre": (width,),
        "certainty": (keys, outputs),
    }
    for name, shape in shapes.items():
        array = getattr(linear, name)
        if array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
            raise ValueError(f"'{name}' is not {shape} finite numbers")

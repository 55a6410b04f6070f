"""From a share to a file that needs nothing of this library: ONNX, or torch's exported program.

::

    DESTINATION/
      CLIENT.onnx or CLIENT.pt2    from raw events to h and to z for every neighbour
      README.md                    inputs, units, outputs, and how the file is run

What is written has been run again and compared with the share itself.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sheafalign_fl.data.sequences import ended
from sheafalign_fl.errors import DataError, UserError
from sheafalign_fl.extras import require
from sheafalign_fl.files import new_folder
from sheafalign_fl.listing import is_free
from sheafalign_fl.seeding import numpy_generator
from sheafalign_fl.shares.explanation import explain
from sheafalign_fl.shares.facts import ShareFacts
from sheafalign_fl.shares.graph import Graph
from sheafalign_fl.shares.share import Share

Form = Literal["onnx", "torch"]
TOLERANCE = 1e-5
"""Largest difference from the share's own outputs, in units of the largest of them or of 1."""
INPUT = "x"
_COUNTS = (1, 2, 7)
"""Events of the batches that are compared: the batch axis has to be free."""
_SUFFIX: Mapping[Form, str] = {"onnx": ".onnx", "torch": ".pt2"}
_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")

Runner = Callable[[NDArray[np.floating]], Sequence[NDArray[np.floating]]]
"""Raw events -> the outputs of a graph, in their order."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    file
        The graph.
    size
        Its bytes.
    difference
        Largest difference from the share's own outputs, as `TOLERANCE` counts it.
    """

    file: Path
    size: int
    difference: float


def export(share: Share, form: Form, destination: Path) -> Exported:
    """Write the graph of `share` and a README to the folder `destination`, or nothing at all.

    Raises
    ------
    UserError
        `destination` is there already, and is not empty.
    DataError
        The encoder does something that the form cannot say, or the graph's outputs differ.
    MissingExtraError
        ONNX needs packages that are not installed here.
    """
    if not is_free(destination):
        raise UserError(f"{destination} is there already; give another --out")
    with new_folder(destination, public=True) as made:
        file = made / f"{share.client}{_SUFFIX[form]}"
        graph = Graph.of(share)
        run = convert(graph, form, file, _stamp(share.facts))
        worst = _compared(share, graph, run)
        text = explain(share.facts, file.name, graph, worst)
        (made / "README.md").write_text(text, encoding="utf-8")
    written = destination / file.name
    return Exported(written, written.stat().st_size, worst)


def convert(graph: Graph, form: Form, file: Path, stamp: Mapping[str, str] | None = None) -> Runner:
    """Write `graph` to `file` and return what runs the file.

    Parameters
    ----------
    stamp
        Facts that an ONNX file carries with it.

    Raises
    ------
    DataError
        The graph does something that the form cannot say.
    MissingExtraError
        ONNX needs packages that are not installed here.
    """
    if form == "onnx":
        for module in ("onnx", "onnxscript", "onnxruntime"):
            require(module, "export --to onnx")
    x = torch.zeros((2, *graph.input_shape), dtype=graph.input_dtype)
    write = _write_onnx if form == "onnx" else _write_torch
    try:
        with _quiet(), torch.no_grad():
            write(graph, x, file, stamp or {})
    except Exception as error:  # exporters raise whatever they meet
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{type(graph.encoder).__name__} cannot be exported to {form}: {reason[0][:300]}"
        ) from error
    return _onnx_runner(file) if form == "onnx" else _torch_runner(file)


def _write_onnx(graph: Graph, x: Tensor, file: Path, stamp: Mapping[str, str]) -> None:
    program: Any = torch.onnx.export(
        graph, (x,), dynamo=True, dynamic_shapes=_free(), verbose=False,
        input_names=[INPUT], output_names=list(graph.outputs),
    )  # fmt: skip
    program.model.metadata_props.update(stamp)
    program.save(str(file), external_data=False)


def _write_torch(graph: Graph, x: Tensor, file: Path, _: Mapping[str, str]) -> None:
    torch.export.save(torch.export.export(graph, (x,), dynamic_shapes=_free()), file)


def _free() -> tuple[dict[int, Any]]:
    return ({0: torch.export.Dim("batch")},)


def _onnx_runner(file: Path) -> Runner:
    import onnxruntime  # needed here alone, and by an extra

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {INPUT: x})


def _torch_runner(file: Path) -> Runner:
    module = torch.export.load(file).module()

    def run(x: NDArray[np.floating]) -> list[NDArray[np.floating]]:
        with torch.no_grad():
            return [made.numpy() for made in module(torch.from_numpy(x))]

    return run


def _compared(share: Share, graph: Graph, run: Runner) -> float:
    """Return the largest difference; raise `DataError` where it is above `TOLERANCE`."""
    worst = 0.0
    for count in _COUNTS:
        x = _events(share, graph, count)
        h = share.embed(x, check_units=False)
        maps = {} if share.facts.shared_space else share.maps
        expected = [h, *(np.asarray(share.restrict(neighbour, h)) for neighbour in maps)]
        for own, made in zip(expected, run(x), strict=True):
            worst = max(worst, difference(made, own))
    if not worst <= TOLERANCE:
        raise DataError(
            f"the exported graph of client '{share.client}' differs from the share by {worst:.3g}, "
            f"which is more than {TOLERANCE:g}; nothing was written"
        )
    return worst


def difference(made: NDArray[np.floating], own: NDArray[np.floating]) -> float:
    """Return the largest difference from `own`, in units of its largest value or of 1."""
    return float(np.abs(made - own).max()) / max(1.0, float(np.abs(own).max()))


def _events(share: Share, graph: Graph, count: int) -> NDArray[np.floating]:
    """Return raw events of the size that training saw."""
    rng = numpy_generator(0, "export", share.client, count)
    x = rng.normal(size=(count, *graph.input_shape)) * np.mean(share.facts.input_range)
    if share.facts.unequal:  # of all lengths, the longest first
        ends = np.linspace(x.shape[2], 1, count).astype(np.int64)
        x = ended(x, ends, "export")
    if share.scaling is None:
        return x.astype(share.facts.dtype)
    raw: NDArray[np.float64] = x * share.scaling.scale.mean() + share.scaling.mean.mean()
    return raw


def _stamp(facts: ShareFacts) -> dict[str, str]:
    return {
        "client": facts.client, "run": facts.run, "run_id": facts.run_id,
        "training_digest": facts.training_digest, "share": facts.digest,
    }  # fmt: skip


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep exporters from telling of their own affairs; what a user has to know is raised."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)

"""Bad input gets one clear line and exit code 2, and leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from experiments.own_data.make_recordings import make_recordings
from sheafalign_fl.cli import app
from sheafalign_fl.encoders import ENCODERS
from sheafalign_fl.engines import launch
from sheafalign_fl.errors import SheafAlignError
from tests.system.command import sheafalign

Content = dict[str, Any]


def content(folder: Path) -> Content:
    """Return a good configuration on good recordings in `folder`."""
    make_recordings(folder / "recordings", events=300)
    return {
        "name": "bad-input",
        "engine": "inprocess",
        "data": {"source": "folder", "options": {"path": "recordings"}},
        "clients": {"microphone": {"dim": 16}, "thermal": {"dim": 16}, "controller": {"dim": 16}},
        "graph": {"topology": "complete", "dim": 8},
        "training": {"exchanges": 2, "batch_size": 32},
    }


def rewrite(folder: Path, modality: str, **arrays: Any) -> None:
    """Replace arrays of one modality's file."""
    path = folder / "recordings" / f"{modality}.npz"
    with np.load(path) as file:
        old = {name: file[name] for name in file.files}
    np.savez(
        path, **{name: value for name, value in {**old, **arrays}.items() if value is not None}
    )


def array(folder: Path, modality: str, name: str) -> Any:
    with np.load(folder / "recordings" / f"{modality}.npz") as file:
        return file[name]


def edges(*pairs: tuple[Any, ...]) -> Content:
    return {
        "topology": "edges",
        "edges": [
            {"between": list(pair[:2]), **({"dim": pair[2]} if len(pair) > 2 else {})}
            for pair in pairs
        ],
    }


def _set(**sections: Any) -> Callable[[Path, Content], None]:
    def change(_: Path, settings: Content) -> None:
        for name, value in sections.items():
            if (
                isinstance(value, dict)
                and isinstance(settings.get(name), dict)
                and name not in ("graph", "clients")
            ):
                settings[name].update(value)
            else:
                settings[name] = value

    return change


def _nan(folder: Path, _: Content) -> None:
    x = array(folder, "thermal", "x").copy()
    x[7, 0, 3, 3] = np.nan
    rewrite(folder, "thermal", x=x)


def _wrong_shape(folder: Path, _: Content) -> None:
    rewrite(folder, "controller", x=array(folder, "controller", "x")[:, 0])


def _duplicate_ids(folder: Path, _: Content) -> None:
    ids = array(folder, "microphone", "event_id").copy()
    ids[1] = ids[0]
    rewrite(folder, "microphone", event_id=ids)


def _other_events(folder: Path, _: Content) -> None:
    ids = array(folder, "thermal", "event_id")
    rewrite(folder, "thermal", event_id=np.array([f"other-{event}" for event in ids]))


def _no_labels(folder: Path, settings: Content) -> None:
    settings["evaluation"] = {"metrics": ["transfer", "probe"]}
    for modality in ("microphone", "thermal", "controller"):
        rewrite(folder, modality, label=None)


def _objects(folder: Path, _: Content) -> None:
    np.savez(
        folder / "recordings" / "thermal.npz",
        x=np.array([{"a": 1}], dtype=object),
        event_id=np.array([1]),
    )


def _missing_file(folder: Path, _: Content) -> None:
    (folder / "recordings" / "thermal.npz").unlink()


def _garbage_file(folder: Path, _: Content) -> None:
    (folder / "recordings" / "thermal.npz").write_bytes(b"not a zip file at all")


THREE: Content = {"microphone": {}, "thermal": {}, "controller": {}}
CASES: dict[str, tuple[Callable[[Path, Content], None], str]] = {
    "unknown key": (_set(trainig={}), "unknown key 'trainig'; did you mean 'training'"),
    "unknown nested key": (_set(training={"batchsize": 3}), "did you mean 'batch_size'"),
    "wrong type": (_set(training={"exchanges": "many"}), "training.exchanges"),
    "edge to unknown client": (
        _set(graph=edges(("microphone", "thermall"))),
        "did you mean 'thermal'",
    ),
    "disconnected": (_set(graph=edges(("microphone", "thermal"))), "not connected"),
    "self-loop": (_set(graph=edges(("thermal", "thermal"))), "self-loop"),
    "duplicate edge": (
        _set(
            graph=edges(
                ("thermal", "controller"), ("controller", "thermal"), ("thermal", "microphone")
            )
        ),
        "given twice",
    ),
    "d_e below 1": (_set(graph={"topology": "ring", "dim": 0}), "graph.dim"),
    "d_e of an edge below 1": (_set(graph=edges(("thermal", "controller", 0))), "graph.edges"),
    "no shared events": (_other_events, "no shared training events"),
    "missing folder": (_set(data={"options": {"path": "nowhere"}}), "there is no folder"),
    "missing file": (_missing_file, "no thermal.npz"),
    "no npz file": (_garbage_file, "thermal.npz"),
    "pickled objects": (_objects, "thermal.npz"),
    "NaN": (_nan, "NaN or infinity in 1 of"),
    "wrong shape": (_wrong_shape, "controller"),
    "duplicate event ids": (_duplicate_ids, "more than once"),
    "labels absent": (_no_labels, "need labels"),
    "unknown label": (_set(evaluation={"label": "colour"}), "no client has a label 'colour'"),
    "batch larger than shared": (_set(training={"batch_size": 4096}), "make the batch smaller"),
    "unknown encoder": (
        _set(clients={**THREE, "thermal": {"encoder": "imagee"}}),
        "did you mean 'image'",
    ),
    "encoder for another shape": (
        _set(clients={**THREE, "thermal": {"encoder": "signal"}}),
        "takes inputs (C, T)",
    ),
    "encoder that cannot be imported": (
        _set(clients={**THREE, "thermal": {"encoder": "no.such.module:build"}}),
        "cannot be imported",
    ),
    "unknown encoder option": (
        _set(clients={**THREE, "thermal": {"encoder_options": {"depht": 3}}}),
        "client 'thermal': encoder",
    ),
    "unknown codec": (_set(codec="float31"), "did you mean 'float32'"),
    "seed that is no integer": (_set(seed=1.5), "'seed'"),
    "unknown source": (_set(data={"source": "folderr"}), "did you mean 'folder'"),
    "unknown option of a source": (
        _set(data={"options": {"path": "recordings", "tset": 0.5}}),
        "did you mean 'test'",
    ),
    "identity maps of unequal dimensions": (
        _set(maps={"family": "identity"}),
        "identity maps need d_e = d_i",
    ),
    "too many neighbours": (
        _set(graph={"topology": "small-world", "neighbours": 4}),
        "small-world",
    ),
    "cuda that is not there": (_set(clients={**THREE, "thermal": {"device": "cuda"}}), "CUDA"),
    "more processors than there are": (_set(resources={"cpus": 4096}), "resources.cpus is 4096"),
    "more GPUs than there are": (_set(resources={"gpus": 4096}), "resources.gpus is 4096"),
    "one client": (_set(clients=["thermal"]), "at least two clients"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_before_anything_is_written(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, message = CASES[case]
    settings = content(tmp_path)
    change(tmp_path, settings)
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "run_inprocess", None)
    before = sorted(tmp_path.rglob("*"))
    if case == "cuda that is not there":
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SheafAlignError) as caught:
        app(["run", "experiment.yaml", "--out", "result"], standalone_mode=False)
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert caught.value.exit_code == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_the_good_configuration_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(content(tmp_path)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    app(["check", "experiment.yaml"], standalone_mode=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml"], "error: no configuration at nowhere.yaml"),
        (
            ["run"],
            "error: give a configuration, --resume RUN_DIR or --attach RUN_DIR, and one only",
        ),
        (["run", "--resume", "nowhere"], "error: nowhere is no run folder"),
        (
            ["check", "experiments/quickstart.yaml", "--set", "seed"],
            "error: --set seed: write it as",
        ),
        (["report", "nowhere"], "error: "),
        (["data", "describe", "watcj"], "did you mean 'watch'"),
    ],
)
def test_the_command_prints_one_line_and_exits_with_2(arguments: list[str], message: str) -> None:
    done = sheafalign(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.slow
def test_the_list_of_encoders_names_each_with_its_input_and_times() -> None:
    done = sheafalign("encoders", "--batch", "2")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    for name, info in ENCODERS.items():
        assert " × ".join(map(str, info.example)) in rows[name], name
    refused = sheafalign("encoders", "--batch", "0")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_a_folder_that_is_not_empty_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine", encoding="utf-8")
    done = sheafalign(
        "run", "experiments/quickstart.yaml", "--engine", "inprocess",
        "--set", "data.options.events=2000",
        "--out", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]

"""Events of unequal length, from recordings to an exported graph: padding changes nothing."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi import HTTPException
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

import sheafalign_fl as sf
from sheafalign_fl.cli.commands import app
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.data.sequences import padded
from sheafalign_fl.deploy import share_service
from sheafalign_fl.deploy.bounded import Limits
from sheafalign_fl.deploy.share_service import Asked, Events, ShareService
from sheafalign_fl.encoders.sequences import SequenceEncoder
from sheafalign_fl.learner.embedder import embedded
from sheafalign_fl.shares.export import export
from sheafalign_fl.shares.files import read_events
from sheafalign_fl.threads import torch_threads
from strategies import server_app

EVENTS, LONGEST = 240, 40


def with_mask(event: NDArray[np.float64], steps: int) -> torch.Tensor:
    made = np.zeros((len(event) + 1, steps))
    made[:-1, : event.shape[1]] = event
    made[-1, : event.shape[1]] = 1
    return torch.from_numpy(made)


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    padding=st.integers(0, 70),
    kernel=st.sampled_from([1, 3, 5, 7]),
    grid=st.integers(1, 9),
    depth=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_an_embedding_depends_on_the_event_alone(
    lengths: list[int], padding: int, kernel: int, grid: int, depth: int
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(len(lengths) + padding)
        encoder = SequenceEncoder((4, 50), 5, widths=(8,) * depth, kernel=kernel, grid=grid)
    encoder.double().eval()
    rng = np.random.default_rng(sum(lengths))
    events = [rng.normal(size=(3, length)) for length in lengths]
    with torch.no_grad():
        alone = [encoder(with_mask(event, event.shape[1])[None])[0] for event in events]
        steps = max(lengths) + padding
        order = rng.permutation(len(events))
        together = encoder(torch.stack([with_mask(events[row], steps) for row in order]))
    for place, row in enumerate(order):
        assert (together[place] - alone[row]).abs().max() <= 1e-12


def test_what_lies_behind_an_end_has_no_gradient() -> None:
    encoder = SequenceEncoder((3, 20), 4).double()
    x = torch.randn(2, 3, 20, dtype=torch.float64)
    x[0, -1], x[1, -1] = 1, (torch.arange(20) < 7).double()
    x.requires_grad_()
    encoder(x).square().sum().backward()
    assert x.grad is not None
    assert (x.grad[0, :2] != 0).all()
    assert (x.grad[1, :2, 7:] == 0).all()
    assert (x.grad[1, :2, :7] != 0).any()


def sequences() -> dict[str, Any]:
    """Return gestures of unequal length, and a camera that sees the same."""
    rng = np.random.default_rng(3)
    latent = rng.normal(size=(EVENTS, 3))
    lengths = rng.integers(5, LONGEST + 1, EVENTS)
    lengths[0] = LONGEST
    imu = [
        1000 + 9.81 * np.stack([np.sin(np.arange(n) / 4 + z) for z in row])
        for n, row in zip(lengths, latent, strict=True)
    ]
    camera = np.tanh(latent @ rng.normal(size=(3, 12)))
    split = np.repeat(["train", "validation", "test"], [160, 30, 50])
    return {"x": {"imu": imu, "camera": camera}, "label": latent[:, 0] > 0, "split": split}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, made = tmp_path_factory.mktemp("sequences"), sequences()
    data = sf.save_arrays(
        folder / "recordings", made["x"], labels=made["label"].astype(int), split=made["split"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_app, "draw_report", lambda _: None)
        sf.run(
            {
                "data": data,
                "clients": {"imu": {"dim": 12}, "camera": {"dim": 8}},
                "graph": {"dim": 6},
                "engine": "inprocess",
                "training": {"exchanges": 60, "batch_size": 32, "learning_rate": 0.003},
                "evaluation": {"every": 0, "metrics": ["retrieval"]},
            },
            folder / "run",
        )
    return folder


def test_files_hold_plain_arrays_and_scaling_sees_samples_alone(trained: Path) -> None:
    path, imu = trained / "recordings/imu.npz", sequences()["x"]["imu"]
    with np.load(path, allow_pickle=False) as file:
        assert {"x", "length"} <= set(file.files)
        assert file["length"].tolist() == [event.shape[1] for event in imu]
    options = {"path": str(path.parent)}
    data = load_modality("folder", "imu", 0, options, "imu")
    assert data.unequal
    assert data.input_shape == (4, LONGEST)
    assert data.scaling is not None
    train = np.concatenate(imu[:160], axis=1)
    assert np.allclose(data.scaling.mean[:, 0], train.mean(axis=1))
    assert np.allclose(data.scaling.scale[:, 0], train.std(axis=1))
    assert np.array_equal(data.x[:, -1].sum(axis=1), [event.shape[1] for event in imu])
    assert (data.x[data.x[:, -1:].repeat(4, axis=1) == 0] == 0).all()


def test_a_share_takes_lists_arrays_files_and_json_to_the_same_bits(
    trained: Path, tmp_path: Path
) -> None:
    model, events = sf.load_model(trained / "run"), sequences()["x"]["imu"][-50:]
    share = model["imu"]
    assert share.facts.format == 2
    assert model["camera"].facts.format == 1
    h = share.embed(events)
    nan = np.full((50, 3, LONGEST - 3), np.nan)
    short = [event[:, : LONGEST - 3] for event in events]
    for row, event in enumerate(short):
        nan[row, :, : event.shape[1]] = event
    assert np.array_equal(share.embed(nan), share.embed(short))
    length = np.array([event.shape[1] for event in events])
    filled = np.full((50, 3, LONGEST), 7e9)
    for row, event in enumerate(events):
        filled[row, :, : length[row]] = event
    np.savez(tmp_path / "imu.npz", x=filled, length=length)
    assert np.array_equal(share.embed(read_events(tmp_path / "imu.npz").given("imu")), h)
    asked = Asked(x=[event.tolist() for event in events])
    service = ShareService(share, Limits())
    answer = service.compare("camera", asked)
    assert np.array_equal(np.float32(answer["z"]), np.asarray(share.restrict("camera", h)))
    # One long event among many short ones would take gigabytes if it was padded to.
    long = [[[1.0] * 1_000_000] * 3, *([[[1.0]] * 3] * 20_000)]
    with pytest.raises(sf.DataError, match="an event has 1000000 samples; it takes 40"):
        service.embed(Events(x=long))
    found = model.search(("camera", sequences()["x"]["camera"][-50:]), ("imu", events), k=10)
    hits = (found.rows == np.arange(50)[:, None]).any(axis=1).mean()
    assert hits > 0.4  # of 50, chance is 0.2


def test_a_service_pads_no_more_than_a_body_of_equal_events_could_hold(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many events of one sample each were padded to the longest of training, whatever that took."""
    sizes = []

    def watched(*given: Any) -> Any:
        sizes.append((made := padded(*given)).size)
        return made

    monkeypatch.setattr(share_service, "padded", watched)
    service = ShareService(sf.load_model(trained / "run")["imu"], Limits(body_bytes=20_000))
    long, short = [[1000.0] * LONGEST] * 3, [[1000.0]] * 3
    for first in (long, short):
        with pytest.raises(HTTPException) as refused:
            service.embed(Events(x=[first, *[short] * 99]))
        assert refused.value.status_code == 413
        assert "are 12000, at most 10000: ask for 83 events" in refused.value.detail
    assert sizes == []
    assert len(service.embed(Events(x=[long, *[short] * 82]))["embedding"]) == 83
    assert sizes == [83 * 3 * LONGEST]


@pytest.mark.parametrize("form", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
def test_an_exported_graph_takes_nan_behind_ends(trained: Path, tmp_path: Path, form: Any) -> None:
    share = sf.load_model(trained / "run")["imu"]
    done = export(share, form, tmp_path / form)  # compares events of several lengths
    assert done.difference <= 1e-5
    assert "NaN stands behind the end" in (tmp_path / form / "README.md").read_text()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([np.ones((3, 4)), np.ones((2, 4))], "event 1 has 2 channels, the first has 3"),
        ([np.ones((3, 4)), np.ones((3, 0))], "event 1 has shape"),
        ([np.ones((3, LONGEST + 1))], "an event has 41 samples; it takes 40 or fewer"),
        (np.ones((1, 3, LONGEST + 1)), "or shorter, with NaN behind their ends"),
        (np.full((1, 3, 9), np.nan), "NaN stands behind the end alone"),
        (np.insert(np.ones((1, 3, 9)), 4, np.nan, axis=2), "NaN stands behind the end alone"),
    ],
)
def test_sequences_that_cannot_be_are_refused(trained: Path, x: Any, message: str) -> None:
    with pytest.raises(sf.DataError, match=message):
        sf.load_model(trained / "run")["imu"].embed(x, check_units=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": np.full(EVENTS, LONGEST + 1)}, "length of row 0 is 41, not 1 to 40"),
        ({"length": np.ones(3, dtype=int)}, "one whole number for each of the 240 events"),
        ({"length": np.ones(EVENTS)}, "one whole number for each"),
        ({"x": np.ones((EVENTS, 3))}, r"for x of shape \(N, C, T\), channels first"),
        ({"options": {"window": 2}}, "leave data.options.layout and window out"),
        ({"client": {"encoder": "signal"}}, "would take padding for samples.*use 'sequence'"),
        ({"other": {"encoder": "sequence"}}, "is for events of unequal length"),
    ],
)
def test_recordings_that_cannot_be_are_refused(
    trained: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    for name in ("imu", "camera"):
        with np.load(trained / f"recordings/{name}.npz", allow_pickle=False) as file:
            arrays: dict[str, Any] = {key: file[key] for key in file.files}
        arrays |= {k: v for k, v in change.items() if k in arrays and name == "imu"}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    options = change.get("options", {})
    data = {"source": "folder", "path": str(tmp_path), "options": options}
    other = {**change.get("other", {})}
    clients = {"imu": change.get("client", {}), "camera": other}
    with pytest.raises((sf.DataError, sf.ConfigError), match=message):
        sf.check({"data": data, "clients": clients})


def test_a_folder_of_files_that_differ_in_length_is_such_a_recording(
    trained: Path, tmp_path: Path
) -> None:
    events = sequences()["x"]["imu"][-6:]
    (tmp_path / "imu").mkdir()
    for row, event in enumerate(events):
        np.save(tmp_path / f"imu/{row}.npy", event)
    read = read_events(tmp_path / "imu")
    share = sf.load_model(trained / "run")["imu"]
    assert np.array_equal(share.embed(read.given("imu")), share.embed(events))
    assert read.ids.tolist() == list(range(6))
    np.save(tmp_path / "imu/6.npy", np.ones((2, 9)))
    with pytest.raises(sf.DataError, match=r"6.npy: has shape \(2, 9\), but 0.npy has"):
        read_events(tmp_path / "imu")


def test_no_object_is_ever_read(tmp_path: Path) -> None:
    ragged = np.empty(2, dtype=object)
    ragged[:] = [np.ones((3, 4)), np.ones((3, 5))]
    np.savez(tmp_path / "imu.npz", x=ragged)
    assert zipfile.is_zipfile(tmp_path / "imu.npz")
    with pytest.raises(sf.DataError, match="holds Python objects"):
        read_events(tmp_path / "imu.npz")


# ---- windows of long recordings ------------------------------------------------------------------


def test_windows_cut_from_a_file_are_those_of_training_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_app, "draw_report", lambda _: None)
    rng = np.random.default_rng(5)
    walk = np.cumsum(rng.normal(size=(700, 3)), axis=0)
    x = {name: 50 + walk @ rng.normal(size=(3, 4)) for name in ("imu", "other")}
    ids = np.delete(np.arange(730), np.arange(200, 230))  # a gap, which no window crosses
    sequence = np.repeat(np.arange(10), 70)
    options = {"window": 8, "stride": 4}
    data = sf.save_arrays(tmp_path / "recordings", x, event_id=ids, **options)
    for name, values in x.items():
        file = tmp_path / f"recordings/{name}.npz"
        np.savez(file, x=values, event_id=ids, sequence=sequence)
    sf.run(
        {
            "data": data,
            "clients": {"imu": {"dim": 8}, "other": {"dim": 8}},
            "graph": {"dim": 4},
            "engine": "inprocess",
            "training": {"exchanges": 5, "batch_size": 16},
            "evaluation": {"every": 0, "metrics": ["retrieval"]},
        },
        tmp_path / "run",
    )
    share = sf.load_model(tmp_path / "run")["imu"]
    trained_on = load_modality("folder", "imu", 0, {"path": data["path"], **options}, "imu")
    words = ["embed", str(tmp_path / "run"), f"imu={tmp_path}/recordings/imu.npz"]
    out = ["--out", str(tmp_path / "h.npz")]
    cutting = ["--window", "8", "--stride", "4"]
    done = CliRunner().invoke(app, [*words, *out, *cutting], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "h.npz") as made:
        # A split divides no sequence, so these are the same windows.
        assert np.array_equal(np.sort(made["event_id"]), np.sort(trained_on.event_ids))
        rows = np.argsort(trained_on.event_ids)[np.argsort(np.argsort(made["event_id"]))]
        with torch_threads(share.threads):
            h = embedded(share.encoder, lambda r: share.tensor(trained_on.x[rows[r]]), len(rows), 8)
        assert np.array_equal(made["h"], h)
    for wrong, line in (
        (["--stride", "4"], "--stride goes with --window"),
        (["--window", "90"], "no 90 samples follow each other"),
        (["--window", "9", "--stride", "4"], "x has shape"),
    ):
        with pytest.raises(sf.SheafAlignError, match=line):
            CliRunner().invoke(app, [*words, *out, *wrong], catch_exceptions=False)

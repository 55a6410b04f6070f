"""The command line: files in the sensor's own units in, tables out; one line for what is wrong."""

import csv
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

import sheafalign_fl as sf
from sheafalign_fl.cli.commands import app
from sheafalign_fl.deploy.bounded import Limits
from sheafalign_fl.deploy.share_service import Events, ShareService
from sheafalign_fl.errors import SheafAlignError
from sheafalign_fl.shares.inputs import UnitsWarning
from sheafalign_fl.shares.share import Share
from tests.shares.conftest import Recorded

CLIENTS = ("camera", "imu", "thermometer")


@pytest.fixture
def files(recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with the test events of every client; two of them in another order."""
    monkeypatch.chdir(tmp_path)
    rows = recorded.rows("test")
    order = np.random.default_rng(0).permutation(len(rows))
    for name in CLIENTS:
        mixed = rows if name == "camera" else rows[order]
        np.savez(tmp_path / f"{name}.npz", x=recorded.x[name][mixed], event_id=mixed)
        train = recorded.rows("train")
        np.savez(
            tmp_path / f"{name}-train.npz",
            x=recorded.x[name][train],
            event_id=train,
            label=recorded.label[train],
        )
    return tmp_path


def run(*words: object) -> str:
    """Run a command and return what it printed."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*words: object) -> str:
    """Return the one line that a command is refused with."""
    with pytest.raises(SheafAlignError) as caught:
        CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_only_what_to_be_careful_of_becomes_a_line(
    recorded: Recorded, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other warnings, which a command had swallowed, are warnings still."""
    embed = Share.embed

    def warning(self: Share, *given: Any, **options: Any) -> Any:
        warnings.warn("from elsewhere", RuntimeWarning, stacklevel=1)
        warnings.warn("an odd reading", UnitsWarning, stacklevel=1)
        return embed(self, *given, **options)

    monkeypatch.setattr(Share, "embed", warning)
    with pytest.warns(RuntimeWarning, match="from elsewhere") as caught:
        told = run("embed", recorded.path, "camera=camera.npz", "--out", files / "h.npz")
    assert "careful: an odd reading" in told
    assert {one.category for one in caught} == {RuntimeWarning}
    share = sf.load_model(recorded.path)["camera"]
    x = recorded.raw("camera", "test")[:2].tolist()
    with pytest.warns(RuntimeWarning, match="from elsewhere") as caught:
        answer = ShareService(share, Limits()).embed(Events(x=x))
    assert answer["careful"] == ["an odd reading"]
    assert {one.category for one in caught} == {RuntimeWarning}


def test_embed_writes_h_and_z_that_search_and_impute_take(recorded: Recorded, files: Path) -> None:
    model, rows = sf.load_model(recorded.path), recorded.rows("test")
    told = run("embed", recorded.path, "camera=camera.npz", "--out", "h.npz")
    assert "160 events, h of 16 values" in told
    with np.load(files / "h.npz") as made:
        assert made["h"].tobytes() == model["camera"].embed(recorded.x["camera"][rows]).tobytes()
        assert (made["event_id"] == rows).all()
    run("search", recorded.path, "camera=h.npz", "imu=imu.npz", "-k", 3, "--out", "a.csv")
    run("search", recorded.path, "camera=camera.npz", "imu=imu.npz", "-k", 3, "--out", "b.csv")
    assert (files / "a.csv").read_bytes() == (files / "b.csv").read_bytes()
    with (files / "a.csv").open() as file:
        table = list(csv.DictReader(file))
    x, y = recorded.x["camera"][rows], recorded.x["imu"][rows]
    found = model.search(("camera", x), ("imu", y), k=3)
    assert [int(row["found"]) for row in table] == rows[found.rows.ravel()].tolist()
    assert [row["rank"] for row in table[:4]] == ["1", "2", "3", "1"]
    run("embed", recorded.path, "imu=imu.npz", "--out", "z.npz")
    words = ("impute", recorded.path, "thermometer", "camera=h.npz")
    told = run(*words, "imu=z.npz", "--out", "t.npz")
    assert "of the training mean" in told
    raw = {"camera": x, "imu": y}
    with np.load(files / "t.npz") as made:
        assert np.allclose(made["h"], model.impute("thermometer", raw).values, atol=1e-5)
        assert (made["event_id"] == rows).all()


def test_events_are_matched_by_id(recorded: Recorded, files: Path) -> None:
    half = recorded.rows("test")[::2]
    np.savez(files / "half.npz", x=recorded.x["imu"][half], event_id=half)
    words = ("classify", recorded.path, "camera=camera.npz", "imu=half.npz")
    fit = [word for name in CLIENTS for word in ("--fit", f"{name}={name}-train.npz")]
    told = run(*words, *fit, "--save", "head", "--out", "c.parquet")
    assert "80 events, answered from camera, imu" in told
    table = pyarrow.parquet.read_table(files / "c.parquet").to_pydict()
    assert table["event_id"] == half.tolist()
    assert set(table) == {"event_id", "answer", "p_0", "p_1", "p_2", "p_3"}
    right = np.mean(np.array(table["answer"]) == recorded.label[half])
    assert right > 0.6
    run(*words, *fit, "--keep", "street", "--out", "kept.parquet")
    for head, name in (("head", "again"), ("street", "kept-again")):
        run(*words, "--head", head, "--out", f"{name}.parquet")
        assert pyarrow.parquet.read_table(files / f"{name}.parquet").to_pydict() == table
    assert (recorded.path / "heads" / "street" / "head.json").is_file()


def test_several_labels_and_values_have_columns_of_their_own(
    recorded: Recorded, files: Path
) -> None:
    x, rows = recorded.raw("camera", "train"), recorded.rows("train")
    several = np.stack([recorded.label[rows] % 2, recorded.label[rows] // 2], axis=1)
    np.savez(files / "l.npz", x=x, label_tags=several, label_heat=several @ [1.5, 0.2])
    words = ("classify", recorded.path, "camera=l.npz", "--fit", "camera=l.npz", "--label")
    run(*words, "tags", "--out", "tags.npz")
    with np.load(files / "tags.npz") as found:
        assert set(found) == {"event_id", "answer", "p_0", "p_1"}
        assert found["answer"].shape == several.shape
        assert np.array_equal(found["answer"][:, 1], found["p_1"] > 0.5)
        assert (found["answer"] == several).mean() > 0.8
    told = run(*words, "heat", "--out", "heat.csv")
    assert "answered from camera, to 0." in told
    assert (files / "heat.csv").read_text().splitlines()[0] == "event_id,answer"


def test_tables_and_bare_arrays_are_read(recorded: Recorded, files: Path) -> None:
    x = recorded.raw("thermometer", "test")
    np.save(files / "bare.npy", x)
    lines = [",".join(f"v{k}" for k in range(6)), *(",".join(map(repr, row)) for row in x.tolist())]
    (files / "table.csv").write_text("\n".join(lines) + "\n")
    for name in ("bare.npy", "table.csv"):
        run("embed", recorded.path, f"thermometer={name}", "--out", f"{name}.npz")
    with np.load(files / "bare.npy.npz") as one, np.load(files / "table.csv.npz") as other:
        assert one["h"].tobytes() == other["h"].tobytes()


def test_a_run_without_shares_gets_them_where_its_data_is(
    recorded: Recorded, tmp_path: Path
) -> None:
    old = Path(shutil.copytree(recorded.path, tmp_path / "old"))
    shutil.rmtree(old / "shares")
    np.save(tmp_path / "x.npy", recorded.raw("camera", "test"))
    words = ("embed", old, f"camera={tmp_path / 'x.npy'}", "--out", tmp_path / "h.npz")
    assert "sheafalign share" in refused(*words)
    run("share", old)
    before, after = sf.load_model(recorded.path), sf.load_model(old)
    assert list(after) == list(CLIENTS)
    raw = {name: recorded.raw(name, "test") for name in CLIENTS}
    for name in CLIENTS:
        assert after[name].embed(raw[name]).tobytes() == before[name].embed(raw[name]).tobytes()
    # Fitted on all training events with the final weights, it is no worse than in the run.
    present = {name: raw[name] for name in CLIENTS if name != "camera"}
    assert after["camera"].imputation is not None
    assert after["camera"].imputation.events == 360
    new, old_error = after.impute("camera", present), before.impute("camera", present)
    assert new.unexplained <= old_error.unexplained * 1.05


def test_a_share_cannot_be_made_where_weights_or_data_are_elsewhere(
    recorded: Recorded, tmp_path: Path
) -> None:
    deployed = Path(shutil.copytree(recorded.path, tmp_path / "deployed"))
    (deployed / "checkpoints/000040/imu.safetensors").unlink()
    assert "no weights of client 'imu'" in refused("share", deployed)
    shutil.rmtree(deployed / "checkpoints")
    assert "a checkpoint of 0 of 40 exchanges" in refused("share", deployed)
    assert "there is no folder" in refused("share", recorded.path, "--data", tmp_path / "moved")


# ---- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("embed RUN camera=none.npz --out h.npz", "there is no file none.npz"),
        ("embed RUN camera --out h.npz", "write CLIENT=FILE"),
        ("embed RUN radar=camera.npz --out h.npz", "'radar' is not here; these are: camera, imu"),
        ("embed RUN imu=camera.npz --out h.npz", "events of the modality 'imu' are (N, 3, 16)"),
        ("embed RUN imu=nan.npz --out h.npz", "holds NaN or infinity (first: row 1)"),
        ("embed RUN imu=units.npz --out h.npz", "give raw values in the units that it read"),
        ("embed RUN imu=text.npz --out h.npz", "none of real numbers"),
        ("embed RUN imu=damaged.npz --out h.npz", "is no readable .npz file"),
        ("embed RUN imu=damaged.npy --out h.npz", "is no readable .npy file"),
        ("embed RUN imu=imu.npz --out h.txt", "has to end in .npz, .csv, .parquet"),
        ("embed none imu=imu.npz --out h.npz", "none is no folder"),
        ("search RUN camera=camera.npz imu=empty.npz --out h.npz", "the gallery of 'imu' is empty"),
        ("search RUN camera=camera.npz imu=imu.npz --measure l2 --out h.npz", "cosine or dot"),
        ("search RUN camera=foreign.npz imu=imu.npz --out h.npz", "is of another run"),
        ("impute RUN imu camera=foreign.npz --out h.npz", "is of another run"),
        ("impute RUN imu camera=narrow.npz --out h.npz", "z has shape (4, 5), not (N, 6)"),
        ("impute RUN imu camera=label.npz --out h.npz", "holds no array x or 'z_imu'"),
        ("impute RUN radar camera=camera.npz --out h.npz", "'radar' is not here"),
        ("impute RUN imu camera=camera.npz --method magic --out h.npz", "ridge, dual or mean"),
        ("impute RUN imu imu=imu.npz --out h.npz", "shares no space with 'imu'"),
        ("impute RUN imu camera=camera.npz camera=camera.npz --out h.npz", "given twice"),
        ("impute RUN imu camera=camera.npz thermometer=later.npz --out h.npz", "no event is in"),
        ("classify RUN camera=camera.npz --out h.npz", "give --fit CLIENT=FILE"),
        ("classify RUN camera=camera.npz --fit camera=camera.npz --out h.npz", "which labels?"),
        ("classify RUN camera=camera.npz --head . --out h.npz", "is no head"),
        ("classify RUN camera=camera.npz --head . --save x --out h.npz", "leave it out"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(
    recorded: Recorded, files: Path, words: str, message: str
) -> None:
    imu = recorded.raw("imu", "test")
    bad = imu.copy()
    bad[1] = np.nan
    z = np.ones((4, 6), dtype=np.float32)
    np.savez(files / "nan.npz", x=bad)
    np.savez(files / "units.npz", x=1000 * imu)
    np.savez(files / "text.npz", x=np.full((2, 3, 16), "a"))
    np.savez(files / "empty.npz", x=imu[:0])
    np.savez(files / "foreign.npz", z_imu=z, client="camera", run="f" * 32)
    np.savez(files / "narrow.npz", z_imu=z[:, :5])
    np.savez(files / "label.npz", label=np.ones(3))
    np.savez(files / "later.npz", x=recorded.raw("thermometer", "test"), event_id=np.arange(160))
    (files / "damaged.npz").write_bytes(b"PK")
    (files / "damaged.npy").write_bytes(b"x")
    before = sorted(path.name for path in files.iterdir())
    told = refused(*(recorded.path if word == "RUN" else word for word in words.split()))
    assert message in told
    assert sorted(path.name for path in files.iterdir()) == before


def test_a_share_without_its_maps_or_imputation_says_so(recorded: Recorded, files: Path) -> None:
    from tests.shares.test_share import change, resign

    folder = Path(shutil.copytree(recorded.path / "shares", files / "shares"))
    change(folder / "imu", dual=False, imputation=None, digest="")
    resign(folder / "imu")
    words = ("impute", folder, "imu", "camera=camera.npz", "--out", "h.npz")
    assert "has no imputation: too little came from its neighbours" in refused(*words)
    content = json.loads((recorded.path / "shares/imu/share.json").read_bytes())
    change(folder / "imu", imputation=content["imputation"], digest="")
    resign(folder / "imu")
    assert "has no trained dual maps" in refused(*words, "--method", "dual")


@pytest.mark.slow
def test_a_process_ends_with_2_and_one_line(recorded: Recorded, tmp_path: Path) -> None:
    program = str(Path(sys.executable).parent / "sheafalign")
    words = [program, "embed", str(recorded.path), "camera=none.npz", "--out", "h.npz"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: there is no file none.npz"]
    assert list(tmp_path.iterdir()) == []

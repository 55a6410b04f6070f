"""A share: what is in it, that raw values give the same bits, and how a bad one is refused."""

import json
import shutil
import stat
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import sheafalign_fl as sf
from sheafalign_fl.cli.commands import app
from sheafalign_fl.config.policy import STRICT, under
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.shares import folder as share_folder
from sheafalign_fl.shares.facts import FORMAT
from sheafalign_fl.shares.folder import read_facts
from sheafalign_fl.shares.inputs import UnitsWarning
from tests.shares.conftest import Recorded

CLIENTS = ("camera", "imu", "thermometer")


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_raw_values_give_the_embeddings_of_evaluation_to_the_bit(
    recorded: Recorded, client: str, split: str
) -> None:
    expected, has = recorded.node(client).embeddings("test" if split == "test" else "validation")
    assert has.all()
    found = sf.load_model(recorded.path)[client].embed(recorded.raw(client, split))
    assert found.dtype == np.float32
    assert found.tobytes() == expected.tobytes()


def test_comparison_embeddings_are_those_that_travel(recorded: Recorded) -> None:
    node = recorded.node("imu")
    h, _ = node.embeddings("test")
    z = sf.load_model(recorded.path)["imu"].compare("camera", recorded.raw("imu", "test"))
    assert z.tobytes() == node.restrict("camera", h).tobytes()
    assert (z.source, z.target) == ("imu", "camera")
    part: Any = z[3:5]
    assert part.run == RunFolder(recorded.path).identity


def test_a_share_embeds_with_the_threads_of_its_run(recorded: Recorded) -> None:
    """Of some encoders these decide the last bits."""
    seen: list[int] = []
    share = sf.load_share(recorded.path / "shares/imu")
    fast = sf.load_share(recorded.path / "shares/imu", threads=3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for each in (share, fast):
            each.encoder.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
            each.embed(recorded.raw("imu", "test"))
        assert (seen, torch.get_num_threads()) == ([1, 3], 2)
    finally:
        torch.set_num_threads(before)


def test_the_scaling_matters(recorded: Recorded) -> None:
    share = sf.load_share(recorded.path / "shares/thermometer")
    raw = recorded.raw("thermometer", "test")
    train = recorded.raw("thermometer", "train")
    scaled = (raw - train.mean(axis=0)) / train.std(axis=0)
    with pytest.raises(sf.DataError, match="once scaled, where training saw"):
        share.embed(scaled)
    assert not np.allclose(share.embed(scaled, check_units=False), share.embed(raw), atol=0.1)


def test_what_the_facts_say(recorded: Recorded) -> None:
    facts = read_facts(recorded.path / "shares/camera")
    summary = RunFolder(recorded.path).load_summary()
    assert facts.training_digest == summary.weights_digest["camera"]
    assert facts.neighbours == {"imu": 6, "thermometer": 6}
    assert (facts.encoder, facts.input_shape, facts.layout) == ("image", (2, 8, 8), "HWC")
    assert facts.classes == {"label": ()}
    assert facts.dual
    assert facts.imputation is not None
    assert facts.imputation.neighbours == ("imu", "thermometer")
    assert facts.imputation.held_out == 160


def test_a_share_holds_no_event_and_is_private(recorded: Recorded) -> None:
    folder = recorded.path / "shares/thermometer"
    assert sorted(path.name for path in folder.iterdir()) == ["share.json", "weights.safetensors"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    sizes = {name: value.shape for name, value in load_file(folder / "weights.safetensors").items()}
    assert not [shape for shape in sizes.values() if 360 in shape or 160 in shape]


def test_one_share_is_enough_in_a_process_of_its_own(recorded: Recorded, tmp_path: Path) -> None:
    shutil.copytree(recorded.path / "shares/imu", tmp_path / "imu")
    np.save(tmp_path / "x.npy", recorded.raw("imu", "test"))
    code = (
        "import sys, numpy as np, sheafalign_fl as sf\n"
        "model = sf.load_model('imu')\n"
        "assert list(model) == ['imu']\n"
        "assert not {'flwr', 'ray', 'sklearn'} & {*sys.modules}, 'too much is loaded'\n"
        "np.save('h.npy', model['imu'].embed(np.load('x.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    expected, _ = recorded.node("imu").embeddings("test")
    assert np.load(tmp_path / "h.npy").tobytes() == expected.tobytes()


# ---- what is wrong with inputs -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((4, 5)), r"x has shape \(4, 5\), but events of the modality .* are \(N, 6\)"),
        (np.ones(6), r"one event is x\[None\]"),
        (np.ones((0, 6)), "x holds no events"),
        (np.array([["a"] * 6]), "none of real numbers"),
        (np.full((2, 6), np.nan), r"NaN or infinity \(first: row 0\)"),
        (np.full((5, 6), 2.9e5), "give raw values in the units that it read"),
        (np.full((2, 6), 1e300), "NaN or infinity"),
    ],
)
def test_inputs_that_cannot_be_are_refused(recorded: Recorded, x: np.ndarray, message: str) -> None:
    with pytest.raises(sf.DataError, match=message):
        sf.load_share(recorded.path / "shares/thermometer").embed(x)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_few_odd_readings_are_taken_with_a_warning(recorded: Recorded, count: int) -> None:
    share, odd = sf.load_share(recorded.path / "shares/thermometer"), np.full((count, 6), 2.9e5)
    if count == 5:
        with pytest.raises(sf.DataError, match="or pass check_units=False"):
            share.embed(odd)
        return
    with pytest.warns(UnitsWarning, match="cannot show whether that is odd, or in other units"):
        h = share.embed(odd)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(share.embed(odd, check_units=False), h)
        share.embed(recorded.raw("thermometer", "test")[:1])  # a usual one warns of nothing


def test_a_client_or_neighbour_that_is_not_there(recorded: Recorded, tmp_path: Path) -> None:
    model = sf.load_model(recorded.path)
    with pytest.raises(sf.DataError, match="'radar' is not here; these are: camera, imu"):
        model["radar"]
    with pytest.raises(sf.DataError, match="shares no space with 'radar'; its neighbours: camera"):
        model["imu"].compare("radar", recorded.raw("imu", "test"))
    with pytest.raises(sf.DataError, match="has no shares"):
        sf.load_model(tmp_path)
    with pytest.raises(sf.DataError, match="is no folder"):
        sf.load_model(tmp_path / "none")


# ---- what is wrong with a share ------------------------------------------------------------------


@pytest.fixture
def copied(recorded: Recorded, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded.path / "shares/imu", tmp_path / "imu"))


def change(folder: Path, **facts: object) -> None:
    content = json.loads((folder / "share.json").read_bytes())
    (folder / "share.json").write_text(json.dumps(content | facts))


def test_a_changed_fact_is_noticed(copied: Path) -> None:
    change(copied, units="g")
    with pytest.raises(sf.DataError, match="was changed since it was written"):
        sf.load_share(copied)


def test_a_newer_format_is_said_to_be_one(copied: Path) -> None:
    change(copied, format=FORMAT + 1, hologram=True)
    with pytest.raises(sf.DataError, match=f"is of share format {FORMAT + 1}, and this version"):
        sf.load_share(copied)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"format": 1}', b"[" * 100_000])
def test_damaged_facts_are_one_line(copied: Path, content: bytes) -> None:
    (copied / "share.json").write_bytes(content)
    with pytest.raises(sf.DataError, match="damaged") as caught:
        sf.load_share(copied)
    assert "\n" not in str(caught.value)


def test_other_weights_are_noticed(copied: Path, recorded: Recorded) -> None:
    other = recorded.path / "shares/camera/weights.safetensors"
    shutil.copyfile(other, copied / "weights.safetensors")
    with pytest.raises(sf.DataError, match=r"is not the file that share\.json names"):
        sf.load_share(copied)
    (copied / "weights.safetensors").unlink()
    with pytest.raises(sf.DataError, match="cannot be read"):
        sf.load_share(copied)


def test_a_share_that_cannot_be_written_leaves_the_old_one(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, tensors = share_folder.read(copied)
    before = {path.name: path.read_bytes() for path in copied.iterdir()}

    def full(path: Path, content: bytes) -> None:
        if path.name == "share.json":
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(share_folder, "write_atomically", full)
        share_folder.write(copied, facts, tensors)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before
    assert [path.name for path in copied.parent.iterdir()] == ["imu"]
    again = share_folder.write(copied, facts, tensors)
    assert again == facts
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


def resign(folder: Path) -> None:
    """Make the digests fit again, as a forger would."""
    import hashlib

    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    change(folder, weights=digest, digest="")
    from sheafalign_fl.shares.facts import ShareFacts

    facts = ShareFacts.model_validate_json((folder / "share.json").read_bytes())
    (folder / "share.json").write_text(facts.signed().model_dump_json())


@pytest.mark.parametrize("name", ["encoder", "scaling.mean", "imputation.covariance"])
def test_weights_that_do_not_fit_the_facts_are_one_line(copied: Path, name: str) -> None:
    path = copied / "weights.safetensors"
    arrays = load_file(path)
    changed = next(key for key in arrays if key.startswith(name))
    arrays[changed] = np.ones((3, 3, 3, 3), dtype=np.float32)
    save_file(arrays, path)
    resign(copied)
    with pytest.raises(sf.DataError, match="holds other weights than its facts say") as caught:
        sf.load_share(copied)
    assert "\n" not in str(caught.value)


OWN = "own_encoder_of_a_test"


@pytest.fixture
def own(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A share with an encoder of the user's own, in a module that nobody has imported."""
    (tmp_path / f"{OWN}.py").write_text(
        "from sheafalign_fl.encoders import ENCODERS\n\n\n"
        "def build(shape, dim):\n    return ENCODERS['signal'].factory(shape, dim)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, OWN, raising=False)
    change(copied, encoder=f"{OWN}:build", digest="")
    resign(copied)
    return copied


def test_code_of_a_share_from_elsewhere_is_imported_only_where_it_is_allowed(
    own: Path, recorded: Recorded
) -> None:
    for load in (sf.load_share, sf.load_model):
        with pytest.raises(sf.ConfigError, match=f"'{OWN}:build' is code.*--allow {OWN}:build"):
            load(own)
    with pytest.raises(sf.ConfigError, match="is code"):
        sf.load_share(own, allow=["os:system"])
    assert OWN not in sys.modules
    made = sf.load_share(own, allow=[f"{OWN}:build"])
    assert OWN in sys.modules
    x = recorded.raw("imu", "test")
    expected = sf.load_share(recorded.path / "shares/imu").embed(x)
    assert made.embed(x).tobytes() == expected.tobytes()


def test_code_of_a_run_that_lies_here_whole_is_one_s_own(own: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(own, run / "shares/imu")
    with pytest.raises(sf.ConfigError, match="is code"):
        sf.load_model(run)
    (run / "config.yaml").write_text("name: street\n")
    assert sf.load_model(run)["imu"].facts.encoder == f"{OWN}:build"
    with under(STRICT), pytest.raises(sf.ConfigError, match="is code"):
        sf.load_model(run)


def test_the_command_line_allows_by_name(own: Path, recorded: Recorded, tmp_path: Path) -> None:
    np.savez(tmp_path / "imu.npz", x=recorded.raw("imu", "test"))
    words = ["embed", str(own), f"imu={tmp_path}/imu.npz", "--out", str(tmp_path / "h.npz")]
    with pytest.raises(sf.ConfigError, match="is code"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert OWN not in sys.modules
    done = CliRunner().invoke(app, [*words, "--allow", f"{OWN}:build"], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_a_share_from_elsewhere_is_no_larger_than_a_configuration_may_ask(copied: Path) -> None:
    change(copied, encoder_options={"widths": [32, 1_000_000]}, digest="")
    resign(copied)
    with pytest.raises(sf.ConfigError, match="but this machine's policy allows 100000000"):
        sf.load_share(copied)


def test_shares_of_two_runs_do_not_mix(recorded: Recorded, copied: Path) -> None:
    change(copied, run_id="0" * 32, digest="")
    resign(copied)
    shutil.copytree(recorded.path / "shares/camera", copied.parent / "camera")
    with pytest.raises(sf.DataError, match="are of different runs"):
        sf.load_model(copied.parent)
    foreign = sf.load_share(copied).compare("camera", recorded.raw("imu", "test"))
    with pytest.raises(sf.DataError, match="is of another run"):
        sf.load_model(recorded.path).impute("camera", {"imu": foreign})

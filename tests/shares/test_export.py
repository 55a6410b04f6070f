"""Exported graphs: raw events in, the share's own embeddings out, wherever the file is run."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import sheafalign_fl as sf
from sheafalign_fl.encoders.registry import ENCODERS
from sheafalign_fl.seeding import torch_seeded
from sheafalign_fl.shares.export import TOLERANCE, Form, convert, export
from sheafalign_fl.shares.graph import Graph
from sheafalign_fl.sheaf.maps import OrthogonalMaps
from tests.shares.conftest import Recorded
from tests.system.command import sheafalign


@pytest.mark.slow
@pytest.mark.parametrize("client", ["camera", "thermometer"])
def test_onnx_gives_the_shares_embeddings_of_raw_events(
    recorded: Recorded, client: str, tmp_path: Path
) -> None:
    share = sf.load_model(recorded.path)[client]
    made = export(share, "onnx", tmp_path / "out")
    session = onnxruntime.InferenceSession(str(made.file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["embedding", *(f"z_{neighbour}" for neighbour in share.neighbours)]
    x = recorded.raw(client, "test").astype(np.float64)
    for rows in (slice(0, 1), slice(None)):
        h, *zs = session.run(None, {"x": x[rows]})
        original = recorded.raw(client, "test")[rows]
        assert np.abs(h - share.embed(original)).max() <= TOLERANCE * max(1, np.abs(h).max())
        for neighbour, z in zip(share.neighbours, zs, strict=True):
            expected = np.asarray(share.compare(neighbour, original))
            assert np.abs(z - expected).max() <= TOLERANCE * max(1, np.abs(z).max())
    stamp = {entry.key: entry.value for entry in onnx.load(str(made.file)).metadata_props}
    assert stamp["training_digest"] == share.facts.training_digest
    assert made.size == made.file.stat().st_size


@pytest.mark.slow
def test_torch_needs_nothing_of_this_library(recorded: Recorded, tmp_path: Path) -> None:
    share = sf.load_model(recorded.path)["imu"]
    made = export(share, "torch", tmp_path / "out")
    x = recorded.raw("imu", "test")
    np.save(tmp_path / "x.npy", x.astype(np.float64))
    code = (
        "import numpy as np, sys, torch\n"
        f"graph = torch.export.load({str(made.file)!r}).module()\n"
        f"h, *zs = graph(torch.from_numpy(np.load({str(tmp_path / 'x.npy')!r})))\n"
        f"np.save({str(tmp_path / 'h.npy')!r}, h.numpy())\n"
        "assert 'sheafalign_fl' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    h = np.load(tmp_path / "h.npy")
    assert np.abs(h - share.embed(x)).max() <= TOLERANCE * max(1, np.abs(h).max())


@pytest.mark.slow
def test_the_readme_says_inputs_units_and_outputs(recorded: Recorded, tmp_path: Path) -> None:
    share = sf.load_model(recorded.path)["camera"]
    made = export(share, "torch", tmp_path / "out")
    text = (made.file.parent / "README.md").read_text(encoding="utf-8")
    assert "| `x` | float64 | (N, 8, 8, 2) |" in text
    assert "the axes of an event are HWC" in text
    assert "scaling is inside the graph" in text
    assert "| `z_imu` | float32 | (N, 6) |" in text
    assert share.facts.digest in text
    code = text.split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, cwd=made.file.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_map_family_that_no_graph_can_say_is_a_matrix_in_it(tmp_path: Path) -> None:
    with torch_seeded(0, "export-maps"):
        maps = OrthogonalMaps(6, 4)
        nn.init.normal_(maps.A)
        x = torch.randn(5, 6)
    graph = Graph(nn.Identity(), {"other": maps}, None, (6,))
    run = convert(graph, "onnx", tmp_path / "maps.onnx")
    assert np.allclose(run(x.numpy())[1], maps.restrict(x).detach().numpy(), atol=1e-6)


class Stubborn(nn.Module):
    """Asks the values what to do, which no graph can."""

    def forward(self, x: Tensor) -> Tensor:
        """Return what depends on a value."""
        return x if float(x.sum()) > 0 else -x


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_what_cannot_be_exported_is_one_line(form: Form, tmp_path: Path) -> None:
    graph = Graph(Stubborn(), {}, None, (3,))
    with pytest.raises(sf.DataError, match=f"Stubborn cannot be exported to {form}: ") as told:
        convert(graph, form, tmp_path / "file")
    assert "\n" not in str(told.value)


def test_a_graph_that_differs_is_not_written(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = sf.load_model(recorded.path)["imu"]
    monkeypatch.setattr(share, "scaling", None)
    monkeypatch.setattr(
        share, "embed", lambda x, **_: np.ones((len(x), share.facts.dim), np.float32)
    )
    with pytest.raises(sf.DataError, match="differs from the share by"):
        export(share, "torch", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_refuses_in_one_line(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("mine")
    for words, line in {
        ("--client", "sonar"): "the share of client 'sonar' is not here",
        ("--client", "imu", "--out", str(tmp_path / "full")): "is there already; give another",
    }.items():
        done = sheafalign("export", str(recorded.path), *words)
        assert done.returncode == 2
        assert line in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "full" / "thing").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["range-image", "points", "video", "audio"])
def test_encoders_with_operations_of_their_own_can_be_exported(name: str, tmp_path: Path) -> None:
    info = ENCODERS[name]
    with torch_seeded(0, "export", name):
        encoder = info.factory(info.example, 16).eval()
        x = torch.randn(3, *info.example)
    run = convert(Graph(encoder, {}, None, info.example), "onnx", tmp_path / "encoder.onnx")
    with torch.no_grad():
        expected = encoder(x).numpy()
    assert np.abs(run(x.numpy())[0] - expected).max() <= TOLERANCE

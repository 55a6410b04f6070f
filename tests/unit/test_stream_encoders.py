"""Video and sound: what is read is what they take; the spectrogram is what numpy and scipy say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import spectrogram

from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.encoders.streams import AudioEncoder, VideoEncoder, mel_bands
from sheafalign_fl.seeding import torch_seeded


def sounds(count: int = 3, channels: int = 2, samples: int = 3000) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(0).normal(size=(count, channels, samples))
    ).float()


def network_input(encoder: AudioEncoder, x: torch.Tensor) -> torch.Tensor:
    """Return what the convolutions are given: the spectrogram, in 20 dB."""
    seen: list[torch.Tensor] = []
    first = next(module for module in encoder.modules() if isinstance(module, torch.nn.Conv2d))
    handle = first.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    encoder(x)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(("frame", "hop", "rate"), [(512, 256, 16_000.0), (200, 80, 8_000.0)])
def test_the_spectrogram_is_scipy_s_in_bands(frame: int, hop: int, rate: float) -> None:
    encoder = AudioEncoder((2, 3000), 8, frame=frame, hop=hop, rate=rate, bands=20, widths=(4, 8))
    x = sounds()
    _, _, density = spectrogram(
        x.double().numpy(), rate, window="hann", nperseg=frame, noverlap=frame - hop,
        detrend=False, scaling="density", mode="psd",
    )  # fmt: skip
    density[..., 1:-1, :] /= 2  # one-sided: it has the power of negative frequencies too
    power = density * rate  # |X|² / Σw²
    bands = mel_bands(frame, 20, rate).double().numpy()
    expected = 10 * np.log10(np.einsum("bf,ncft->ncbt", bands, power) + 1e-8) / 20
    given = network_input(encoder, x)[:, :2].numpy()
    np.testing.assert_allclose(given, expected, atol=1e-3)


def test_noise_of_unit_variance_is_at_no_decibels_and_silence_at_minus_eighty() -> None:
    encoder = AudioEncoder((1, 16_000), 8)
    noise = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 1, 16_000))).float()
    power = 10 ** (network_input(encoder, noise)[:, 0] * 2)
    assert float(power.mean()) == pytest.approx(1.0, abs=0.1)
    silence = network_input(encoder, torch.zeros(1, 1, 16_000))[:, 0]
    np.testing.assert_allclose(silence.numpy(), -4.0, atol=1e-5)


@pytest.mark.parametrize(("frame", "bands", "rate"), [(512, 48, 16_000.0), (64, 48, 44_100.0)])
def test_bands_are_triangles_that_are_even_on_the_mel_scale(
    frame: int, bands: int, rate: float
) -> None:
    weights = mel_bands(frame, bands, rate).numpy()
    edges = [
        700 * (10 ** (2595 * np.log10(1 + rate / 1400) * place / (bands + 1) / 2595) - 1)
        for place in range(bands + 2)
    ]
    bins = [rate * number / frame for number in range(frame // 2 + 1)]
    for band in range(bands):
        low, middle, high = edges[band : band + 3]
        row = np.array(
            [max(0.0, min((f - low) / (middle - low), (high - f) / (high - middle))) for f in bins]
        )
        if not row.any():
            row[int(np.argmin([abs(f - middle) for f in bins]))] = 1
        np.testing.assert_allclose(weights[band], row / row.sum(), atol=1e-5)


def test_too_short_a_sound_is_refused_with_what_is_needed() -> None:
    with pytest.raises(ValueError, match="must have 2560 samples or more, not 2559"):
        AudioEncoder((1, 2559), 8)
    assert AudioEncoder((1, 2560), 8)(torch.zeros(2, 1, 2560)).shape == (2, 8)


def test_the_order_of_frames_matters_and_one_frame_is_enough() -> None:
    with torch_seeded(0, "test"):
        encoder = VideoEncoder((6, 3, 16, 16), 8)
        single = VideoEncoder((1, 3, 16, 16), 8)
    x = torch.randn(4, 6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(encoder(x), encoder(x.flip(1)), atol=1e-3)
    assert single(x[:, :1]).shape == (4, 8)


def test_videos_are_scaled_by_channel_and_not_along_time(tmp_path: Path) -> None:
    """(N, T, C, H, W): a scene that grows lighter still does, and colours have one scale each."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20, 5, 3, 9, 10)) * [[[1.0]], [[10.0]], [[100.0]]]
    x += np.arange(5)[:, None, None, None] * 50.0
    np.savez(tmp_path / "camera.npz", x=x, event_id=np.arange(20))
    data = load_modality(
        "folder", "camera", 0, {"path": str(tmp_path), "test": 0.2, "validation": 0.2}, "test"
    )
    train = x[data.split == 0]
    expected = np.empty_like(x)
    for colour in range(3):
        values = train[:, :, colour]
        expected[:, :, colour] = (x[:, :, colour] - values.mean()) / values.std()
    np.testing.assert_allclose(data.x, expected, atol=1e-4)
    assert (np.diff(data.x[:, :, 0].mean(axis=(0, 2, 3))) > 0.1).all()


def test_windows_of_videos_are_longer_videos(tmp_path: Path) -> None:
    x = np.arange(12 * 2, dtype=np.float64).reshape(12, 2, 1, 1, 1) * np.ones((1, 1, 3, 9, 9))
    np.savez(tmp_path / "camera.npz", x=x, event_id=np.arange(12), sequence=np.zeros(12, dtype=int),
             split=np.zeros(12, dtype=int))  # fmt: skip
    options = {"path": str(tmp_path), "window": 3, "stride": 3, "standardise": False}
    data = load_modality("folder", "camera", 0, options, "test")
    assert data.input_shape == (6, 3, 9, 9)
    last = [int(event) for event in data.event_ids]
    first_pixel = data.x[:, :, 0, 0, 0].tolist()
    assert first_pixel == [[2 * event + 1 - back for back in range(5, -1, -1)] for event in last]

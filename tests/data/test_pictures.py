"""Pictures of one event: every modality can be drawn, and the axes say what they show."""

import io

import numpy as np
import pytest

from sheafalign_fl.data import pictures
from sheafalign_fl.data.pictures import event_picture
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.data.scenes import INFO, beam

MODALITIES = [modality.name for modality in INFO.modalities]


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_sensors_of_scenes_are_drawn(modality: str) -> None:
    figure = event_picture(
        modality, load_modality("scenes", modality, 0, {"events": 100}, "test").x[0]
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_every_sensor_of_scenes_has_axes_of_its_own() -> None:
    assert {name: str(shape) for name, (_, shape) in pictures._SCENES.items()} == {
        modality.name: modality.shape for modality in INFO.modalities
    }


def test_a_beam_s_power_is_drawn_in_decibels_over_its_direction() -> None:
    x = load_modality("scenes", "beam", 0, {"events": 100}, "test").x[0]
    (line,) = event_picture("beam", x).axes[0].get_lines()
    drawn = np.asarray(line.get_xydata())
    assert drawn[x.argmax(), 0] == pytest.approx(np.degrees(np.arcsin(beam.SINES[x.argmax()])))
    assert drawn[:, 1].max() == pytest.approx(x.max() * 12 - 100, rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((7,), "patches"),
        ((3, 50), "lines"),
        ((1, 8, 9), "images"),
        ((3, 8, 9), "images"),
    ],
)
def test_any_other_modality_is_drawn_by_its_shape(shape: tuple[int, ...], kind: str) -> None:
    figure = event_picture(
        "thermometer", np.random.default_rng(0).normal(size=shape).astype(np.float32)
    )
    (axes,) = figure.axes
    assert len(getattr(axes, kind)) == {"patches": shape[0], "lines": shape[0], "images": 1}[kind]


def test_a_user_s_modality_with_a_known_name_and_another_shape_is_drawn() -> None:
    assert event_picture("camera", np.zeros(4, dtype=np.float32)).axes
    assert event_picture("camera", np.zeros((1, 8, 8), dtype=np.float32)).axes
    assert event_picture("lidar", np.zeros((1, 8, 8), dtype=np.float32)).axes
    assert event_picture("gps", np.zeros(2, dtype=np.float32)).axes
    assert event_picture("beam", np.zeros(8, dtype=np.float32)).axes


@pytest.mark.parametrize(
    ("encoder", "shape"),
    [
        ("points", (4, 16)),
        ("points", (3, 5, 16)),
        ("skeleton", (3, 20, 8)),
        ("skeleton", (2, 17, 4)),
    ],
)
def test_clouds_and_skeletons_are_drawn_as_such(encoder: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    (axes,) = event_picture("some sensor", x, encoder).axes
    drawn = (
        np.asarray(axes.collections[0].get_offsets())
        if encoder == "points"
        else axes.get_lines()[-1].get_xydata()
    )
    expected = (x if x.ndim == 2 else x[-1])[:2].T if encoder == "points" else x[:2, :, 0].T
    np.testing.assert_allclose(np.asarray(drawn), expected, atol=1e-6)


def test_the_frames_of_a_window_are_drawn_side_by_side() -> None:
    assert len(event_picture("camera", np.zeros((12, 8, 8), dtype=np.float32)).axes) == 4
    assert len(event_picture("thermometer", np.zeros((5, 8, 9), dtype=np.float32)).axes) == 4
    assert len(event_picture("camera", np.zeros((2, 8, 8), dtype=np.float32)).axes) == 2


@pytest.mark.parametrize(
    ("shape", "aspect"), [((1, 8, 4), 1.0), ((3, 8, 4), 1.0), ((1, 2, 114), "auto")]
)
def test_pixels_are_square_but_for_maps_that_would_be_a_line(
    shape: tuple[int, ...], aspect: object
) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    (axes,) = event_picture("thermometer", x).axes
    assert axes.get_aspect() == aspect
    assert axes.get_images()[0].get_size() == shape[1:]

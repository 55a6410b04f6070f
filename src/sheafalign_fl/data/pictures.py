"""A picture of one event as a client sees it."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from sheafalign_fl.data.scenes import beam, camera, gps, lidar, radar

Values = NDArray[np.float32]
_MOST_CHANNELS = 4
_LONG = 8


def event_picture(modality: str, x: Values, encoder: str | None = None) -> Figure:
    """Draw one event's input, with axes in physical units for `scenes`, else by encoder or shape.

    Parameters
    ----------
    modality
        The modality's name.
    x
        Shape (F,), (C, T) or (C, H, W), or what the encoder takes.
    encoder
        The encoder that the data source recommends, which tells a cloud or a skeleton from a
        picture.
    """
    figure = Figure(figsize=(4.2, 2.6), layout="constrained")
    named = _SCENES.get(modality)
    if named is not None and x.shape == named[1]:  # a user's own camera is not the one of `scenes`
        named[0](figure, x)
    elif encoder in _BY_ENCODER:
        _BY_ENCODER[encoder](figure.add_subplot(), x)
    elif x.ndim == 1:
        axes = figure.add_subplot()
        axes.bar(np.arange(len(x)), x, width=1.0)
        axes.set_xlabel("feature")
    elif x.ndim == 2:
        axes = figure.add_subplot()
        axes.plot(x.T, linewidth=0.8)
        axes.set_xlabel("sample")
    elif x.ndim == 3 and x.shape[0] not in (1, 3):
        shown = np.linspace(0, len(x) - 1, min(len(x), _MOST_CHANNELS)).astype(int)
        for place, channel in enumerate(shown.tolist()):
            axes = figure.add_subplot(2, -(-len(shown) // 2), place + 1)
            _image(axes, x[channel : channel + 1])
            axes.set_title(f"channel {channel}", fontsize=7)
    else:
        _image(figure.add_subplot(), x)
    return figure


def _cloud(axes: Axes, x: Values) -> None:
    """Draw the last frame from above, coloured by height."""
    points = x if x.ndim == 2 else x[-1]
    height = points[2] if len(points) > 2 else None
    axes.scatter(points[0], points[1], c=height, s=4, cmap="viridis")
    axes.set_aspect("equal")
    axes.set_xlabel("x (standardised)", fontsize=8)
    axes.set_ylabel("y (standardised)", fontsize=8)
    axes.tick_params(labelsize=7)


def _skeleton(axes: Axes, x: Values) -> None:
    """Draw where the joints are in the first frame, and the way of each from there to the last."""
    axes.plot(x[0].T, x[1].T, linewidth=0.5, color="grey")
    axes.plot(x[0, :, 0], x[1, :, 0], "o", markersize=3)
    axes.set_aspect("equal")
    axes.set_xlabel("first coordinate", fontsize=8)
    axes.set_ylabel("second coordinate", fontsize=8)
    axes.tick_params(labelsize=7)


def _image(axes: Axes, x: Values) -> None:
    if x.ndim == 3 and x.shape[0] == 3:
        low, high = x.min(), x.max()
        axes.imshow(np.moveaxis((x - low) / (high - low + 1e-9), 0, -1))
    else:
        shown = x[0] if x.ndim == 3 else x.reshape(len(x), -1)
        # Pixels are square, but for maps so long that they would be a line.
        long = max(shown.shape) > _LONG * min(shown.shape)
        axes.imshow(shown, cmap="viridis", aspect="auto" if long else "equal")
    axes.set_axis_off()


def _camera(figure: Figure, x: Values) -> None:
    axes = figure.add_subplot()
    axes.imshow(np.clip(np.moveaxis(x * 0.25 + 0.4, 0, -1), 0, 1))
    axes.set_axis_off()


def _lidar(figure: Figure, x: Values) -> None:
    span = np.degrees(lidar.AZIMUTHS)
    for index, title in enumerate(("range (m)", "reflectivity")):
        axes = figure.add_subplot(2, 1, index + 1)
        values = x[0] * 10 + 20 if index == 0 else x[1] * 0.25 + 0.3
        shown = axes.imshow(
            values, cmap="viridis", aspect="auto", extent=(span[0], span[-1], len(x[0]), 0)
        )
        axes.set_yticks([])
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=7)
        figure.colorbar(shown, ax=axes)
    axes.set_xlabel("azimuth (degrees)", fontsize=8)


def _radar(figure: Figure, x: Values) -> None:
    extents = (
        (radar.DOPPLERS[0], radar.DOPPLERS[-1], "radial speed (m/s)"),
        (radar.ANGLES[0], radar.ANGLES[-1], "sine of angle"),
    )
    for index, (low, high, label) in enumerate(extents):
        axes = figure.add_subplot(1, 2, index + 1)
        axes.imshow(
            x[index],
            cmap="magma",
            aspect="auto",
            origin="lower",
            extent=(low, high, radar.RANGES[0], radar.RANGES[-1]),
        )
        axes.set_xlabel(label, fontsize=8)
        axes.tick_params(labelsize=7)
        if index == 0:
            axes.set_ylabel("range (m)", fontsize=8)


def _beam(figure: Figure, x: Values) -> None:
    axes = figure.add_subplot()
    axes.plot(np.degrees(np.arcsin(beam.SINES)), x * 12 - 100, marker=".", linewidth=0.8)
    axes.set_xlabel("beam direction (degrees)", fontsize=8)
    axes.set_ylabel("received power (dB)", fontsize=8)
    axes.tick_params(labelsize=7)


def _gps(figure: Figure, x: Values) -> None:
    axes = figure.add_subplot()
    position = (float(x[0]) * 10, float(x[1]) * 4 + 13.5)
    axes.annotate(
        "", (position[0] + float(x[2]) * 9, position[1]), position, arrowprops={"arrowstyle": "->"}
    )
    axes.plot(*position, "o")
    error = float(np.exp(x[4] * 0.3 + 0.25)) * gps.BIAS
    axes.add_patch(Circle(position, error, fill=False, linestyle=":"))
    axes.plot(0, 0, "^", color="black")
    axes.set_xlim(-40, 40)
    axes.set_ylim(-2, 26)
    axes.set_aspect("equal")
    axes.set_xlabel("x (m); arrow: one second, circle: reported accuracy", fontsize=8)
    axes.set_ylabel("y (m)", fontsize=8)
    axes.tick_params(labelsize=7)


_SCENES: dict[str, tuple[Callable[[Figure, Values], None], tuple[int, ...]]] = {
    "camera": (_camera, (3, camera.HEIGHT, camera.WIDTH)),
    "lidar": (_lidar, (2, len(lidar.RINGS), len(lidar.AZIMUTHS))),
    "radar": (_radar, (2, len(radar.RANGES), len(radar.DOPPLERS))),
    "beam": (_beam, (beam.BEAMS,)),
    "gps": (_gps, (5,)),
}
_BY_ENCODER: dict[str, Callable[[Axes, Values], None]] = {"points": _cloud, "skeleton": _skeleton}

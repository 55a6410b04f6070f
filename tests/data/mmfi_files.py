"""A small MM-Fi in its own files, written by the tests themselves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

MODALITIES = ("csi", "mmwave", "lidar", "depth", "rgb", "infra")
FOLDERS = {
    "csi": "wifi-csi",
    "mmwave": "mmwave",
    "lidar": "lidar",
    "depth": "depth",
    "rgb": "rgb",
    "infra": "infra",
}
ENDINGS = {
    "csi": "mat",
    "mmwave": "bin",
    "lidar": "bin",
    "depth": "png",
    "rgb": "npy",
    "infra": "npy",
}
HEIGHT, WIDTH = 96, 128


def frame_path(modality: str, subject: int = 1, activity: int = 1, frame: int = 1) -> str:
    """Return where a frame lies below the folder; ten subjects were in each environment."""
    place = f"E{(subject - 1) // 10 + 1:02d}/S{subject:02d}/A{activity:02d}"
    return f"{place}/{FOLDERS[modality]}/frame{frame:03d}.{ENDINGS[modality]}"


def write_mmfi(
    folder: Path,
    *,
    subjects: Sequence[int] = (1, 2),
    activities: Sequence[int] = (1, 2),
    frames: int = 20,
    modalities: Sequence[str] = MODALITIES,
    seed: int = 0,
) -> Path:
    """Write `frames` frames of every recording; return the folder.

    A body sways at a rate that its activity has, and every sensor sees it. The content of a file
    depends on the seed and its own name alone.
    """
    for subject in subjects:
        for activity in activities:
            for frame in range(1, frames + 1):
                for modality in modalities:
                    path = folder / frame_path(modality, subject, activity, frame)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    key = (seed, subject, activity, frame, MODALITIES.index(modality))
                    sway = np.sin(0.2 * activity * frame + subject)
                    _write(path, modality, activity, float(sway), np.random.default_rng(key))
    return folder


def _write(path: Path, modality: str, activity: int, sway: float, rng: np.random.Generator) -> None:
    if modality == "csi":
        profile = (
            20 + 3 * np.sin(np.arange(114) * activity / 10) + 5 * sway * np.cos(np.arange(114) / 30)
        )
        savemat(path, {"CSIamp": profile[None, :, None] + rng.random((3, 114, 10))})
    elif modality in ("mmwave", "lidar"):
        columns, points = (
            (5, 20 + 8 * activity) if modality == "mmwave" else (3, 300 + 40 * activity)
        )
        cloud = rng.normal(size=(points, columns)) * 0.2
        cloud[:, :3] += (sway, 3.0, 0.1 * activity)
        path.write_bytes(cloud.astype("<f8").tobytes())
    elif modality == "depth":
        image = np.full((HEIGHT, WIDTH), 3500, dtype=np.uint16)
        left = int(40 + 20 * sway)
        image[20:90, left : left + 10 + 4 * activity] = 1500 + 100 * activity
        image[90:, 20 * activity :] = 2000
        image += rng.integers(0, 30, image.shape, dtype=np.uint16)
        image[rng.random(image.shape) < 0.1] = 0
        image[:5, :5] = 0
        Image.fromarray(image).save(path, compress_level=1)
    else:
        joint = np.arange(17)
        body = np.stack([300 + 20 * np.sin(joint * activity) + 30 * sway, 100 + 15 * joint], axis=1)
        np.save(path, body + rng.normal(size=body.shape))

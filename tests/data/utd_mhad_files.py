"""A small UTD-MHAD in its own files, written by the tests themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

MODALITIES = ("inertial", "skeleton", "depth")
KEYS = {"inertial": "d_iner", "skeleton": "d_skel", "depth": "d_depth"}


def recording_path(modality: str, action: int = 1, subject: int = 1, trial: int = 1) -> str:
    """Return where a recording lies below the folder: each modality in its own, as handed out."""
    return f"{modality.capitalize()}/a{action}_s{subject}_t{trial}_{modality}.mat"


def write_utd_mhad(
    folder: Path,
    *,
    actions: Sequence[int] = (1, 2),
    subjects: Sequence[int] = tuple(range(1, 9)),
    trials: Sequence[int] = (1,),
    modalities: Sequence[str] = MODALITIES,
    seed: int = 0,
) -> Path:
    """Write every recording, some shorter and some longer; return the folder.

    An arm swings at a rate that its action has. The content of a file depends on the seed and its
    own name alone.
    """
    for modality in modalities:
        for action in actions:
            for subject in subjects:
                for trial in trials:
                    path = folder / recording_path(modality, action, subject, trial)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    rng = np.random.default_rng(
                        (seed, action, subject, trial, MODALITIES.index(modality))
                    )
                    savemat(path, {KEYS[modality]: _content(modality, action, subject, rng)})
    return folder


def _content(modality: str, action: int, subject: int, rng: np.random.Generator) -> NDArray[Any]:
    length = {"inertial": 100, "skeleton": 30, "depth": 3}[modality]
    length += int(rng.integers(0, 1 + length * 2))
    swing = np.sin(np.linspace(0, 2 * np.pi * action, length) + 0.1 * subject)
    if modality == "inertial":
        scale = np.array([1, 0.5, 0.2, 100, 50, 20])
        inertial: NDArray[Any] = (swing[:, None] + 0.1 * rng.normal(size=(length, 6))) * scale
        return inertial
    if modality == "skeleton":
        body = np.stack([np.cos(np.arange(20)), np.linspace(0, 1.8, 20), np.full(20, 3.0)], axis=1)[
            :, :, None
        ]
        arm = np.where(np.arange(20) < 4, 0.4, 0.0)[:, None, None] * swing
        skeleton: NDArray[Any] = body + arm + 0.01 * rng.normal(size=(20, 3, length))
        return skeleton
    depth = np.full((240, 320, length), 3000, dtype=np.uint16)
    for frame in range(length):
        left = int(140 + 60 * swing[frame])
        depth[60:220, left : left + 30 + 5 * action, frame] = 1800
    depth[rng.random((240, 320)) < 0.05] = 0
    depth[:5, :5] = 0
    return depth

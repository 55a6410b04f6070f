"""Pictures: camera and depth."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.readers.base import Array, BadFileError
from sheafalign_fl.extras import require


@dataclass(frozen=True)
class CameraPicture:
    """A photograph, resized: (1, height, width) in grey, (3, height, width) in colour, 0 to 1."""

    height: int = 64
    width: int = 64
    grey: bool = True
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read one picture of any format and size that Pillow knows."""
        require("PIL", "reading pictures")
        from PIL import Image, UnidentifiedImageError

        mode = "L" if self.grey else "RGB"
        try:
            with Image.open(files[0]) as picture:
                picture.draft(
                    mode, (2 * self.width, 2 * self.height)
                )  # JPEG: decoded at a fraction of its size
                small = picture.convert(mode).resize(
                    (self.width, self.height), Image.Resampling.BOX
                )
        except FileNotFoundError:
            raise BadFileError("does not exist") from None
        except (
            UnidentifiedImageError,
            OSError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombError,
        ) as error:
            raise BadFileError(
                f"is no picture that can be read ({' '.join(str(error).split())})"
            ) from None
        values = np.asarray(small, dtype=np.float32) / 255.0
        return values[None] if self.grey else np.ascontiguousarray(np.moveaxis(values, -1, 0))


@dataclass(frozen=True)
class DepthPicture:
    """A 16-bit depth picture (mm), resized: (1, height, width) in metres; 0: nothing measured."""

    height: int = 64
    width: int = 64
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read one picture."""
        require("PIL", "reading pictures")
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(files[0]) as picture:
                if picture.mode not in ("I;16", "I;16B", "I"):
                    raise BadFileError(
                        f"is a picture of mode {picture.mode}; depth must be one channel of 16 bits"
                    )
                values = np.asarray(picture, dtype=np.float32)
        except FileNotFoundError:
            raise BadFileError("does not exist") from None
        except (
            UnidentifiedImageError,
            OSError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombError,
        ) as error:
            raise BadFileError(
                f"is no picture that can be read ({' '.join(str(error).split())})"
            ) from None
        return shrunk_depth(values / 1000.0, self.height, self.width)[None]


def shrunk_depth(depth: Array, height: int, width: int) -> NDArray[np.float32]:
    """Return `depth` (H, W) at (height, width): the mean of what each cell measured, else 0.

    A mean over measured pixels alone: 0 means "nothing", and mixed in would move edges nearer.
    """
    rows = np.arange(depth.shape[0]) * height // depth.shape[0]
    columns = np.arange(depth.shape[1]) * width // depth.shape[1]
    cell = (rows[:, None] * width + columns[None]).ravel()
    measured = (depth > 0).ravel()
    total = np.bincount(cell, weights=depth.ravel() * measured, minlength=height * width)
    count = np.bincount(cell, weights=measured, minlength=height * width)
    return (total / np.maximum(count, 1)).reshape(height, width).astype(np.float32)

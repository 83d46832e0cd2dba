"""Types of arrays, and the size of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]  # (H, W, 3) RGB
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Index = npt.NDArray[Any]  # (N,) bool, or row numbers


def size_of(image: Image) -> tuple[int, int]:
    """(H, W) of an image."""
    return image.shape[0], image.shape[1]

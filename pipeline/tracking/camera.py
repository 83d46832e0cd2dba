"""Estimate the motion of the camera between frames, and find cuts."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Image
from .config import CameraConfig as CameraConfig

Array = npt.NDArray[np.float64]
STILL: Array = np.eye(2, 3)


class CameraMotion:
    """Compares each frame with the one before it."""

    def __init__(self, config: CameraConfig | None = None) -> None:
        self.config = config or CameraConfig()
        self._gray: npt.NDArray[np.uint8] | None = None
        self._colors: npt.NDArray[np.float32] | None = None

    def update(self, image: Image, boxes: Floats) -> tuple[Array, bool]:
        """Compare a frame with the last one.

        Args:
            image: (H, W, 3) RGB.
            boxes: (N, 4) xyxy px of people in the last frame, whose motion is not the camera's.

        Returns:
            Affine matrix (2, 3) from px of the last frame to px of this one, and whether there is
            a cut between them.
        """
        scale = min(self.config.max_side / max(image.shape[:2]), 1.0)
        size = tuple(max(round(side * scale), 16) for side in image.shape[1::-1])
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        gray = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
        colors = cv2.calcHist([small], [0, 1, 2], None, [8] * 3, [0, 256] * 3)
        before, last_colors = self._gray, self._colors
        self._gray, self._colors = gray, np.asarray(cv2.GaussianBlur(colors, (3, 3), 0), np.float32)
        if before is None or last_colors is None or before.shape != gray.shape:
            return STILL, before is not None
        alike = cv2.compareHist(last_colors.ravel(), self._colors.ravel(), cv2.HISTCMP_CORREL)
        transform = self._estimate(before, gray, boxes * scale)
        if alike < self.config.max_cut_correlation and transform is None:
            return STILL, True
        if transform is None:
            return STILL, False
        transform[:, 2] /= scale
        return transform, False

    def _estimate(
        self, before: npt.NDArray[np.uint8], now: npt.NDArray[np.uint8], boxes: Floats
    ) -> Array | None:
        """Motion in px of the reduced frame; None if the corners do not agree."""
        background = np.full(before.shape, 255, np.uint8)
        for x1, y1, x2, y2 in np.asarray(boxes, int).tolist():
            background[max(y1, 0) : max(y2, 0) + 1, max(x1, 0) : max(x2, 0) + 1] = 0
        corners = cv2.goodFeaturesToTrack(before, self.config.num_points, 0.01, 5, mask=background)
        if corners is None or len(corners) < 8:
            return None
        moved, found, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, np.zeros_like(corners))
        good = found.ravel() == 1
        if good.sum() < 8:
            return None
        transform, inliers = cv2.estimateAffinePartial2D(
            corners[good], moved[good], ransacReprojThreshold=1.0
        )
        if transform is None or inliers.sum() < self.config.min_inliers * len(corners):
            return None
        return np.asarray(transform, np.float64)

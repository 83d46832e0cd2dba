"""Interface of the drawing functions; `People` implements it."""

from __future__ import annotations

from typing import Protocol

from ..arrays import Floats
from ..keypoints import KeypointSet
from ..masks import Masks


class Drawable(Protocol):
    """N people of one image, with K keypoints each."""

    @property
    def boxes(self) -> Floats:
        """(N, 4) xyxy px."""

    @property
    def masks(self) -> Masks:
        """N rows."""

    @property
    def keypoints(self) -> Floats:
        """(N, K, 2) px."""

    @property
    def keypoint_set(self) -> KeypointSet:
        """Names and skeleton of the K keypoints."""

    @property
    def keypoint_scores(self) -> Floats:
        """(N, K)."""

    @property
    def presence(self) -> Floats:
        """(N, K)."""

    @property
    def visibility(self) -> Floats:
        """(N, K)."""

    @property
    def scores(self) -> Floats:
        """(N,)."""

    @property
    def image_shape(self) -> tuple[int, int]:
        """(H, W) of the image."""

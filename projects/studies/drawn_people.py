"""The people of drawn videos as if a pipeline had found them."""

from __future__ import annotations

import numpy as np

from pipeline.structures import People
from pipeline.synthetic.video import VideoFrame


def to_people(frame: VideoFrame) -> People:
    """The people of a drawn frame with scores of 1."""
    scene, n = frame.scene, len(frame.scene)
    one, masks = np.ones(n, np.float32), frame.scene.masks
    visible = (scene.visibility == 2).astype(np.float32)
    return People(
        scene.boxes, one, masks, scene.keypoints, visible, visible, visible, masks, one,
        np.zeros(n, np.int32), np.full((n, 17), -1, np.int32), scene.boxes, np.ones(n, np.int32),
        one,
    )  # fmt: skip

"""Drawn crowds as people, with everything that is known about them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.structures import People
from pipeline.synthetic.scene import Scene
from pipeline.synthetic.video import VideoConfig, _ground, _height


def oracle_people(scene: Scene) -> People:
    """The people of a drawn scene as a perfect pipeline would find them."""
    number, masks = len(scene), scene.masks
    one = np.ones(number, np.float32)
    present = (scene.visibility > 0).astype(np.float32)
    visible = (scene.visibility == 2).astype(np.float32)
    return People(
        scene.boxes, one, masks, scene.keypoints, present, present, visible, masks, one,
        np.zeros(number, np.int32), np.full((number, 17), -1, np.int32), scene.boxes,
        np.ones(number, np.int32), one,
    )  # fmt: skip


def score_occlusion(scene: Scene, hides: Any, depth_order: Any, least: float = 0.02) -> Any:
    """Counts of hits, false pairs, missed pairs, right orders and overlapping pairs.

    A true pair covers at least the fraction ``least`` of the hidden person. Pairs that cover less,
    but a pixel, count neither way; the order counts for them too.
    """
    true = scene.occlusion >= least
    hits = int((hides & true).sum())
    wrong, missed = int((hides & (scene.occlusion == 0)).sum()), int((true & ~hides).sum())
    first, second = np.nonzero(np.triu((scene.occlusion > 0) | (scene.occlusion.T > 0)))
    nearer = depth_order[first] < depth_order[second]
    right = nearer == (scene.depth_order[first] < scene.depth_order[second])
    return np.array([hits, wrong, missed, int(right.sum()), len(first)])


def drawn_camera(config: VideoConfig, height_m: float = 1.7) -> dict[str, Any]:
    """Camera of a drawn video, as the content of a camera file.

    Drawn people of one height shrink with the row of their feet as under a level camera; its focal
    length is free and set to the width of the image.
    """
    (far, low), (near, high) = ((_ground(config, d), _height(config, d)) for d in (0.0, 1.0))
    camera_m = height_m * (near - far) / (high - low)  # above the ground
    horizon = far - (near - far) / (high - low) * low
    return {
        'intrinsics': [[config.width, 0, config.width / 2], [0, config.width, horizon], [0, 0, 1]],
        # Camera axes x right, y down, z forward; the world has y forward and z up.
        'rotation': [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        'translation': [0, camera_m, 0],
        'unit': 'm',
    }

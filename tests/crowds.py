"""Drawn crowds as people, with everything that is known about them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.structures import People
from pipeline.synthetic.scene import Scene


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
    but a pixel, count neither way; the order counts for them too. Without an order (NaN), a person
    was not found.
    """
    true = scene.occlusion >= least
    hits = int((hides & true).sum())
    wrong, missed = int((hides & (scene.occlusion == 0)).sum()), int((true & ~hides).sum())
    first, second = np.nonzero(np.triu((scene.occlusion > 0) | (scene.occlusion.T > 0)))
    found = np.isfinite(depth_order[first] + depth_order[second])
    first, second = first[found], second[found]
    nearer = depth_order[first] < depth_order[second]
    right = nearer == (scene.depth_order[first] < scene.depth_order[second])
    return np.array([hits, wrong, missed, int(right.sum()), len(first)])

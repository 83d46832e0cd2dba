"""Masks for people without one: which are trusted, and the whole tool on a real image."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline.cli.demo import demo_inputs
from pipeline.io.images import read_image
from pipeline.masks import LogitMasks, Masks
from pipeline.structures import Image, MaskSource, Poses, Segments
from projects.compact_models.tools.find_pseudo_masks import (
    dense,
    is_wanted,
    main,
    masks_of_image,
    mirrored,
    poses_of,
    trusted_mask,
)

SHAPE = (40, 60)
BOX = (10, 8, 30, 38)


def soft(box: tuple[int, int, int, int], inside: float = 2.0) -> NDArray[np.float32]:
    """Logits of a rectangle, (H, W)."""
    x1, y1, x2, y2 = box
    logits = np.full(SHAPE, -3, np.float32)
    logits[y1:y2, x1:x2] = inside
    return logits


# Name, second look, least agreement, least IoU with the box, box of the mask kept or None.
CASES: list[tuple[str, NDArray[np.float32], float, float, tuple[int, ...] | None]] = [
    ('equal', soft(BOX), 0.9, 0.9, BOX),
    ('the surer look decides', soft((10, 8, 28, 38), 9.0), 0.9, 0.8, (10, 8, 28, 38)),
    ('they differ', soft((10, 8, 20, 38)), 0.6, 0.1, None),
    ('they differ, allowed', soft((10, 8, 20, 38), 1.0), 0.4, 0.4, (10, 8, 20, 38)),
    ('the box is not filled', soft((10, 8, 28, 38)), 0.8, 0.95, None),
    ('nothing found', soft((0, 0, 0, 0)), 0.0, 0.0, None),
]


@pytest.mark.parametrize(
    ('second', 'agreement', 'box_iou', 'kept'), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_a_mask_is_trusted_if_both_looks_agree_and_fill_the_box(
    second: NDArray[np.float32], agreement: float, box_iou: float, kept: tuple[int, ...] | None
) -> None:
    box = np.array(BOX, np.float32)
    mask = trusted_mask(soft(BOX), second, box, agreement, box_iou)
    if kept is None:
        assert mask is None
    else:
        assert mask is not None
        assert Masks.from_dense([mask], SHAPE).boxes.tolist() == [list(kept)]


def person(number: int, **changes: Any) -> dict[str, Any]:
    x1, y1, x2, y2 = BOX
    fields = {'id': number, 'image_id': 1, 'category_id': 1, 'iscrowd': 0}
    return {**fields, 'bbox': [x1, y1, x2 - x1, y2 - y1], **changes}


@pytest.mark.parametrize(
    ('changes', 'wanted'),
    [
        ({}, True),
        ({'segmentation': []}, True),
        ({'segmentation': {'size': [1, 1], 'counts': '01'}}, False),
        ({'iscrowd': 1}, False),
        ({'merged_people': 2}, False),
        ({'bbox': [0, 0, 29, 29]}, False),
    ],
)
def test_who_gets_a_mask(changes: dict[str, Any], wanted: bool) -> None:
    assert is_wanted(person(1, **changes), 30) is wanted


def test_mirrored_twice_is_as_before() -> None:
    keypoints = [float(v) for i in range(17) for v in (10 + i, 20, i % 3)]
    poses = poses_of([person(1, keypoints=keypoints), person(2)], SHAPE)
    assert poses.visibility.tolist() == [[float(i % 3 == 2) for i in range(17)], [0.0] * 17]
    once = mirrored(poses, SHAPE[1])
    assert once.boxes.tolist() == [[30, 8, 50, 38]] * 2
    assert once.keypoints[0, 0].tolist() == [49, 20]
    again = mirrored(once, SHAPE[1])
    assert np.array_equal(again.boxes, poses.boxes)
    assert np.array_equal(again.keypoints, poses.keypoints)


class BoxFiller:
    """A segmenter that fills each box but for its leftmost column in the image at hand."""

    def __call__(self, image: Image) -> Any:
        height, width = image.shape[:2]

        def fill(poses: Poses, others: Poses) -> Segments:
            boxes = poses.boxes + np.array([1, 0, 0, 0], np.float32)
            logits = LogitMasks.from_masks(Masks.from_boxes(boxes, (height, width)), 2.0)
            n = len(poses)
            sources = np.full(n, MaskSource.SAM, np.int32)
            return Segments(logits, np.ones(n, np.float32), sources, np.full((n, 17), -1, np.int32))

        return fill


def test_both_looks_are_laid_over_each_other() -> None:
    """The column that one of them misses has a mean below zero, on either side."""
    args = argparse.Namespace(min_agreement=0.9, min_box_iou=0.85)
    image = np.zeros((*SHAPE, 3), np.uint8)
    (mask,) = masks_of_image(BoxFiller(), image, [person(1)], args)
    assert mask is not None
    assert Masks.from_dense([mask], SHAPE).boxes.tolist() == [[11, 8, 29, 38]]
    logits = LogitMasks.from_masks(Masks.from_dense([mask], SHAPE), 2.0)
    assert np.array_equal(dense(logits, 0) > 0, mask)


def test_the_tool_adds_masks_to_a_real_image(tmp_path: Path) -> None:
    """Grace Hopper fills most of the image; the second box is around a flag, half of it."""
    path = next(path for path in demo_inputs(tmp_path) if path.endswith('grace_hopper.jpg'))
    shutil.copy(path, tmp_path / 'a.jpg')
    height, width = read_image(path).shape[:2]
    image = {'id': 1, 'file_name': 'a.jpg', 'height': height, 'width': width, 'subset': 'train'}
    rows = [
        person(1, bbox=[10, 10, width - 20, height - 10]),
        person(2, bbox=[0, 0, width, 40]),
        person(3, image_id=2, bbox=[10, 10, width - 20, height - 10]),
    ]
    content = {'images': [image, {**image, 'id': 2, 'subset': 'val'}], 'annotations': rows}
    (tmp_path / 'annotations.json').write_text(json.dumps({**content, 'categories': []}))
    main([str(tmp_path), str(tmp_path / 'out.json'), '--min-agreement', '0.8'])
    found = json.loads((tmp_path / 'out.json').read_text())['annotations']
    assert [row.get('pseudo_mask', False) for row in found] == [True, False, False]
    mask = coco_mask.decode(found[0]['segmentation'])
    assert mask.shape == (height, width)
    assert 0.3 < mask.mean() < 0.9
    assert found[1:] == rows[1:]

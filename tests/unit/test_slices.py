"""Detection in slices, with a detector that finds bright rectangles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.config import ConfigError, DetectorConfig, parse
from pipeline.detectors.slices import SliceConfig, SlicedDetector, make_slices
from pipeline.loop import LoopConfig, PersonPipeline
from pipeline.masks import Masks
from pipeline.stages import Detector
from pipeline.structures import Detections, Image, size_of
from tests.oracles import FunctionDetector, OraclePoses, OracleSegmenter
from tests.unit.test_loop import ground_truth, noise_image

SHAPE = (100, 200)


class RectangleDetector(Detector):
    """Finds each connected bright area whose side is at least a fraction of the image width."""

    def __init__(self, min_fraction: float = 0.0, with_masks: bool = True) -> None:
        self.min_fraction = min_fraction
        self.with_masks = with_masks
        self.batches: list[list[tuple[int, int]]] = []

    def __call__(self, image: Image) -> Detections:
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[Image]) -> list[Detections]:
        self.batches.append([size_of(image) for image in images])
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Detections:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(image[..., 0])
        rows = [i for i in range(1, count) if stats[i, 2] >= self.min_fraction * image.shape[1]]
        masks = Masks.from_dense([labels == i for i in rows], size_of(image))
        scores = np.array([image[labels == i][0, 0] / 255 for i in rows], np.float32)
        boxes = masks.boxes
        order = np.argsort(-scores)
        if not self.with_masks:
            masks = Masks.empty(*size_of(image), len(rows))
        return Detections(boxes, scores, masks).select(order)


def draw(*boxes: tuple[int, int, int, int]) -> Image:
    """Black image with rectangles of falling brightness, which is the score."""
    image = np.zeros((*SHAPE, 3), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        image[y1:y2, x1:x2] = 250 - number
    return image


@pytest.mark.parametrize(
    ('shape', 'grid', 'overlap', 'expected'),
    [
        ((70, 70), '2x2', 0.25, [(0, 0, 40, 40), (30, 0, 70, 40), (0, 30, 40, 70),
            (30, 30, 70, 70)]),
        ((50, 100), '2x1', 0.0, [(0, 0, 50, 50), (50, 0, 100, 50)]),
        ((10, 250), '3x1', 0.25, [(0, 0, 100, 10), (75, 0, 175, 10), (150, 0, 250, 10)]),
        ((1, 1), '2x1', 0.25, [(0, 0, 1, 1), (0, 0, 1, 1)]),
        ((50, 50), '1x1', 0.25, []),
        ((640, 640), 'auto', 0.25, []),
        ((9, 641), 'auto', 0.0, [(0, 0, 321, 9), (320, 0, 641, 9)]),
    ],
    ids=['2x2', 'no overlap', '3x1', 'one pixel', 'the whole image', 'small', 'wide'],
)  # fmt: skip
def test_slices_cover_the_image(
    shape: tuple[int, int], grid: str, overlap: float, expected: list[tuple[int, ...]]
) -> None:
    assert make_slices(shape, SliceConfig(grid, overlap)) == expected


@pytest.mark.parametrize(
    ('shape', 'count'), [((768, 1024), 4), ((1080, 1920), 6), ((3000, 4000), 16)]
)
def test_automatic_slices_follow_the_size(shape: tuple[int, int], count: int) -> None:
    assert len(make_slices(shape, SliceConfig('auto'))) == count


# Slices of 2x2 end at x = 115 and y = 58, and start at x = 85 and y = 42.
PEOPLE = {
    'in one slice': (10, 20, 16, 40),
    'in the overlap of two': (95, 20, 101, 40),
    'cut by a slice': (112, 20, 118, 40),
    'in the overlap of four': (95, 47, 105, 53),
    '3 px from an inner edge': (88, 5, 94, 25),
    'at the edge of the image': (190, 80, 200, 100),
}


@pytest.mark.parametrize('box', PEOPLE.values(), ids=PEOPLE)
@pytest.mark.parametrize('with_masks', [True, False])
def test_a_small_person_is_found_once_where_it_is(
    box: tuple[int, int, int, int], with_masks: bool
) -> None:
    image, inner = draw(box), RectangleDetector(0.052, with_masks)
    assert len(inner(image)) == 0  # too small in the whole image
    found = SlicedDetector(inner, SliceConfig('2x2'))(image)
    assert found.boxes.tolist() == [list(box)]
    mask = image[..., 0] > 0 if with_masks else np.zeros(SHAPE, bool)
    np.testing.assert_array_equal(found.detector_masks.dense(0), mask)


def test_the_whole_image_counts_and_parts_at_inner_edges_do_not() -> None:
    large, small = (20, 10, 180, 90), (2, 2, 8, 8)
    image = draw(large, small)
    found = SlicedDetector(RectangleDetector(0.04), SliceConfig('2x2'))(image)
    # Every slice cuts the large one; the whole image misses the small one.
    assert found.boxes.tolist() == [list(large), list(small)]
    assert (found.box_scores[:-1] >= found.box_scores[1:]).all()


def test_nobody_is_found_in_an_empty_image() -> None:
    found = SlicedDetector(RectangleDetector(), SliceConfig('3x2'))(draw())
    assert (len(found), found.detector_masks.height) == (0, SHAPE[0])


def test_max_people_holds_for_all_slices_together() -> None:
    image = draw(*((x, 5, x + 6, 25) for x in range(10, 200, 30)))
    limited = SlicedDetector(RectangleDetector(), SliceConfig('2x2'), max_people=3)(image)
    assert limited.boxes[:, 0].tolist() == [10, 40, 70]


def test_all_views_of_all_images_are_one_call() -> None:
    inner = RectangleDetector()
    images = [draw((10, 20, 16, 40)), draw((10, 20, 16, 40))[:70]]
    together = SlicedDetector(inner, SliceConfig('2x2')).predict_batch(images)
    assert inner.batches == [[(100, 200), (70, 200), *[(58, 115)] * 4, *[(40, 115)] * 4]]
    assert [found.boxes.tolist() for found in together] == [[[10, 20, 16, 40]]] * 2
    assert [found.detector_masks.height for found in together] == [100, 70]


@pytest.mark.parametrize('later', [False, True])
def test_a_later_detector_runs_from_round_two_on(later: bool) -> None:
    seen = {'first': 0, 'later': 0}

    def detect(name: str) -> FunctionDetector:
        def run(image: Image) -> Detections:
            seen[name] += 1
            rows = ground_truth().select(np.array([seen['first'] + seen['later'] - 1]))
            return Detections(rows.boxes, rows.box_scores, rows.masks)

        return FunctionDetector(run)

    loop = PersonPipeline(
        detect('first'), OraclePoses(ground_truth()), OracleSegmenter(ground_truth()),
        LoopConfig(max_rounds=3), detect('later') if later else None,
    )  # fmt: skip
    assert loop(noise_image()).rounds.tolist() == [1, 2, 3]
    assert seen == ({'first': 1, 'later': 2} if later else {'first': 3, 'later': 0})


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'grid': '2'}, "grid must be columns x rows such as 2x2 or 3x2, auto, or None, got '2'"),
        ({'grid': '0x2'}, "got '0x2'"),
        ({'overlap': 1.0}, r'overlap must be in \[0, 1\), got 1.0'),
        ({'max_iou': 1.0}, r'max_iou must be in \[0, 1\), got 1.0'),
        ({'from_round': 3}, 'from_round'),
        ({'grids': '2x2'}, 'grids'),
    ],
    ids=lambda value: str(value),
)
def test_wrong_settings_are_named(values: dict[str, Any], message: str) -> None:
    settings = {'config': 'a.py', 'checkpoint': None, 'slices': values}
    with pytest.raises(ConfigError, match=message):
        parse(DetectorConfig, settings, 'detector')

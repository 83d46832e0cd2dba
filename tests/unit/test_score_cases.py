"""Small cases with metrics calculated by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.coco import score
from pipeline.io.coco import TASKS, Task
from pipeline.keypoints import COCO_SIGMAS
from pipeline.masks import Masks
from tests.toy_people import STANDING, coco

Row = dict[str, Any]
W, H = 100, 200  # px of every person
PLACES = {1: [(50, 20), (300, 40)], 2: [(10, 10), (400, 60)]}  # image -> corners of its people


def row(image_id: int, x: float, y: float, value: float = 1.0) -> Row:
    """A result: a rectangle with the keypoints of a standing person."""
    box = np.array([[x, y, x + W, y + H]], np.float32)
    points = np.concatenate([STANDING * [W, H] + [x, y], np.ones((17, 1))], 1)
    return {
        'image_id': image_id,
        'category_id': 1,
        'score': value,
        'bbox': [x, y, W, H],
        'segmentation': Masks.from_boxes(box, (300, 600)).to_rle()[0],
        'keypoints': points.ravel().tolist(),
    }


def ground_truth(crowd: tuple[int, int] | None = None) -> Row:
    """Four people in two images; ``crowd`` adds a crowd region to image 1."""
    people = [row(i, *corner) for i, corners in PLACES.items() for corner in corners]
    for number, person in enumerate(people, start=1):
        person['keypoints'][2::3] = [2.0] * 17
        person |= {'id': number, 'area': W * H, 'iscrowd': 0, 'num_keypoints': 17}
    if crowd is not None:
        nothing = {'keypoints': [0.0] * 51, 'num_keypoints': 0}
        people.append(row(1, *crowd) | nothing | {'id': 9, 'area': W * H, 'iscrowd': 1})
    images = [{'id': i, 'file_name': f'{i}.jpg', 'height': 300, 'width': 600} for i in PLACES]
    return coco(images, people)


def found(shift: float = 0) -> list[Row]:
    """The four people, scores falling, moved to the right by ``shift`` px."""
    corners = [(i, x, y) for i, places in PLACES.items() for x, y in places]
    return [row(i, x + shift, y, 0.9 - 0.1 * n) for n, (i, x, y) in enumerate(corners)]


def interleaved() -> list[Row]:
    """Each person twice, the second right after the first."""
    return [r | {'score': r['score'] - less} for r in found() for less in (0, 0.05)]


def with_false_positive(value: float, x: float = 180) -> list[Row]:
    """All people, and one false positive."""
    return [*found(), row(1, x, 90, value)]


# AP is the mean of the precision at recall 0, 0.01, ..., 1: 101 points. With four people, recall
# 0.25 is reached by the first 26 points, each further quarter by 25 more.
QUARTERS = np.array([26, 25, 25, 25])

CASES: list[tuple[str, list[Row], float, float]] = [
    # name, results, AP, AR: at every overlap alike, so AP50 and AP75 are the same
    ('exact', found(), 1, 1),
    ('no results', [], 0, 0),
    # Three of four, no false positive: precision 1 up to recall 0.75, 0 beyond.
    ('last one dropped', found()[:3], QUARTERS[:3].sum() / 101, 0.75),
    ('first one dropped', found()[1:], QUARTERS[:3].sum() / 101, 0.75),
    ('an image dropped', found()[:2], QUARTERS[:2].sum() / 101, 0.5),
    # Duplicates with the lowest scores follow at recall 1.
    ('duplicated behind', [*found(), *(r | {'score': 0.1} for r in found())], 1, 1),
    # The k-th person is the (2k - 1)-th result: precision 1, 2/3, 3/5, 4/7.
    ('duplicated at once', interleaved(), QUARTERS @ [1, 2 / 3, 3 / 5, 4 / 7] / 101, 1),
    # First: 1/2, 2/3, 3/4, 4/5; the best precision at this or a higher recall counts.
    ('a false positive first', with_false_positive(0.95), 4 / 5, 1),
    ('a false positive last', with_false_positive(0.05), 1, 1),
    # Second: 1, 2/3, 3/4, 4/5 -> 1, 4/5, 4/5, 4/5.
    ('a false positive second', with_false_positive(0.85), (26 + 75 * 4 / 5) / 101, 1),
]


@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize(('results', 'ap', 'ar'), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_detected_and_missed_people(results: list[Row], ap: float, ar: float, task: Task) -> None:
    metrics = score(results, ground_truth(), [task]).tasks[task]
    assert [metrics.ap, metrics.ap50, metrics.ap75] == pytest.approx([ap] * 3)
    assert [metrics.ar, metrics.ar50, metrics.ar75] == pytest.approx([ar] * 3)
    assert metrics.ap_large == pytest.approx(ap)  # 20,000 px^2
    assert (metrics.ap_small, metrics.ap_medium) == (None, None)


def iou_after(shift: float) -> float:
    """Of a box with itself, moved by ``shift`` px: (W - s) / (W + s)."""
    return (W - shift) / (W + shift)


def oks_after(shift: float) -> float:
    """Mean over the keypoints of exp(-s^2 / (2 area (2 sigma)^2))."""
    return float(np.exp(-(shift**2) / (2 * W * H * (2 * COCO_SIGMAS) ** 2)).mean())


OVERLAPS: list[tuple[int, int, int]] = [
    # px, hits of boxes and masks, hits of keypoints, among 0.50, 0.55, ..., 0.95
    (0, 10, 10),
    (4, 9, 10),  # IoU 96/104 = 0.923; OKS 0.954
    (10, 7, 6),  # IoU 90/110 = 0.818; OKS 0.776
    (20, 4, 0),  # IoU 80/120 = 0.667; OKS 0.497
    (30, 1, 0),  # IoU 70/130 = 0.538; OKS 0.302
    (40, 0, 0),  # IoU 60/140 = 0.429
]


@pytest.mark.parametrize(('shift', 'by_iou', 'by_oks'), OVERLAPS)
def test_shifted_results(shift: int, by_iou: int, by_oks: int) -> None:
    for task, hits in (('bbox', by_iou), ('segm', by_iou), ('keypoints', by_oks)):
        overlap = oks_after(shift) if task == 'keypoints' else iou_after(shift)
        assert hits == sum(overlap >= t for t in np.linspace(0.5, 0.95, 10)), overlap
        metrics = score(found(shift), ground_truth(), [task]).tasks[task]  # type: ignore[list-item]
        # All match at `hits` of the ten thresholds and none at the others.
        assert (metrics.ap, metrics.ar) == pytest.approx((hits / 10, hits / 10))
        assert metrics.ap50 == pytest.approx(float(overlap >= 0.5))
        assert metrics.ap75 == pytest.approx(float(overlap >= 0.75))


@pytest.mark.parametrize('task', ['bbox', 'segm'])
@pytest.mark.parametrize(('crowd', 'ap'), [(None, 0.8), ((180, 90), 1)])
def test_results_inside_a_crowd_region_do_not_count(
    task: Task, crowd: tuple[int, int] | None, ap: float
) -> None:
    metrics = score(with_false_positive(0.95), ground_truth(crowd), [task]).tasks[task]
    assert metrics.ap == pytest.approx(ap)


def test_crowd_region_is_not_a_missed_person() -> None:
    metrics = score(found(), ground_truth(crowd=(180, 90)))
    assert [m.ar for m in metrics.tasks.values()] == pytest.approx([1, 1, 1])
    assert metrics.num_people == 4


@pytest.mark.parametrize(
    ('change', 'ap'),
    [
        # A person without labelled keypoints is ignored: three people, three true positives, and
        # the fourth result matches the ignored person.
        (lambda p: p | {'keypoints': [0.0] * 51, 'num_keypoints': 0}, 1.0),
        # Labelled but hidden (v = 1) counts like visible.
        (lambda p: p | {'keypoints': [1 if v == 2 else v for v in p['keypoints']]}, 1.0),
        # The nose of the first result would be far off, but is not annotated.
        (lambda p: p | {'keypoints': [0, 0, 0, *p['keypoints'][3:]]}, 1.0),
    ],
    ids=['unlabelled', 'hidden', 'unlabelled nose'],
)
def test_flags_of_keypoints(change: Callable[[Row], Row], ap: float) -> None:
    content, results = ground_truth(), found()
    content['annotations'][0] = change(content['annotations'][0])
    if not content['annotations'][0]['keypoints'][2]:
        results[0]['keypoints'][:2] = [0, 0]
    assert score(results, content, ['keypoints']).tasks['keypoints'].ap == pytest.approx(ap)

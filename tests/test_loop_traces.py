"""The loop with the recorded stages of the reference: same calls, same people."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from pipeline.detectors.selection import select_people
from pipeline.loop import LoopConfig, PersonPipeline
from pipeline.masks import LogitMasks, Masks
from pipeline.nms import PoseNMSConfig
from pipeline.segmenters.prompts import PromptConfig, make_prompts
from pipeline.structures import Detections, Image, MaskSource, Poses, Segments
from tests import fixtures

AS_IN_BMP = PoseNMSConfig(box_area='as_in_bmp', method='as_in_bmp')
CORRECT = PoseNMSConfig(quality='num_confident')


@dataclass
class Recorder:
    """Detector, pose estimator and segmenter from the tables of one scene, with their calls."""

    table: dict[str, np.ndarray]
    limit: float
    num_keypoints: int = 17
    calls: list[dict[str, Any]] = field(default_factory=list)

    def detect(self, image: Image) -> Detections:
        digest = hashlib.sha256(np.ascontiguousarray(image[..., ::-1]).tobytes()).hexdigest()
        black = (image == 0).all(2)
        share = np.array([black[m].mean() for m in self.table['entry_masks']])

        def shown(e: int) -> bool:
            blocker, gone = self.table['entry_blocker'][e], self.table['entry_gone_if_painted'][e]
            return bool(
                share[e] <= self.limit
                and (blocker < 0 or share[blocker] > self.limit)
                and (gone < 0 or share[gone] <= self.limit)
            )

        rows = np.array([e for e in range(len(share)) if shown(e)], int)
        boxes, scores = self.table['entry_boxes_xyxy'][rows], self.table['entry_scores'][rows]
        keep = select_people(
            boxes, scores, self.table['entry_labels'][rows], score_threshold=0.3, max_iou=0.3
        )
        self.calls.append({'call': 'detector', 'sha256': digest, 'returned': rows.tolist()})
        self.calls.append({'call': 'filter', 'kept': rows[keep].tolist()})
        masks = Masks.from_dense(self.table['entry_masks'][rows[keep]], image.shape[:2])
        return Detections(boxes[keep], scores[keep], masks)

    def __call__(self, image: Image, detections: Detections) -> Poses:
        entries = [
            int(np.flatnonzero((self.table['entry_boxes_xyxy'] == box).all(1))[0])
            for box in detections.boxes
        ]
        self.calls.append({'call': 'pose', 'entries': entries})
        points = (
            self.table['entry_keypoints'][entries][:, :17].reshape(-1, 17, 3).astype(np.float32)
        )
        return Poses(
            detections.boxes, detections.box_scores, detections.detector_masks,
            points[..., :2], points[..., 2],
            self.table['entry_presence'][entries][:, :17].reshape(-1, 17),
            self.table['entry_visibility'][entries][:, :17].reshape(-1, 17),
        )  # fmt: skip

    def segment(self, image: Image) -> Any:
        def masks_of(poses: Poses, others: Poses) -> Segments:
            prompts = make_prompts(poses, others, PromptConfig(min_confident=0.5))
            masks, scores = [], []
            for i, count in enumerate(prompts.num_points.tolist()):
                points = prompts.points[i, :count]
                mask, score = self.discs(points, image.shape[:2])
                masks.append(mask)
                scores.append(score)
                self.calls.append(
                    {'call': 'sam', 'points': points.tolist(), 'pixels': int(mask.sum())}
                )
            logits = LogitMasks.from_masks(Masks.from_dense(masks, image.shape[:2]), 1.0)
            sources = np.full(len(poses), MaskSource.SAM, np.int32)
            return Segments(logits, np.array(scores, np.float32), sources, prompts.keypoints)

        return masks_of

    def discs(self, points: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, float]:
        ys, xs = np.mgrid[: shape[0], : shape[1]]
        mask = np.zeros(shape, bool)
        radius = float(self.table['sam_radius'][0])
        for x, y in points.tolist():
            mask |= (xs - x) ** 2 + (ys - y) ** 2 <= radius**2
        return mask, 0.5 + 0.4 * (float(points.sum()) % 100) / 100 if len(points) else 0.1


def scenes() -> list[str]:
    path = fixtures.FOLDER / 'loop_trace.json'
    return sorted(fixtures.facts('loop_trace')['scenes']) if path.exists() else ['absent']


def run(
    scene: str, nms: PoseNMSConfig
) -> tuple[Any, Recorder, dict[str, np.ndarray], dict[str, Any]]:
    facts = fixtures.facts('loop_trace')
    facts_of_scene = facts['scenes'][scene]
    table = dict(np.load(fixtures.FOLDER / facts_of_scene['file']))
    recorder = Recorder(table, facts['black_fraction_limit'])
    config = LoopConfig(
        max_rounds=facts['num_bmp_iters'],
        fallback=None,
        exclusive='as_in_bmp',
        boxes='detector',
        pose_nms=nms,
    )
    loop = PersonPipeline(recorder.detect, recorder, recorder.segment, config)
    people = loop(np.ascontiguousarray(table['image_bgr'][..., ::-1]))
    return people, recorder, table, facts_of_scene


@pytest.mark.parametrize('kind', ['reference', 'correct'])
@pytest.mark.parametrize('scene', scenes())
def test_the_loop_makes_the_recorded_people(scene: str, kind: str) -> None:
    people, _recorder, table, _facts = run(scene, AS_IN_BMP if kind == 'reference' else CORRECT)
    prefix = kind if f'{kind}_bboxes' in table else 'reference'
    np.testing.assert_array_equal(people.boxes, table[f'{prefix}_bboxes'].reshape(-1, 4))
    np.testing.assert_array_equal(
        people.keypoints, table[f'{prefix}_keypoints'][..., :2].reshape(-1, 17, 2)
    )
    np.testing.assert_array_equal(people.presence, table[f'{prefix}_presence'].reshape(-1, 17))
    np.testing.assert_array_equal(people.visibility, table[f'{prefix}_visibility'].reshape(-1, 17))
    for i in range(len(people)):
        np.testing.assert_array_equal(
            people.masks.dense(i), table[f'{prefix}_masks'][i].astype(bool)
        )


@pytest.mark.parametrize('kind', ['reference', 'correct'])
@pytest.mark.parametrize('scene', scenes())
def test_the_stages_see_what_was_recorded(scene: str, kind: str) -> None:
    _, recorder, _, facts = run(scene, AS_IN_BMP if kind == 'reference' else CORRECT)
    trace = facts[f'trace_{kind}'] or facts['trace_reference']
    got = [c for c in recorder.calls if c['call'] == 'detector']
    want = [c for c in trace if c['call'] == 'detector']
    for ours, theirs in zip(got, want, strict=False):
        assert ours['sha256'] == theirs['image']['sha256']
        assert ours['returned'] == theirs['returned_entries']
    kept = [c['kept_entries'] for c in trace if c['call'].startswith('after filter')]
    # The reference repeats a search that found nobody; our loop has ended by then.
    assert len(got) == len(want) or not kept[len(got) - 1]
    assert [c['kept'] for c in recorder.calls if c['call'] == 'filter'] == kept[: len(got)]
    clicks = [(c['points'], c['out_pixels']) for c in trace if c['call'] == 'sam.predict']
    assert [(c['points'], c['pixels']) for c in recorder.calls if c['call'] == 'sam'] == clicks

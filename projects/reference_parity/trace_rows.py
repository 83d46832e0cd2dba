"""The whole loop with the recorded stages of the reference: same calls, same people."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.detectors.selection import select_people
from pipeline.loop import LoopConfig, PersonPipeline
from pipeline.masks import LogitMasks, Masks
from pipeline.nms import PoseNMSConfig
from pipeline.segmenters.prompts import PromptConfig, make_prompts
from pipeline.stages import PoseEstimator
from pipeline.structures import Detections, Image, MaskSource, People, Poses, Segments, size_of
from tests.oracles import FunctionDetector

from . import recordings
from .as_in_bmp import as_in_bmp
from .loop_rows import AS_IN_BMP, CORRECT
from .rows import EXACT, Array, Comparison


def scenes() -> dict[str, Any]:
    found: dict[str, Any] = recordings.facts('loop_trace')['scenes']
    return found


@dataclass
class Recorder(PoseEstimator):
    """Detector, pose estimator and segmenter from the tables of one scene, with their calls."""

    table: dict[str, Array]
    limit: float
    num_keypoints: int = 17
    calls: list[dict[str, Any]] = field(default_factory=list)

    def detect(self, image: Image) -> Detections:
        digest = hashlib.sha256(np.ascontiguousarray(image[..., ::-1]).tobytes()).hexdigest()
        black = (image == 0).all(2)
        black_fraction = np.array([black[m].mean() for m in self.table['entry_masks']])

        def shown(e: int) -> bool:
            blocker, gone = self.table['entry_blocker'][e], self.table['entry_gone_if_painted'][e]
            return bool(
                black_fraction[e] <= self.limit
                and (blocker < 0 or black_fraction[blocker] > self.limit)
                and (gone < 0 or black_fraction[gone] <= self.limit)
            )

        rows = np.array([e for e in range(len(black_fraction)) if shown(e)], int)
        boxes, scores = self.table['entry_boxes_xyxy'][rows], self.table['entry_scores'][rows]
        keep = select_people(
            boxes, scores, self.table['entry_labels'][rows], score_threshold=0.3, max_iou=0.3
        )
        self.calls.append({'call': 'detector', 'sha256': digest, 'returned': rows.tolist()})
        self.calls.append({'call': 'filter', 'kept': rows[keep].tolist()})
        masks = Masks.from_dense(self.table['entry_masks'][rows[keep]], size_of(image))
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
                mask, score = self.discs(points, size_of(image))
                masks.append(mask)
                scores.append(score)
                self.calls.append(
                    {'call': 'sam', 'points': points.tolist(), 'pixels': int(mask.sum())}
                )
            logits = LogitMasks.from_masks(Masks.from_dense(masks, size_of(image)), 1.0)
            sources = np.full(len(poses), MaskSource.SAM, np.int32)
            return Segments(logits, np.array(scores, np.float32), sources, prompts.keypoints)

        return masks_of

    def discs(self, points: Array, shape: tuple[int, int]) -> tuple[Array, float]:
        ys, xs = np.mgrid[: shape[0], : shape[1]]
        mask = np.zeros(shape, bool)
        radius = float(self.table['sam_radius'][0])
        for x, y in points.tolist():
            mask |= (xs - x) ** 2 + (ys - y) ** 2 <= radius**2
        return mask, 0.5 + 0.4 * (float(points.sum()) % 100) / 100 if len(points) else 0.1


def run(c: Comparison, nms: PoseNMSConfig, rounds: int) -> tuple[People, Recorder]:
    """People of a recorded scene after so many rounds, in the order found, as in the reference."""
    facts = recordings.facts('loop_trace')
    recorder = Recorder(c.arrays, facts['black_fraction_limit'])
    stages = FunctionDetector(recorder.detect), recorder, recorder.segment
    loop = as_in_bmp(PersonPipeline(*stages, LoopConfig(max_rounds=rounds)))
    loop = replace(loop, config=replace(loop.config, pose_nms=nms))
    image = np.ascontiguousarray(c.arrays['image_bgr'][..., ::-1])
    *_, (state,) = loop.iter_rounds([image])  # in the order of discovery, as recorded
    return state.people, recorder


def loop_trace(scene: str) -> Comparison:
    """One recorded scene, with the reference's pose NMS and with the correct one."""
    facts = scenes()[scene]
    c = Comparison(f'loop_trace: {scene}', facts['file'].removesuffix('.npz'))
    rounds = recordings.facts('loop_trace')['num_bmp_iters']
    for kind, nms in (('reference', AS_IN_BMP), ('correct', CORRECT)):
        people, recorder = run(c, nms, rounds)
        prefix = kind if f'{kind}_bboxes' in c.arrays else 'reference'
        compare_result(c, people, prefix, kind)
        compare_calls(c, recorder, facts[f'trace_{kind}'] or facts['trace_reference'], kind)
        for number in range(rounds):
            so_far, _ = run(c, nms, number + 1)
            new = so_far.select(np.flatnonzero(so_far.rounds == number + 1))
            compare_round(c, new, f'{prefix}_iter{number}', kind)
    return c


def compare_round(c: Comparison, new: People, prefix: str, kind: str) -> None:
    """The people that a round added, with their clicks."""
    if f'{prefix}_new_bboxes' not in c.arrays:
        c.count(f'{kind}: each round | people', len(new))
        return
    ours = {
        'new_bboxes': new.detector_boxes,
        'new_masks': np.array([new.masks.dense(i) for i in range(len(new))]),
        'new_scores': new.keypoint_scores.mean(1),
        'sam_scores': new.mask_scores,
        'sam_kpts': clicks_of(new, c.arrays[f'{prefix}_sam_kpts'].shape[1]),
    }
    for name, values in ours.items():
        tolerance = 1e-6 if name == 'new_scores' else EXACT  # a mean, summed in another order
        c.add(f'{kind}: each round | {name}', values, c.arrays[f'{prefix}_{name}'], tolerance)


def clicks_of(people: People, most: int) -> Array:
    """x, y, visibility of the keypoints that were clicked, (N, most, 3), zeros behind them."""
    clicks = np.zeros((len(people), most, 3), np.float32)
    for i, prompt in enumerate(people.prompts):
        used = prompt[prompt >= 0]
        clicks[i, : len(used), :2] = people.keypoints[i, used]
        clicks[i, : len(used), 2] = people.visibility[i, used]
    return clicks


def compare_result(c: Comparison, people: People, prefix: str, kind: str) -> None:
    n, recorded = len(people), {k: c.arrays[f'{prefix}_{k}'] for k in (
        'bboxes', 'keypoints', 'presence', 'visibility', 'masks',
    )}  # fmt: skip
    c.add(f'{kind}: people | boxes', people.boxes, recorded['bboxes'].reshape(-1, 4), EXACT)
    points = recorded['keypoints'].reshape(-1, 17, 3)
    c.add(f'{kind}: people | keypoints', people.keypoints, points[..., :2], EXACT)
    c.add(f'{kind}: people | keypoint scores', people.keypoint_scores, points[..., 2], EXACT)
    for name in ('presence', 'visibility'):
        c.add(
            f'{kind}: people | {name}', getattr(people, name), recorded[name].reshape(-1, 17), EXACT
        )
    c.count(f'{kind}: people | people', abs(n - len(recorded['masks'])))
    for i in range(n):
        c.add(f'{kind}: people | masks', people.masks.dense(i), recorded['masks'][i], EXACT)


def compare_calls(
    c: Comparison, recorder: Recorder, trace: list[dict[str, Any]], kind: str
) -> None:
    """Inputs of each stage, in order."""
    got = [call for call in recorder.calls if call['call'] == 'detector']
    want = [call for call in trace if call['call'] == 'detector']
    for actual, expected in zip(got, want, strict=False):
        c.count(f'{kind}: calls | images searched', actual['sha256'] != expected['image']['sha256'])
        c.count(
            f'{kind}: calls | raw detections', actual['returned'] != expected['returned_entries']
        )
    kept = [call['kept_entries'] for call in trace if call['call'].startswith('after filter')]
    # The reference repeats a round without detections; the loop of the package has ended by then.
    stopped_early = len(got) != len(want) and bool(kept[len(got) - 1])
    c.count(f'{kind}: calls | rounds', stopped_early)
    looked_at = [call['kept'] for call in recorder.calls if call['call'] == 'filter']
    c.count(f'{kind}: calls | people looked at', looked_at != kept[: len(got)])
    clicks = [
        (call['points'], call['out_pixels']) for call in trace if call['call'] == 'sam.predict'
    ]
    made = [(call['points'], call['pixels']) for call in recorder.calls if call['call'] == 'sam']
    c.count(f'{kind}: calls | clicks and mask sizes', made != clicks)

"""Compare each speed setting with float32: AP, and differences of boxes, masks and keypoints.

AP covers all candidates. The differences cover the people of a normal run (`loop.min_score`): each
is paired with the person of the same image whose box overlaps most (IoU of at least 0.5). Keypoints
are compared where float32 gives them a score of at least 0.3.

Examples:
    python projects/studies/tools/study_speed.py bmp_compact --data annotations.json --images photos
    python projects/studies/tools/study_speed.py bmp_v2 --data coco_val2017 --limit 50

Writes OUT/speed.md; the results of each setting are in OUT/<setting>, and the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.benchmark import markdown_table
from pipeline.boxes import box_iou, xywh_to_xyxy
from pipeline.cli.options import get_overrides, handle_errors, make_parser
from projects.studies import common

SETTINGS: dict[str, dict[str, Any]] = {
    'fp32': {'runtime.precision': 'fp32'},
    'fp32, no flip test': {'runtime.precision': 'fp32', 'pose.flip_test': False},
    'bf16': {'runtime.precision': 'bf16'},
    'bf16, no flip test (--fast)': {'runtime.precision': 'bf16', 'pose.flip_test': False},
}
HEADER = (
    'setting', 'box AP', 'mask AP', 'keypoint AP', 'people', 'paired', 'box IoU', 'mask IoU',
    'keypoints, px: median', '95 %',
)  # fmt: skip
MIN_IOU, MIN_SCORE = 0.5, 0.3


@dataclass(frozen=True)
class Differences:
    """People of a setting against those of float32."""

    people: int
    paired: int
    box_iou: float  # mean
    mask_iou: float  # mean
    keypoints: tuple[float, float]  # px, median and 95th percentile


def compare(baseline: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> Differences:
    """Pair the people of two COCO results and compare them."""
    from pycocotools import mask as rle

    boxes, masks, distances = [], [], []
    for image in sorted({row['image_id'] for row in baseline}):
        old = [row for row in baseline if row['image_id'] == image]
        new = [row for row in rows if row['image_id'] == image]
        if not new:
            continue
        sides = (np.array([row['bbox'] for row in side], np.float32) for side in (old, new))
        ious = box_iou(*map(xywh_to_xyxy, sides))
        for i, row in enumerate(old):
            j = int(ious[i].argmax())
            if ious[i, j] < MIN_IOU:
                continue
            boxes.append(ious[i, j])
            pair = [side['segmentation'] for side in (row, new[j])]
            masks.append(float(rle.iou(pair[:1], pair[1:], [0])[0, 0]))
            points = [np.reshape(side['keypoints'], (-1, 3)) for side in (row, new[j])]
            sure = points[0][:, 2] >= MIN_SCORE
            distances += np.linalg.norm(points[0] - points[1], axis=1)[sure].tolist()
    return Differences(
        len(rows), len(boxes), float(np.mean(boxes)), float(np.mean(masks)),
        (float(np.median(distances)), float(np.percentile(distances, 95))),
    )  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = make_parser('study_speed.py', __doc__)
    common.add_arguments(parser, 'outputs/study_speed')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    args = build_parser().parse_args(argv)
    with handle_errors('study_speed.py'):
        print(run(args))
    return 0


def run(args: argparse.Namespace) -> str:
    """Run every setting; returns the table."""
    from pipeline.cli.dataset_run import DatasetRequest, run_dataset
    from pipeline.cli.options import make_reporter
    from pipeline.cli.protocols import load_protocol
    from pipeline.cli.score import find_ground_truth
    from pipeline.config import load_config
    from pipeline.evaluation.coco import score_files

    table, baseline = [], []
    for number, (name, options) in enumerate(SETTINGS.items()):
        request = DatasetRequest(
            args.config, str(args.data), args.out / str(number), images=args.images,
            cfg_options=get_overrides(args) | options, data_root=args.data_root, limit=args.limit,
        )  # fmt: skip
        done = run_dataset(request, load=load_protocol, reporter=make_reporter())
        if done.results is None:
            raise ValueError(f'{name}: no results; see {request.folder}')
        rows = json.loads(done.results.read_text())
        least = load_config(args.config, request.cfg_options).settings.loop.min_score or 0.0
        rows = [row for row in rows if row['score'] >= least]
        baseline = baseline or rows
        tasks = score_files(done.results, find_ground_truth(done.results)).tasks
        found = compare(baseline, rows)
        table.append([
            name, *(_percent(tasks.get(task)) for task in ('bbox', 'segm', 'keypoints')),
            str(found.people), str(found.paired), f'{found.box_iou:.4f}', f'{found.mask_iou:.4f}',
            *(f'{value:.2f}' for value in found.keypoints),
        ])  # fmt: skip
    text = markdown_table(HEADER, table)
    (args.out / 'speed.md').write_text(text + '\n')
    return text


def _percent(metrics: Any) -> str:
    return '-' if metrics is None or metrics.ap is None else f'{100 * metrics.ap:.2f}'


if __name__ == '__main__':
    sys.exit(main())

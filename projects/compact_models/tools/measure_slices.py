"""Print what detection in slices costs and brings: average precision and CPU seconds an image.

Runs the loop in three ways over a COCO file: on whole images, with slices from round two on, and
with slices in both rounds. One thread, so that CPU seconds do not depend on other programs.

Examples:
    python projects/compact_models/tools/measure_slices.py person_keypoints.json --images photos/
    python projects/compact_models/tools/measure_slices.py data/people/annotations.json --subset val
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # this checkout, installed or not

TASKS = ('bbox', 'segm', 'keypoints')


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('annotations', type=Path, help='COCO file of everybody in the photos')
    add('--images', type=Path, help='folder of the photos (default: that of the file)')
    add('--subset', help="only photos with this `subset` and complete boxes, such as 'val'")
    add('--config', default='bmp_compact', help='pipeline (default: %(default)s)')
    add('--grids', nargs='+', default=['2x2'], metavar='CxR', help='default: 2x2')
    add('--tasks', nargs='+', choices=TASKS, default=TASKS, help='default: all')
    add('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='for all ways')
    return parser


def read_people(path: Path, subset: str | None) -> dict[str, Any]:
    """Content of a COCO file; people without mask or keypoints lose these keys' values.

    Args:
        path: of the file.
        subset: keep photos with this value of `subset` in which everybody has a box; None: all.
    """
    content: dict[str, Any] = json.loads(path.read_text())
    if subset is None:
        return content
    photos = [p for p in content['images'] if p['subset'] == subset and p['fully_annotated']]
    ids = {photo['id'] for photo in photos}
    people = [person for person in content['annotations'] if person['image_id'] in ids]
    for person in people:
        if not person['has_keypoints']:
            person |= {'keypoints': [0] * 51, 'num_keypoints': 0}
    return {**content, 'images': photos, 'annotations': people}


def measure(
    content: Mapping[str, Any],
    images: Path,
    config: str,
    options: Mapping[str, Any],
    tasks: Sequence[Any],
) -> tuple[dict[str, Any], float]:
    """Metrics by task, and CPU seconds an image."""  # fmt: skip
    from pipeline.cli.protocols import load_protocol
    from pipeline.evaluation.scored import score_results
    from pipeline.io.images import read_image
    from pipeline.structures import People

    pipeline = load_protocol(config, options)
    photos = [read_image(images / photo['file_name']) for photo in content['images']]
    pipeline(photos[0], People.empty(*photos[0].shape[:2]))  # the first call builds caches
    start, rows = time.process_time(), []
    for photo, pixels in zip(content['images'], photos, strict=True):
        rows += pipeline(pixels, People.empty(*pixels.shape[:2])).to_coco(photo['id'])
    seconds = (time.process_time() - start) / len(photos)
    return score_results(rows, dict(content), tasks).metrics.tasks, seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table: AP and AP of small people in percent, CPU seconds."""
    args = build_parser().parse_args(argv)
    import cv2
    import torch

    from pipeline.cli.options import parse_cfg_options
    from pipeline.evaluation.metrics import format_percent

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    content = read_people(args.annotations, args.subset)
    images = args.images or args.annotations.parent
    print(f'{args.config}, {len(content["images"])} photos; AP in percent')
    print(f'| slices | {" | ".join(args.tasks)} | small {args.tasks[0]} | CPU s an image |')
    print('|---' * (len(args.tasks) + 3) + '|')
    ways: list[tuple[str | None, int]] = [(None, 1)]
    ways += [(grid, number) for grid in args.grids for number in (2, 1)]
    common = parse_cfg_options(args.cfg_options)
    for grid, number in ways:
        slices = {'detector.slices.grid': grid, 'detector.slices.from_round': number}
        metrics, seconds = measure(content, images, args.config, {**common, **slices}, args.tasks)
        aps = [metrics[task].ap for task in args.tasks]
        cells = [format_percent(ap) for ap in (*aps, metrics[args.tasks[0]].ap_small)]
        name = 'off' if grid is None else f'{grid}, from round {number}'
        print(f'| {name} | {" | ".join(cells)} | {seconds:.2f} |', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())

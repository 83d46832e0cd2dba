r"""Run a teacher detector over an image set and keep what it finds, as a COCO results file.

The result completes partly annotated images: see `--pseudo-boxes` of prepare_compact_data.py.

Example:
    python projects/compact_models/tools/find_pseudo_boxes.py data/people found.json \
        --config rtmdet_person.py --checkpoint rtmdet_person.pth --size 640 --partial-only
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.io.coco_checks import read_coco
from pipeline.io.images import ImageReadError, read_image
from pipeline.io.inputs import InputError


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='folder with the images and their COCO file')
    parser.add_argument(
        '--file', default='annotations.json', help='name of that file (default: %(default)s)'
    )
    parser.add_argument('out', type=Path, help='COCO results file to write')
    parser.add_argument('--config', type=Path, required=True, help='MMDetection config')
    parser.add_argument('--checkpoint', type=Path, required=True, help='weights of the teacher')
    parser.add_argument('--size', type=int, default=640, help='input side, px (default: 640)')
    parser.add_argument('--label', type=int, default=0, help="the teacher's index of person")
    parser.add_argument('--min-score', type=float, default=0.1, help='lower ones are left out')
    parser.add_argument(
        '--partial-only', action='store_true', help='only images that are not fully annotated'
    )
    return parser


def as_results(image_id: int, found: Any, label: int, min_score: float) -> list[dict[str, Any]]:
    """Returns one image's detections as COCO results.

    Args:
        image_id: id of the image.
        found: `pred_instances` of MMDetection: `bboxes` (N, 4) xyxy px, `scores`, `labels` (N,).
        label: index of the class person.
        min_score: detections below it are left out.
    """
    keep = (found.labels == label) & (found.scores >= min_score)
    results = []
    for box, score in zip(found.bboxes[keep].tolist(), found.scores[keep].tolist(), strict=True):
        x1, y1, x2, y2 = box
        box_xywh = [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)]
        results.append(
            {
                'image_id': image_id,
                'category_id': 1,
                'bbox': box_xywh,
                'score': round(score, 4),
            }
        )
    return results


def set_input_size(config: Any, size: int) -> None:
    """Sets the side of the square input in the test pipeline of an MMDetection config, in place."""
    for step in config.test_pipeline:
        if step['type'] == 'Resize':
            step['scale'] = (size, size)
        if step['type'] == 'Pad':
            step['size'] = (size, size)
    config.test_dataloader.dataset.pipeline = config.test_pipeline


def find_people(args: argparse.Namespace) -> None:
    """Runs the teacher and writes the file.

    Raises:
        InputError: the COCO file cannot be used.
        ImageReadError: an image cannot be read.
    """
    images = read_coco(args.source / args.file)['images']

    import numpy as np
    from mmdet.apis import inference_detector, init_detector
    from mmengine.config import Config
    from rich.progress import track

    if args.partial_only:
        images = [image for image in images if not image['fully_annotated']]
    config = Config.fromfile(args.config)
    set_input_size(config, args.size)
    teacher = init_detector(config, str(args.checkpoint), device='cpu')
    results: list[dict[str, Any]] = []
    for image in track(images, description='images', update_period=5):
        image_bgr = np.ascontiguousarray(read_image(args.source / image['file_name'])[..., ::-1])
        found = inference_detector(teacher, image_bgr).pred_instances
        results += as_results(image['id'], found, args.label, args.min_score)
    partial = args.out.with_suffix('.partial')
    partial.write_text(json.dumps(results))
    os.replace(partial, args.out)
    print(f'{args.out}: {len(results)} people in {len(images)} images')


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and runs the teacher."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not (args.source / args.file).is_file():
        parser.error(f'no {args.file} in {args.source}; give the folder of the image set')
    try:
        find_people(args)
    except (InputError, ImageReadError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()

"""Draw synthetic crowds with exact boxes, masks and keypoints as a COCO data set.

Writes JPEG images and `annotations.json` (RLE masks, 17 keypoints). Equal arguments give equal
annotations.

Example:
    python tools/make_synthetic_crowd.py out/crowd --num-images 8 --people 3 12 --size 640 480
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import handle_errors, make_parser

if TYPE_CHECKING:
    from ..synthetic.scene import SceneConfig

PROG = 'make_synthetic_crowd.py'
# Data sets of different --seed values have no image in common.
SEEDS_PER_SET = 1_000_000


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    parser.add_argument('out_dir', type=Path, help='folder to write; created if needed')
    parser.add_argument('--num-images', type=int, default=8)
    parser.add_argument('--people', type=int, nargs=2, default=(3, 12), metavar=('MIN', 'MAX'))
    parser.add_argument('--size', type=int, nargs=2, default=(640, 480), metavar=('W', 'H'))
    parser.add_argument(
        '--person-height', type=float, nargs=2, default=(0.3, 0.8), metavar=('FAR', 'NEAR'),
        help='standing height as a fraction of the image height',
    )  # fmt: skip
    parser.add_argument('--overlap', type=float, default=0.5, help='0 spread out, 1 dense crowd')
    parser.add_argument('--truncation', type=float, default=0.15,
                        help='fraction of people truncated by the image border')  # fmt: skip
    parser.add_argument('--noise', type=float, default=1.0, help='blur and grain, 0 to 3')
    parser.add_argument('--jpeg-quality', type=int, default=95)
    parser.add_argument('--seed', type=int, default=0)
    return parser


def scene_configs(args: argparse.Namespace) -> Iterator[SceneConfig]:
    """Yield one checked configuration per image.

    Raises:
        ValueError: An argument is out of range.
    """
    from ..synthetic.scene import SceneConfig

    for name, value, high in (
        ('--num-images', args.num_images, SEEDS_PER_SET),
        ('--jpeg-quality', args.jpeg_quality, 100),
    ):
        if not 1 <= value <= high:
            raise ValueError(f'{name} {value} is out of range; choose 1 to {high}')
    for i in range(args.num_images):
        yield SceneConfig(
            width=args.size[0], height=args.size[1],
            min_people=args.people[0], max_people=args.people[1],
            min_person_height=args.person_height[0], max_person_height=args.person_height[1],
            overlap=args.overlap, truncation=args.truncation, noise=args.noise,
            seed=args.seed * SEEDS_PER_SET + i,
        )  # fmt: skip


def write_dataset(configs: Sequence[SceneConfig], out_dir: Path, jpeg_quality: int) -> int:
    """Draw the scenes into ``out_dir``; returns the number of people."""
    from PIL import Image

    from ..io.dataset_writers import CATEGORY
    from ..synthetic.scene import make_scene

    out_dir.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, config in enumerate(configs, start=1):
        scene = make_scene(config)
        name = f'{image_id:06d}.jpg'
        # Colour subsampling would change the colour of small faces and hands.
        Image.fromarray(scene.image).save(out_dir / name, quality=jpeg_quality, subsampling=0)
        image, rows = scene.to_coco(image_id, name)
        images.append(image)
        annotations += rows
    record = {
        'info': {'description': 'synthetic crowd', 'version': '1'},
        'images': images,
        'annotations': annotations,
        'categories': [CATEGORY],
    }
    (out_dir / 'annotations.json').write_text(json.dumps(record), encoding='utf-8')
    return len(annotations)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the images and write the annotations."""
    args = build_parser().parse_args(argv)
    with handle_errors(PROG):
        configs = list(scene_configs(args))
        people = write_dataset(configs, args.out_dir, args.jpeg_quality)
        print(f'{len(configs)} images with {people} people in {args.out_dir}')
    return 0

"""Draw what detection in slices changes: three drawn crowds, without slices (left) and with them.

A stadium (many small people), a street (near and far people) and a class (rows of people). Prints
how many of the drawn people are found, at a box IoU of 0.5.

Example:
    python projects/compact_models/tools/draw_slices.py docs/img/slices.jpg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # this checkout, installed or not

from pipeline.api import LoadedPipeline, load_pipeline  # noqa: E402
from pipeline.boxes import box_iou  # noqa: E402
from pipeline.structures import Image  # noqa: E402
from pipeline.synthetic.scene import Scene, SceneConfig, make_scene  # noqa: E402

# Number of people, height of the far and the near ones, overlap.
CROWDS = {
    'stadium': (80, 0.06, 0.09, 0.2),
    'street': (20, 0.07, 0.5, 0.2),
    'class': (24, 0.12, 0.2, 0.2),
}
SHAPE = (960, 1280)  # H, W px
SEED = 3


def draw_crowd(name: str) -> Scene:
    """One of `CROWDS`."""
    count, far, near, overlap = CROWDS[name]
    return make_scene(
        SceneConfig(
            width=SHAPE[1], height=SHAPE[0], min_people=count, max_people=count,
            min_person_height=far, max_person_height=near, overlap=overlap, truncation=0.05,
            seed=SEED,
        )
    )  # fmt: skip


def show(pipeline: LoadedPipeline, scene: Scene) -> tuple[Image, int]:
    """The scene with its result, and how many people are found."""
    people = pipeline(scene.image)
    overlaps = box_iou(scene.boxes, people.boxes)
    return people.draw(scene.image), int((overlaps.max(axis=1, initial=0) >= 0.5).sum())


def main(argv: Sequence[str] | None = None) -> int:
    """Write the picture and print the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('picture', type=Path, help='JPEG file to write')
    parser.add_argument('--config', default='bmp_compact', help='pipeline (default: %(default)s)')
    parser.add_argument('--grid', default='2x2', help='default: %(default)s')
    args = parser.parse_args(argv)
    from PIL import Image as PILImage

    scenes = {name: draw_crowd(name) for name in CROWDS}
    columns = []
    for grid in (None, args.grid):
        pipeline = load_pipeline(args.config, {'detector.slices.grid': grid})
        shown = {name: show(pipeline, scene) for name, scene in scenes.items()}
        found = ', '.join(f'{n} {shown[n][1]} of {len(scenes[n])}' for n in scenes)
        print(f'slices {grid or "off"}: {found}')
        # Nobody stands in the sky.
        columns.append(np.concatenate([image[3 * SHAPE[0] // 8 :] for image, _ in shown.values()]))
    picture = PILImage.fromarray(np.concatenate(columns, axis=1)).resize((1280, len(scenes) * 300))
    picture.save(args.picture, quality=60)
    return 0


if __name__ == '__main__':
    sys.exit(main())

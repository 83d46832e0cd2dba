"""Draw a video of a crowd in motion with exact ground truth.

People walk, cross, hide each other, leave and come back. OUT gets the video and, in the layout of
MOTChallenge, `seqinfo.ini` and `gt/gt.txt` (boxes, identities, visibility), also `gt/mots.txt`
(masks) and `annotations.json` (COCO with `track_id`: boxes, masks, 17 keypoints). Equal arguments
give equal ground truth.

Example:
    bmp draw-video out/crowd --frames 100 --people 10 --size 640 480
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import handle_errors, make_parser

if TYPE_CHECKING:
    from ..arrays import Image
    from ..synthetic.video import VideoConfig

PROG = 'bmp draw-video'


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('out_dir', type=Path, help='folder to write; created if needed')
    add('--frames', type=int, default=100)
    add('--people', type=int, default=10, help='identities')
    add('--size', type=int, nargs=2, default=(640, 480), metavar=('W', 'H'))
    add('--fps', type=float, default=25.0)
    add('--person-height', type=float, nargs=2, default=(0.25, 0.6), metavar=('FAR', 'NEAR'),
        help='standing height as a fraction of the image height')  # fmt: skip
    add('--camera-pan', type=float, default=0.0,
        help='sideways motion of the camera, as a fraction of the image width')  # fmt: skip
    add('--noise', type=float, default=1.0, help='blur and grain, 0 to 3')
    add('--seed', type=int, default=0)
    return parser


def write_video(config: VideoConfig, out_dir: Path) -> Path:
    """Draw the frames, write the video and its ground truth; returns the path of the video."""
    from ..io.atomic import write_json, write_text
    from ..io.dataset_writers import CATEGORY
    from ..synthetic.video import make_camera, make_frames
    from ..tracking.formats import mots_line
    from ..video.writer import choose_codec, write_segment

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    boxes: list[str] = []
    masks: list[str] = []

    def draw() -> Iterator[tuple[float, Image]]:
        for frame in make_frames(config):
            number, ids = frame.index + 1, frame.track_ids.tolist()
            image, rows = frame.scene.to_coco(number, f'{number:06d}.jpg')
            images.append({**image, 'video_id': 1, 'frame_id': frame.index})
            visible = frame.visible_fractions.tolist()
            for row, track, fraction in zip(rows, ids, visible, strict=True):
                annotations.append({**row, 'track_id': track})
                x, y, w, h = row['bbox']
                boxes.append(f'{number},{track},{x:g},{y:g},{w:g},{h:g},1,1,{fraction:.3f}\n')
                masks.append(mots_line(frame.index, track, row['segmentation']))
            yield frame.seconds, frame.scene.image

    (out_dir / 'gt').mkdir(parents=True, exist_ok=True)
    video = out_dir / f'video{choose_codec()[1]}'
    write_segment(video, draw(), config.fps)
    write_text(out_dir / 'gt' / 'gt.txt', ''.join(boxes))
    write_text(out_dir / 'gt' / 'mots.txt', ''.join(masks))
    videos = [{'id': 1, 'name': video.name, 'width': config.width, 'height': config.height}]
    write_json(out_dir / 'camera.json', make_camera(config), indent=1)
    write_json(out_dir / 'annotations.json', {
        'info': {'description': 'synthetic crowd in motion', 'version': '1'},
        'videos': videos, 'images': images, 'annotations': annotations, 'categories': [CATEGORY],
    })  # fmt: skip
    write_text(
        out_dir / 'seqinfo.ini',
        f'[Sequence]\nname={out_dir.resolve().name}\nframeRate={config.fps:g}\n'
        f'seqLength={config.num_frames}\nimWidth={config.width}\nimHeight={config.height}\n',
    )
    return video


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the video and write the ground truth."""
    args = build_parser().parse_args(argv)
    with handle_errors(PROG):
        from ..synthetic.video import VideoConfig

        config = VideoConfig(
            num_frames=args.frames, fps=args.fps, width=args.size[0], height=args.size[1],
            num_people=args.people, min_person_height=args.person_height[0],
            max_person_height=args.person_height[1], camera_pan=args.camera_pan,
            noise=args.noise, seed=args.seed,
        )  # fmt: skip
        video = write_video(config, args.out_dir)
        print(f'{config.num_frames} frames in {video}, and their ground truth beside it')
    return 0
